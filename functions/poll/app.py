"""Poll: send one status request, then decide what to do next."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.domain.loop_state import LoopState
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications.progress_publisher import ProgressPublisher, has_progressed, was_retried
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.record_check import CHECK_UNTIL_S, RecordCheck
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.client import WaterflaiClient

telemetry = Telemetry("poll", correlation_id_path="execution.arn")

# For one status document. The rest of the function's 120 s is for checking and storing an output of 50 MiB.
STATUS_BUDGET_S = 60.0


class LateSaver:
    """Saves the upstream id that start could not save; polling itself writes no record."""

    def __init__(self, records: Callable[[], ExecutionsTable], clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock

    def save(self, job: LoopState, owner: str) -> LoopState:
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
        except (RecordConflictError, RecordUnavailableError):
            return job
        if record.status.is_final:
            return job.ended(record.status)
        # A caller who cancelled meanwhile got the answer that it happens as soon as there is an id.
        return replace(job, unsaved=False, cancel_requested=record.cancel_requested is not None)

    @staticmethod
    def _saved(
        records: ExecutionsTable, record: ExecutionRecord, upstream_id: str, now: float
    ) -> ExecutionRecord:
        """Return the record with the id, or final. Raises RecordConflictError where it is neither."""
        try:
            return records.save_start(record, upstream_id, now)
        except RecordConflictError:
            # It may be our own write, whose answer was lost and which boto3 repeated.
            current = records.get(record.execution_id, now)
            if current is None or (current.waterflai_execution_id is None and not current.status.is_final):
                raise
            return current


@dataclass(frozen=True, slots=True)
class Wiring:
    """The parts of a poll; the topic is used only by those that need it."""

    poller: StatusPoller
    saver: LateSaver
    check: RecordCheck
    relay: Callable[[], ProgressPublisher]
    clock: Callable[[], float]

    def poll(self, job: LoopState, owner: str) -> LoopState:
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
        if has_progressed(job, polled):
            restarted = was_retried(job, polled)
            self.relay().publish(polled, {"progress": polled.history.progress}, restarted=restarted)
        return polled


@cache
def _wiring() -> Wiring:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, budget_s=STATUS_BUDGET_S, watch=telemetry.record_call)
    poller = StatusPoller(client, ResultsBucket(settings.bucket), settings, time.time)
    # One client for the life of the container, made by the first poll.
    records = cache(lambda: ExecutionsTable(settings.table))
    saver, check = LateSaver(records, time.time), RecordCheck(records, time.time)
    return Wiring(poller, saver, check, lambda: ProgressPublisher.of(settings, time.time), time.time)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Poll the status of an execution; return the state of the loop."""
    telemetry.add_fields(event["state"])
    given = LoopState.from_dict(event["state"])
    if given.follow_refused:
        telemetry.add_metric(Metric.FOLLOW_REFUSED)
    job = _wiring().poll(given, event["execution"]["arn"])
    telemetry.record_staleness(job)
    state = job.to_dict()
    telemetry.add_fields(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
