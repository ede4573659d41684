"""Cancel: end a remote job that is overdue or given up; where it is too late for that, return its real outcome."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.domain import retry_policy
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.outcome_reasons import (
    CancelReason,
    cancel_reason,
    dependency_fault_message,
    step_failed_message,
)
from waterhook.domain.status_document import MAX_SHORT_STATUS_BYTES
from waterhook.errors import DependencyUnavailableError, UpstreamError
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.job_canceller import CALL_BUDGET_S, JobCanceller
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.client import WaterflaiClient

telemetry = Telemetry("cancel", correlation_id_path="execution.arn")


class Canceller:
    """Cancels a job that is overdue, that its caller cancelled, or that was given up because of a fault."""

    def __init__(self, stopper: JobCanceller, clock: Callable[[], float]) -> None:
        self._stopper = stopper
        self._clock = clock

    def cancel(self, job: LoopState, owner: str) -> LoopState:
        """Return the job with its outcome, or on its way to another attempt through Wait and Poll.

        Attempts that fail are repeated for CANCEL_LIMIT_S, those that are refused MAX_CANCEL_REFUSALS times. A job that
        has ended otherwise keeps its real outcome.
        """
        if job.fault is not None:
            # A step after the one that failed first may fail too: the first reason counts.
            error = job.error or {"code": "fault", "message": step_failed_message(job.fault, owner)}
            job = replace(job, fault=None, error=error)
        reason = cancel_reason(job, self._clock())
        if job.waterflai_execution_id is None:
            return job.ended(reason.outcome, code=reason.code, message=reason.message)
        try:
            stopped = self._stopper.stop(job, reason.outcome, code=reason.code, message=reason.cancelled)
        except UpstreamError as error:
            return self._again(job, reason, error.message, error.retry_after_s)
        except DependencyUnavailableError as error:
            return self._again(job, reason, dependency_fault_message(error))
        if stopped.outcome.is_final:
            return stopped
        past = stopped.history
        refused = replace(stopped, history=replace(past, cancel_refusals=past.cancel_refusals + 1))
        return self._again(refused, reason, "it could not be cancelled")

    def _again(
        self, job: LoopState, reason: CancelReason, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        """Return the job on its way to another attempt, or ended where that is not worthwhile."""
        now, past = self._clock(), job.history
        since = now if past.cancel_since is None else past.cancel_since
        wait_s = retry_policy.cancel_retry_wait_s(now - since, past.cancel_refusals, retry_after_s)
        if wait_s is None:
            return job.ended(reason.outcome, code=reason.code, message=reason.not_cancelled(why))
        history = replace(past, cancels=past.cancels + 1, cancel_since=since)
        return replace(job, history=history, next=NextStep.WAIT, wait_seconds=wait_s)


@cache
def _wiring() -> Canceller:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, budget_s=CALL_BUDGET_S, watch=telemetry.record_call)
    poller = StatusPoller(
        client, ResultsBucket(settings.bucket), settings, time.time, limit_bytes=MAX_SHORT_STATUS_BYTES
    )
    return Canceller(JobCanceller(client, poller), time.time)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Cancel the job of an execution; return the state of the loop."""
    telemetry.add_fields(event["state"])
    state = _wiring().cancel(LoopState.from_dict(event["state"]), event["execution"]["arn"]).to_dict()
    telemetry.add_fields(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
