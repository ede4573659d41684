"""Cancel: end a remote job that is overdue; where it is too late for that, return its real outcome."""

import math
import os
import time
from dataclasses import replace
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.client import WaterflaiClient
from waterhook.errors import UpstreamError
from waterhook.models import Job, Next, Status
from waterhook.polling import Poller
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.stopping import CALL_BUDGET_S, Stopper
from waterhook.telemetry import Telemetry

telemetry = Telemetry("cancel", correlation_id_path="execution.arn")

# An upstream that can't cancel for this many attempts won't; the caller has waited long enough.
MAX_CANCELS = 3
RETRY_WAIT_S = 5
MAX_RETRY_WAIT_S = 60

_WHY = {
    False: (Status.TIMED_OUT, "deadline", "cancelled at its deadline"),
    True: (Status.CANCELLED, "cancelled", "cancelled by its caller"),
}


class Canceller:
    """Ends what is overdue as TIMED_OUT, or as CANCELLED what was cancelled before it could be stopped."""

    def __init__(self, stopper: Stopper) -> None:
        """Keep what it works with."""
        self._stopper = stopper

    def cancel(self, job: Job) -> Job:
        """Return the job with its outcome, or on its way to another attempt through poll."""
        outcome, code, message = _WHY[job.cancel_requested]
        try:
            stopped = self._stopper.stop(job, outcome, code=code, message=message)
        except UpstreamError as error:
            return self._failed(job, error.message, error.retry_after_s)
        return stopped if stopped.outcome.is_final else self._failed(stopped, "it could not be cancelled")

    def _failed(self, job: Job, why: str, retry_after_s: float | None = None) -> Job:
        cancels = job.history.cancels + 1
        if cancels >= MAX_CANCELS:
            outcome, code, message = _WHY[job.cancel_requested]
            message = f"{message}, but the job at Waterflai may go on: {why}"
            return job.ended(outcome, code=code, message=message)
        history = replace(job.history, cancels=cancels)
        # The caller waits for the outcome: a longer Retry-After is shortened.
        wait_s = min(max(RETRY_WAIT_S, math.ceil(retry_after_s or 0.0)), MAX_RETRY_WAIT_S)
        return replace(job, history=history, next=Next.WAIT, wait_seconds=wait_s)


@cache
def _wiring() -> Canceller:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.get()
    client = WaterflaiClient(settings.base_url, key, budget_s=CALL_BUDGET_S, watch=telemetry.called)
    return Canceller(Stopper(client, Poller(client, Results(settings.bucket), settings, time.time)))


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Cancel the overdue execution; return the state of the loop."""
    telemetry.tell(event["state"])
    state = _wiring().cancel(Job.from_dict(event["state"])).to_dict()
    telemetry.tell(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
