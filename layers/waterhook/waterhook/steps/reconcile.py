"""The reconcile step: closes executions whose state machine execution ended without reporting an outcome."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from waterhook.domain import poll_history
from waterhook.domain.loop_state import LoopState
from waterhook.domain.outcome_reasons import dependency_fault_message
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import DependencyUnavailableError, UpstreamError
from waterhook.notifications.notifier import Notifier
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.state_machine_executions import MISSING, StateMachineExecutions
from waterhook.steps.wait_reason import end_without_job
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339

# Attempts to cancel the job before its record is closed. Their time, the last attempt and the AWS calls before and
# after it fit into state_machine_executions.RESERVE_S.
CANCEL_ATTEMPTS = 3
CANCEL_PAUSE_S = 2.0
LAST_ATTEMPT_AFTER_S = 40.0
# Time for each of the two requests of one attempt.
CALL_BUDGET_S = 8.0
# The API names a state machine execution after its record.
_API_NAME = re.compile(r":(?P<execution_id>[0-9a-f]{32})-\d+")

# Only notify ends an execution with such an error name: after it has delivered the outcome, or because the record
# belongs to another execution or was erased.
_NOTIFY_ERRORS = "Waterhook."

# Outcome, error code and message for each status of a state machine execution that ended without an outcome.
OUTCOMES = {
    "ABORTED": (Status.CANCELLED, "aborted", "the state machine execution was stopped"),
    "TIMED_OUT": (Status.TIMED_OUT, "deadline", "the state machine execution timed out"),
    "FAILED": (Status.ERROR, "fault", "the state machine execution failed without reporting an outcome"),
    MISSING: (Status.ERROR, "never_started", "the state machine execution was never started"),
}


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """A state machine execution that has ended. `error` is the name of the error that it failed with."""

    arn: str
    status: str
    execution_input: object
    started_at: str
    error: str | None = None


class ReconcileStep:
    """Closes the record of the execution that owns it. A record that is final and notified is not changed."""

    def __init__(
        self,
        table: ExecutionsTable,
        canceller: JobCanceller,
        notifier: Notifier,
        settings: Settings,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        *,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._table = table
        self._canceller = canceller
        self._notifier = notifier
        self._settings = settings
        self._clock = clock
        self._sleep = sleep

    def close(self, ended: EndedExecution) -> ExecutionRecord | None:
        """Return the record that was closed or delivered, or None if there was nothing to do.

        Raises RecordConflictError if the record is gone. Lambda then calls the function again.
        """
        if (ended.error or "").startswith(_NOTIFY_ERRORS):
            return None
        now, defaults = self._clock(), self._settings.defaults
        trigger = TriggerInput.read(
            ended.execution_input, execution_arn=ended.arn, started_at=ended.started_at, defaults=defaults
        )
        record = self._table.claim(trigger, owner=ended.arn, now=now, defaults=defaults)
        return None if record.owner_execution_arn != ended.arn else self.close_record(record, ended.status)

    def find(self, arn: str) -> ExecutionRecord | None:
        """Return the record of an execution that the API started, found by its name, or None."""
        name = _API_NAME.search(arn)
        record = self._table.get(name["execution_id"], self._clock()) if name else None
        return record if record is not None and record.owner_execution_arn == arn else None

    def close_record(self, record: ExecutionRecord, status: str) -> ExecutionRecord | None:
        """Return the record if it was closed or delivered, or None if there was nothing to do."""
        if record.notified_at is None:
            return self.end(record, status)
        if record.unfinished is not None:
            self._notifier.release(record)
        return None

    def end(self, record: ExecutionRecord, status: str) -> ExecutionRecord:
        """Write and publish the outcome of a record whose state machine execution ended with `status`.

        Takes at most RESERVE_S. Raises DependencyUnavailableError or boto3's errors if AWS fails; a later call then
        closes the record.
        """
        now = self._clock()
        if not record.status.is_final and record.waterflai_execution_id is None:
            # Stopping a state machine execution does not stop its running function, which may still start the job.
            record = self._table.cancel_start(record, now)
        state = LoopState(
            record.execution_id, record.deadline, PollHistory(now), record.waterflai_execution_id
        )
        if not record.status.is_final:
            state = self._close_job(state, record, status)
        self._notifier.notify(state, record.owner_execution_arn)
        return record

    def _close_job(self, state: LoopState, record: ExecutionRecord, status: str) -> LoopState:
        outcome, code, message = OUTCOMES.get(status, OUTCOMES["FAILED"])
        if record.waterflai_execution_id is not None:
            return self._cancel_job(state, outcome, code, message)
        if record.status is Status.STARTING:
            message = f"{message} during the start; Waterflai may be running this job"
            return state.ended(Status.UNCERTAIN, code="start_uncertain", message=message)
        return end_without_job(state, record, outcome, code=code, message=message)

    def _cancel_job(self, state: LoopState, outcome: Status, code: str, message: str) -> LoopState:
        """Return the state as cancelled, or with the job's real outcome. After failed attempts it is closed anyway.

        Raises DependencyUnavailableError if the key can't be read or the output of a completed job can't be stored,
        because closing it would lose its outcome. From FAULT_LIMIT_S after the deadline on it is closed anyway.
        """
        began = state.history.started_at
        for attempt in range(CANCEL_ATTEMPTS):
            if attempt:
                if self._clock() + CANCEL_PAUSE_S - began > LAST_ATTEMPT_AFTER_S:
                    break
                self._sleep(CANCEL_PAUSE_S)
            try:
                cancelled = self._canceller.cancel(state, outcome, code=code, message=message)
            except UpstreamError as error:
                self._telemetry.logger.warning(
                    "job not cancelled", execution_id=state.execution_id, code=error.code
                )
                continue
            except DependencyUnavailableError as error:
                if self._clock() < state.deadline + poll_history.FAULT_LIMIT_S:
                    raise
                reason = dependency_fault_message(error)
                message = f"{message}; the job at Waterflai may still be running: {reason}"
                return state.ended(outcome, code=code, message=message)
            if cancelled.outcome.is_final:
                return cancelled
            if cancelled.history.faults:
                raise DependencyUnavailableError(cancelled.history.fault_reason)
        message = f"{message}; the job at Waterflai may still be running"
        return state.ended(outcome, code=code, message=message)


def close_ended(
    step: ReconcileStep,
    executions: StateMachineExecutions,
    arn: str,
    status: str,
    remaining_s: Callable[[], float],
) -> ExecutionRecord | None:
    """Close the execution that a status event names. Return its record, or None if there was nothing to do.

    Raises what `StateMachineExecutions.describe` raises.
    """
    record = step.find(arn)
    if record is not None:
        return step.close_record(record, status)
    return step.close(describe(executions, arn, status, remaining_s=remaining_s))


def describe(
    executions: StateMachineExecutions, arn: str, status: str, *, remaining_s: Callable[[], float]
) -> EndedExecution:
    """Return the ended execution. Its input is read here, because the rules keep customer data out of the event."""
    description = executions.describe(arn, remaining_s)
    # boto3 returns local time. The id of a request without a key is derived from the time in UTC.
    started_at = to_rfc3339(description["startDate"].timestamp()) or ""
    execution_input = json.loads(description.get("input") or "null")
    return EndedExecution(arn, status, execution_input, started_at, description.get("error"))
