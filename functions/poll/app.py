"""Poll: send one status request, then decide what to do next."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.client import WaterflaiClient
from waterhook.errors import RecordConflict, RecordUnavailable
from waterhook.figures import Figure
from waterhook.models import Job
from waterhook.polling import Poller
from waterhook.progress import Relay, has_moved, has_restarted
from waterhook.record import Record
from waterhook.record_check import CHECK_UNTIL_S, RecordCheck
from waterhook.records import Records
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.telemetry import Telemetry

telemetry = Telemetry("poll", correlation_id_path="execution.arn")

# For one status document. The rest of the function's 120 s is for checking and storing an output of 50 MiB.
STATUS_BUDGET_S = 60.0


class LateSaver:
    """Saves the upstream id that start could not save; polling itself writes no record."""

    def __init__(self, records: Callable[[], Records], clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock

    def save(self, job: Job, owner: str) -> Job:
        """Return the job with its upstream id saved, or as it was for another attempt at the next poll.

        A record that is final ends the job.
        """
        now = self._clock()
        records = self._records()
        try:
            record = records.get(job.execution_id, now)
            if record is None or record.owner_execution_arn != owner:
                return job
            record = self._saved(records, record, job.waterflai_execution_id or "", now)
        except (RecordConflict, RecordUnavailable):
            return job
        if record.status.is_final:
            return job.ended(record.status)
        # A caller who cancelled meanwhile got the answer that it happens as soon as there is an id.
        return replace(job, unsaved=False, cancel_requested=record.cancel_requested is not None)

    @staticmethod
    def _saved(records: Records, record: Record, upstream_id: str, now: float) -> Record:
        """Return the record with the id, or final. Raises RecordConflict where it is neither."""
        try:
            return records.save_start(record, upstream_id, now)
        except RecordConflict:
            # It may be our own write, whose answer was lost and which boto3 repeated.
            current = records.get(record.execution_id, now)
            if current is None or (current.waterflai_execution_id is None and not current.status.is_final):
                raise
            return current


@dataclass(frozen=True, slots=True)
class Wiring:
    """The parts of a poll; the topic is used only by those that need it."""

    poller: Poller
    saver: LateSaver
    check: RecordCheck
    relay: Callable[[], Relay]
    clock: Callable[[], float]

    def poll(self, job: Job, owner: str) -> Job:
        """Return the job after one status request, its upstream id saved and its progress published where due.

        The table comes last: a table that does not answer must not take the time of the status request.
        """
        began_at = self.clock()
        polled = self.poller.poll(replace(job, history=replace(job.history, polls=job.history.polls + 1)))
        if polled.unsaved and not polled.outcome.is_final and self.clock() - began_at <= CHECK_UNTIL_S:
            saved = self.saver.save(polled, owner)
            polled = saved if saved.outcome.is_final else self.poller.decide(saved)
        else:
            polled = self.check.ended(polled, began_at)
        if has_moved(job, polled):
            restarted = has_restarted(job, polled)
            self.relay().tell(polled, {"progress": polled.history.progress}, restarted=restarted)
        return polled


@cache
def _wiring() -> Wiring:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, budget_s=STATUS_BUDGET_S, watch=telemetry.called)
    poller = Poller(client, Results(settings.bucket), settings, time.time)
    # One client for the life of the container, made by the first poll.
    records = cache(lambda: Records(settings.table))
    saver, check = LateSaver(records, time.time), RecordCheck(records, time.time)
    return Wiring(poller, saver, check, lambda: Relay.of(settings, time.time), time.time)


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Poll the status of an execution; return the state of the loop."""
    telemetry.tell(event["state"])
    given = Job.from_dict(event["state"])
    if given.follow_refused:
        telemetry.measure(Figure.FOLLOW_REFUSED)
    job = _wiring().poll(given, event["execution"]["arn"])
    telemetry.asked(job)
    state = job.to_dict()
    telemetry.tell(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
