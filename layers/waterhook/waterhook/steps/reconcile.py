"""The reconcile step: closes executions that the state machine could not close itself."""

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

# In-process attempts to stop a remote job before its record is closed all the same. With those that the last attempt
# and the calls of AWS before and after it may take, their time fits sweep.RESERVE_S.
CANCEL_ATTEMPTS = 3
CANCEL_PAUSE_S = 2.0
LAST_ATTEMPT_AFTER_S = 40.0
# For each of the two requests of an attempt.
CALL_BUDGET_S = 8.0
# The API names an execution after its record.
_API_NAME = re.compile(r":(?P<execution_id>[0-9a-f]{32})-\d+")

# Only notify names an error so, and only once it has delivered, or found the record to be another's or erased.
_OWN_ERRORS = "Waterhook."

# Outcome, error code and message of an execution that ended without an outcome, by its status in Step Functions.
OUTCOMES = {
    "ABORTED": (Status.CANCELLED, "aborted", "the state machine execution was stopped"),
    "TIMED_OUT": (Status.TIMED_OUT, "deadline", "the state machine execution timed out"),
    "FAILED": (Status.ERROR, "fault", "the state machine execution failed where it could not recover"),
    MISSING: (Status.ERROR, "never_started", "its state machine execution was never started"),
}


@dataclass(frozen=True, slots=True)
class EndedExecution:
    """A state machine execution that has ended: its ARN, how, what it was given, when it began, its error's name."""

    arn: str
    status: str
    given: object
    started_at: str
    error: str | None = None


class ReconcileStep:
    """Acts for the execution that owns the record and for no other; what is final and notified is left alone."""

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
        """Return the record that was closed or delivered, or None where there was nothing to do.

        Raises RecordConflictError when the record is gone; reconcile is called again then.
        """
        if (ended.error or "").startswith(_OWN_ERRORS):
            return None
        now, defaults = self._clock(), self._settings.defaults
        trigger = TriggerInput.read(
            ended.given, execution_arn=ended.arn, started_at=ended.started_at, defaults=defaults
        )
        record = self._table.claim(trigger, owner=ended.arn, now=now, deliver_to=defaults.deliver_to)
        return None if record.owner_execution_arn != ended.arn else self.close_found(record, ended.status)

    def find(self, arn: str) -> ExecutionRecord | None:
        """Return the record of an execution that the API started, or None: it is another's, or not found this way."""
        name = _API_NAME.search(arn)
        record = self._table.get(name["execution_id"], self._clock()) if name else None
        return record if record is not None and record.owner_execution_arn == arn else None

    def close_found(self, record: ExecutionRecord, status: str) -> ExecutionRecord | None:
        """Return the record if it was closed or delivered, or None where there was nothing to do."""
        if record.notified_at is None:
            return self.end(record, status)
        if record.unfinished is not None:
            self._notifier.release(record)
        return None

    def end(self, record: ExecutionRecord, status: str) -> ExecutionRecord:
        """Bring a record to its end whose execution ended with `status`, and return it as it was closed.

        Takes at most sweep.RESERVE_S. Raises DependencyUnavailableError or boto3's errors where AWS fails; what is not
        notified then is closed by a later call.
        """
        now = self._clock()
        if not record.status.is_final and record.waterflai_execution_id is None:
            # Who stops a machine stops no function: a start may be under way, and its job is one to cancel.
            record = self._table.cancel_start(record, now)
        state = LoopState(
            record.execution_id, record.deadline, PollHistory(now), record.waterflai_execution_id
        )
        ending = state if record.status.is_final else self._verdict(state, record, status)
        self._notifier.notify(ending, record.owner_execution_arn)
        return record

    def _verdict(self, state: LoopState, record: ExecutionRecord, status: str) -> LoopState:
        outcome, code, message = OUTCOMES.get(status, OUTCOMES["FAILED"])
        if record.waterflai_execution_id is not None:
            return self._stopped(state, outcome, code, message)
        if record.status is Status.STARTING:
            message = f"{message} during the start; Waterflai may be running this job"
            return state.ended(Status.UNCERTAIN, code="start_uncertain", message=message)
        return end_without_job(state, record, outcome, code=code, message=message)

    def _stopped(self, state: LoopState, outcome: Status, code: str, message: str) -> LoopState:
        """Return the job cancelled, or with its real outcome where it is too late, or closed without an answer.

        Raises DependencyUnavailableError when the key can't be read, or the output of a completed job can't be stored:
        closed now, the outcome would be lost. That ends FAULT_LIMIT_S after the deadline.
        """
        began = state.history.started_at
        for attempt in range(CANCEL_ATTEMPTS):
            if attempt:
                if self._clock() + CANCEL_PAUSE_S - began > LAST_ATTEMPT_AFTER_S:
                    break
                self._sleep(CANCEL_PAUSE_S)
            try:
                stopped = self._canceller.stop(state, outcome, code=code, message=message)
            except UpstreamError as error:
                self._telemetry.logger.warning(
                    "not cancelled", execution_id=state.execution_id, code=error.code
                )
                continue
            except DependencyUnavailableError as error:
                if self._clock() < state.deadline + poll_history.FAULT_LIMIT_S:
                    raise
                message = f"{message}; the job at Waterflai may go on: {dependency_fault_message(error)}"
                return state.ended(outcome, code=code, message=message)
            if stopped.outcome.is_final:
                return stopped
            if stopped.history.faults:
                raise DependencyUnavailableError(stopped.history.fault_reason)
        return state.ended(outcome, code=code, message=f"{message}; the job at Waterflai may go on")


def close_ended(
    step: ReconcileStep,
    executions: StateMachineExecutions,
    arn: str,
    status: str,
    remaining_s: Callable[[], float],
) -> ExecutionRecord | None:
    """Close the execution that a status event names. Return its record, or None where there was nothing to do.

    Raises what `StateMachineExecutions.describe` raises.
    """
    known = step.find(arn)
    if known is not None:
        return step.close_found(known, status)
    return step.close(describe(executions, arn, status, remaining_s=remaining_s))


def describe(
    executions: StateMachineExecutions, arn: str, status: str, *, remaining_s: Callable[[], float]
) -> EndedExecution:
    """Return the ended execution. The event has no input, on purpose: rules pass no customer data."""
    run = executions.describe(arn, remaining_s)
    # boto3 gives it in the zone of the machine, and the id of a request without a key is derived from it in UTC.
    started_at = to_rfc3339(run["startDate"].timestamp()) or ""
    return EndedExecution(arn, status, json.loads(run.get("input") or "null"), started_at, run.get("error"))
