"""Cancel: end a remote job that is overdue; where it is too late for that, return its real outcome."""

import os
import time
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.client import CancelAnswer, WaterflaiClient
from waterhook.errors import Refused, UpstreamError
from waterhook.models import Job, Next, Status
from waterhook.polling import Poller
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings

logger = Logger()

# An upstream that can't cancel for this many attempts won't; the caller has waited long enough.
MAX_CANCELS = 3
RETRY_WAIT_S = 5


class Upstream(Protocol):
    """What a cancel needs of the client."""

    def cancel(self, execution_id: str) -> CancelAnswer:
        """Ask for the execution's end."""


class Canceller:
    """Ends what is overdue as TIMED_OUT, and never calls a finished job cancelled."""

    def __init__(self, upstream: Upstream, poller: Poller) -> None:
        """Keep what it works with."""
        self._upstream = upstream
        self._poller = poller

    def cancel(self, job: Job) -> Job:
        """Return the job with its outcome, or on its way to another attempt through poll."""
        try:
            answer = self._upstream.cancel(job.waterflai_execution_id or "")
        except Refused:
            # Known in the field as the answer to "too late", though the vendor's page names none.
            return self._too_late(job)
        except UpstreamError as error:
            return self._failed(job, error.message)
        if answer.cancelled:
            return job.ended(Status.TIMED_OUT, code="deadline", message="cancelled at its deadline")
        return self._too_late(job)

    def _too_late(self, job: Job) -> Job:
        polled = self._poller.poll(job)
        return polled if polled.outcome.is_final else self._failed(polled, "it could not be cancelled")

    def _failed(self, job: Job, why: str) -> Job:
        cancels = job.history.cancels + 1
        if cancels >= MAX_CANCELS:
            message = f"the deadline has passed, and the job at Waterflai may go on: {why}"
            return job.ended(Status.TIMED_OUT, code="deadline", message=message)
        history = replace(job.history, cancels=cancels)
        return replace(job, history=history, next=Next.WAIT, wait_seconds=RETRY_WAIT_S)


@cache
def _wiring() -> Canceller:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.get()
    client = WaterflaiClient(settings.base_url, key)
    return Canceller(client, Poller(client, Results(settings.bucket), settings, time.time))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Cancel the overdue execution; return the state of the loop."""
    state = _wiring().cancel(Job.from_dict(event["state"])).to_dict()
    logger.info("cancel", execution_id=state["execution_id"], outcome=state["outcome"], next=state["next"])
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
