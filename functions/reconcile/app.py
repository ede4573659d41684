"""Reconcile: close what the state machine could not: stopped, timed out, failed where no Catch sees, never started."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook import aws_clients
from waterhook.domain import poll_history
from waterhook.domain.loop_state import LoopState
from waterhook.domain.outcome_reasons import dependency_fault_message
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import DependencyUnavailableError, UpstreamError, aws_error_code
from waterhook.notifications.notifier import Notifier
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.machine_executions import MISSING, MachineExecutions
from waterhook.steps.start_waiting import end_without_job
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.client import WaterflaiClient

telemetry = Telemetry("reconcile", correlation_id_path="event_id")

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

# What an end without a verdict means, by the status Step Functions gives it.
_OUTCOMES = {
    "ABORTED": (Status.CANCELLED, "aborted", "the state machine execution was stopped"),
    "TIMED_OUT": (Status.TIMED_OUT, "deadline", "the state machine execution timed out"),
    "FAILED": (Status.ERROR, "fault", "the state machine execution failed where it could not recover"),
    MISSING: (Status.ERROR, "never_started", "its state machine execution was never started"),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """A state machine execution that has ended: its ARN, how, what it was given, when it began, its error's name."""

    arn: str
    status: str
    given: object
    started_at: str
    error: str | None = None


class Reconciler:
    """Acts for the execution that owns the record and for no other; what is final and notified is left alone."""

    def __init__(
        self,
        records: ExecutionsTable,
        stopper: JobCanceller,
        notifier: Notifier,
        settings: Settings,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._records = records
        self._stopper = stopper
        self._notifier = notifier
        self._settings = settings
        self._clock = clock
        self._sleep = sleep

    def close(self, ended: Ended) -> ExecutionRecord | None:
        """Return the record that was closed or delivered, or None where there was nothing to do.

        Raises RecordConflictError when the record is gone; reconcile is called again then.
        """
        if (ended.error or "").startswith(_OWN_ERRORS):
            return None
        now, defaults = self._clock(), self._settings.defaults
        intake = TriggerInput.read(
            ended.given, execution_arn=ended.arn, started_at=ended.started_at, defaults=defaults
        )
        record = intake.claim(self._records, owner=ended.arn, now=now, defaults=defaults)
        return None if record.owner_execution_arn != ended.arn else self.close_found(record, ended.status)

    def find(self, arn: str) -> ExecutionRecord | None:
        """Return the record of an execution that the API started, or None: it is another's, or not found this way."""
        name = _API_NAME.search(arn)
        record = self._records.get(name["execution_id"], self._clock()) if name else None
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
            record = self._records.cancel_start(record, now)
        job = LoopState(record.execution_id, record.deadline, PollHistory(now), record.waterflai_execution_id)
        ending = job if record.status.is_final else self._verdict(job, record, status)
        self._notifier.notify(ending, record.owner_execution_arn)
        return record

    def _verdict(self, job: LoopState, record: ExecutionRecord, status: str) -> LoopState:
        outcome, code, message = _OUTCOMES.get(status, _OUTCOMES["FAILED"])
        if record.waterflai_execution_id is not None:
            return self._stopped(job, outcome, code, message)
        if record.status is Status.STARTING:
            message = f"{message} during the start; Waterflai may be running this job"
            return job.ended(Status.UNCERTAIN, code="start_uncertain", message=message)
        return end_without_job(job, record, outcome, code=code, message=message)

    def _stopped(self, job: LoopState, outcome: Status, code: str, message: str) -> LoopState:
        """Return the job cancelled, or with its real outcome where it is too late, or closed without an answer.

        Raises DependencyUnavailableError when the key can't be read, or the output of a completed job can't be stored:
        closed now, the outcome would be lost. That ends FAULT_LIMIT_S after the deadline.
        """
        began = job.history.started_at
        for attempt in range(CANCEL_ATTEMPTS):
            if attempt:
                if self._clock() + CANCEL_PAUSE_S - began > LAST_ATTEMPT_AFTER_S:
                    break
                self._sleep(CANCEL_PAUSE_S)
            try:
                stopped = self._stopper.stop(job, outcome, code=code, message=message)
            except UpstreamError as error:
                telemetry.logger.warning("not cancelled", execution_id=job.execution_id, code=error.code)
                continue
            except DependencyUnavailableError as error:
                if self._clock() < job.deadline + poll_history.FAULT_LIMIT_S:
                    raise
                message = f"{message}; the job at Waterflai may go on: {dependency_fault_message(error)}"
                return job.ended(outcome, code=code, message=message)
            if stopped.outcome.is_final:
                return stopped
            if stopped.history.faults:
                raise DependencyUnavailableError(stopped.history.fault_reason)
        return job.ended(outcome, code=code, message=f"{message}; the job at Waterflai may go on")


def describe(
    executions: MachineExecutions, arn: str, status: str, *, remaining_s: Callable[[], float]
) -> Ended:
    """Return the ended execution. The event has no input, on purpose: rules pass no customer data."""
    run = executions.describe(arn, remaining_s)
    # boto3 gives it in the zone of the machine, and the id of a request without a key is derived from it in UTC.
    started_at = to_rfc3339(run["startDate"].timestamp()) or ""
    return Ended(arn, status, json.loads(run.get("input") or "null"), started_at, run.get("error"))


def _in_trouble(execution_id: str, error: Exception) -> None:
    telemetry.logger.warning("not swept", execution_id=execution_id, fault=aws_error_code(error))


@cache
def _wiring() -> tuple[Reconciler, Sweeper, MachineExecutions]:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    client = WaterflaiClient(settings.base_url, key, budget_s=CALL_BUDGET_S, watch=telemetry.record_call)
    records, states = ExecutionsTable(settings.table), aws_clients.session().client("stepfunctions")
    executions = MachineExecutions(states, settings.state_machine_arn, time.time, time.sleep)
    notifier = Notifier.of(settings, records, time.time, telemetry.record_delivery)
    # No later request can find a flawed document whole.
    poller = StatusPoller(client, ResultsBucket(settings.bucket), settings, time.time, patient=False)
    reconciler = Reconciler(records, JobCanceller(client, poller), notifier, settings, time.time, time.sleep)
    sweeper = Sweeper(
        records,
        UnfinishedIndex(settings.table, aws_clients.session().client("dynamodb")),
        executions,
        end=reconciler.end,
        release=notifier.release,
        clock=time.time,
        sleep=time.sleep,
        troubled=_in_trouble,
    )
    return reconciler, sweeper, executions


def _sweep(sweeper: Sweeper, remaining_s: Callable[[], float]) -> dict[str, Any]:
    swept = sweeper.sweep(remaining_s)
    telemetry.add_fields(
        swept=swept.ended,
        swept_alive=swept.alive,
        swept_failed=swept.failed,
        swept_left=swept.left,
        swept_discarded=swept.discarded,
    )
    # CloudWatch charges for a metric that has data: mostly there is none.
    figures = ((Metric.RECONCILED, swept.ended), (Metric.NOT_SWEPT, swept.failed + swept.left))
    for figure, number in figures:
        if number:
            telemetry.add_metric(figure, number)
    return asdict(swept)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Close the execution that a status event names by ARN and status; `{"sweep": {}}` looks for all that need it."""
    telemetry.add_fields(execution_arn=event.get("arn"))
    reconciler, sweeper, executions = _wiring()

    def remaining_s() -> float:
        return context.get_remaining_time_in_millis() / 1000

    if "sweep" in event:
        return _sweep(sweeper, remaining_s)
    arn, status = event["arn"], event["status"]
    known = reconciler.find(arn)
    if known is not None:
        record = reconciler.close_found(known, status)
    else:
        record = reconciler.close(describe(executions, arn, status, remaining_s=remaining_s))
    if record is not None:
        telemetry.add_metric(Metric.RECONCILED)
    return {"closed": record is not None}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
