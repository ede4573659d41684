"""Poll: one question to the upstream, then say what to do next."""

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
from waterhook.records import Records
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.telemetry import Telemetry

telemetry = Telemetry("poll", correlation_id_path="execution.arn")


class LateSaver:
    """Saves the upstream id that start could not save; polling itself writes no record."""

    def __init__(self, records: Callable[[], Records], clock: Callable[[], float]) -> None:
        """Take a way to the table rather than the table: hardly any poll opens it."""
        self._records = records
        self._clock = clock

    def save(self, job: Job, owner: str) -> Job:
        """Return the job with its upstream id saved, or as it was for another try at the next poll."""
        now = self._clock()
        records = self._records()
        try:
            record = records.get(job.execution_id, now)
            if record is None or record.owner_execution_arn != owner:
                return job
            saved = records.save_start(record, job.waterflai_execution_id or "", now)
        except RecordConflict:
            # Saved or concluded meanwhile: notify finds out.
            return replace(job, unsaved=False)
        except RecordUnavailable:
            return job
        # A caller who cancelled meanwhile was told that it happens as soon as there is an id.
        return replace(job, unsaved=False, cancel_requested=saved.cancel_requested is not None)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a poll is made of; the record and the topic are opened by the few that need them."""

    poller: Poller
    saver: LateSaver
    relay: Callable[[], Relay]

    def poll(self, job: Job, owner: str) -> Job:
        """Return the job after one question, its upstream id saved and its progress relayed where that is due."""
        if job.unsaved:
            job = self.saver.save(job, owner)
        polled = self.poller.poll(replace(job, history=replace(job.history, polls=job.history.polls + 1)))
        if has_moved(job, polled):
            restarted = has_restarted(job, polled)
            self.relay().tell(polled, {"progress": polled.history.progress}, restarted=restarted)
        return polled


@cache
def _wiring() -> Wiring:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, watch=telemetry.called)
    poller = Poller(client, Results(settings.bucket), settings, time.time)
    saver = LateSaver(lambda: Records(settings.table), time.time)
    return Wiring(poller, saver, lambda: Relay.of(settings, time.time))


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Ask for the execution's status; return the state of the loop."""
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
