"""Bugs that a maintainer could introduce, each with the invariant that finds it.

    PYTHONPATH=layers/waterhook python -m tests.invariants.mutations

prints a table: the bug, its subpackage, the invariant, and how many histories it took to find it. No history runs
`waterhook.observability`, the transport or the streams of `waterhook.upstream`: their bugs are in `unit_mutations.py`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from types import ModuleType
from typing import Any
from unittest.mock import patch

from botocore.exceptions import BotoCoreError, ClientError

from tests.invariants.invariants import Invariant
from tests.invariants.search import Counterexample, find_counterexample
from tests.invariants.simulation import Components
from waterhook.api import service
from waterhook.api.cancellation import ExecutionCanceller
from waterhook.domain import poll_history, polling_policy
from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.polling_policy import Decision, Limits
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.stream_history import StreamHistory
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import (
    DependencyUnavailableError,
    RecordConflictError,
    UpstreamError,
    UpstreamUnavailableError,
)
from waterhook.notifications import notification_events, state_machine_output
from waterhook.notifications.notifier import Notifier
from waterhook.steps.cancel import CancelStep
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.reconcile import ReconcileStep
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import MISSING, StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper
from waterhook.steps.wait_reason import WaitReason
from waterhook.storage import executions_table
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable, mine, still_alive
from waterhook.storage.unfinished_index import UnfinishedEntry
from waterhook.upstream import client, responses
from waterhook.upstream.client import CancelResult, WaterflaiClient
from waterhook.upstream.responses import Response

SEEDS = range(10_000)
# Subpackages of waterhook that the histories run.
SUBPACKAGES = ("api", "domain", "notifications", "steps", "storage", "upstream")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A function of a module, or a method of a class, and what replaces it."""

    owner: ModuleType | type
    name: str
    new: Any


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, and the invariant that it violates."""

    bug: str
    violates: Invariant
    components: Components = Components()  # noqa: RUF009 - it is frozen
    """Classes of Waterhook with the bug."""
    replacements: tuple[Replacement, ...] = ()
    """Functions with the bug, where no class that the simulation builds has it."""
    found_by_seed: int = 0
    """Where few histories find it: the seed of the first one. A change of the model may change it."""

    @property
    def subpackages(self) -> set[str]:
        """The subpackages of waterhook that have the bug."""
        defaults = Components()
        bases = {
            getattr(defaults, entry.name)
            for entry in fields(Components)
            if getattr(self.components, entry.name) is not getattr(defaults, entry.name)
        }
        modules = {base.__module__ for base in bases}
        for replacement in self.replacements:
            owner = replacement.owner
            modules.add(owner.__name__ if isinstance(owner, ModuleType) else owner.__module__)
        return {module.split(".")[1] for module in modules}

    @contextmanager
    def applied(self) -> Iterator[Components]:
        """Replace the functions for the time of the block, and return the classes to build."""
        with ExitStack() as stack:
            for replacement in self.replacements:
                stack.enter_context(patch.object(replacement.owner, replacement.name, replacement.new))
            yield self.components

    def find(self, seeds: Iterable[int]) -> Counterexample | None:
        """Return the first history that violates the invariant."""
        with self.applied() as components:
            return find_counterexample(seeds, components, self.violates)


# --- domain ---


def next_step_without_deadline(
    history: PollHistory, now: float, limits: Limits, jitter: float = 0.0
) -> Decision:
    return _next_step(history, now, replace(limits, deadline=now + 60.0), jitter)


def poll_only_after_final_event(
    history: PollHistory, stream: StreamHistory, deadline: float, jitter: float = 0.5
) -> float:
    return deadline if stream.final_event_at is None else _poll_due_at(history, stream, deadline, jitter)


def poll_a_minute_after_last_event(
    history: PollHistory, stream: StreamHistory, deadline: float, jitter: float = 0.5
) -> float:
    return min((stream.event_at or 0.0) + 60.0, deadline)


def poll_once_after_final_event(
    history: PollHistory, stream: StreamHistory, deadline: float, jitter: float = 0.5
) -> float:
    is_polled = stream.final_event_at is not None and (history.polled_at or 0.0) > stream.final_event_at
    return deadline if is_polled else _poll_due_at(history, stream, deadline, jitter)


def is_lost_after_first_404(history: PollHistory, now: float) -> bool:
    return history.not_found > 0


def hash_without_input_data(self: Request) -> str:
    return self.chatbot_id


def read_without_event_id(execution_input: object, **arguments: Any) -> TriggerInput:
    if isinstance(execution_input, Mapping) and "event_id" in execution_input:
        execution_input = execution_input["request"]
    return _read_trigger_input(execution_input, **arguments)


def read_document_of_any_execution(body: bytes, **arguments: Any) -> StatusDocument:
    return _read_document(body, **(arguments | {"execution_id": None}))


_next_step, _poll_due_at = polling_policy.next_step, polling_policy.poll_due_at
_read_trigger_input, _read_document = TriggerInput.read, StatusDocument.from_body

# --- upstream ---


def server_error_is_not_accepted(response: Response) -> UpstreamError:
    error = _error_from_response(response)
    if response.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamUnavailableError(error.code, error.message, status=error.status)
    return error


def unreadable_start_is_not_accepted(response: Response) -> str:
    try:
        return _started_id(response)
    except UpstreamError as error:
        raise UpstreamUnavailableError(error.code, error.message, status=error.status) from error


def every_answer_is_cancelled(self: WaterflaiClient, execution_id: str) -> CancelResult:
    return replace(_cancel(self, execution_id), cancelled=True)


_error_from_response, _started_id = responses.error_from_response, client._started_id  # noqa: SLF001 - it gets the bug
_cancel = WaterflaiClient.cancel

# --- storage ---


class LaterOutcomeOverwritesFirst(ExecutionsTable):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> ExecutionRecord:
        return self._change(record, final_attributes, mine)


class StartIgnoresStatusAndCancel(ExecutionsTable):
    def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
        return self._change(record, {"status": Status.STARTING}, mine)


class JobIdOverwritesOutcome(ExecutionsTable):
    def save_start(self, record: ExecutionRecord, waterflai_execution_id: str, now: float) -> ExecutionRecord:
        changes = {"status": Status.RUNNING, "waterflai_execution_id": waterflai_execution_id}
        return self._change(record, changes, mine)


class LostAnswerIsNotRecorded(ExecutionsTable):
    def undo_start(
        self,
        record: ExecutionRecord,
        waiting: Mapping[str, Any] | None = None,
        *,
        perhaps_started: bool = False,
    ) -> ExecutionRecord:
        return super().undo_start(record, waiting)


class WithdrawIgnoresOtherCallers(ExecutionsTable):
    def withdraw(self, record: ExecutionRecord) -> None:
        current = self.get(record.execution_id, 0.0)
        if current is not None and current.status is Status.ACCEPTED:
            key = {"execution_id": {"S": record.execution_id}}
            self._client.delete_item(TableName=self._table, Key=key)


class DuplicateTakesOverRecord(ExecutionsTable):
    def claim(
        self, trigger: TriggerInput, *, owner: str, now: float, defaults: RequestDefaults
    ) -> ExecutionRecord:
        record = super().claim(trigger, owner=owner, now=now, defaults=defaults)
        if record.owner_execution_arn == owner or record.status.is_final:
            return record
        return self._change(record, {"owner_execution_arn": owner}, still_alive)


class SlotsAreNeverReleased(ConcurrencyLimiter):
    def release(self, execution_id: str, slots: Iterable[str]) -> None:
        pass


class SlotIsTakenAfterOutcome(ConcurrencyLimiter):
    def acquire(
        self,
        execution_id: str,
        chatbot_id: str,
        held: Iterable[str] = (),
        mark: Callable[[list[str]], Any] | None = None,
    ) -> Acquisition:
        return super().acquire(execution_id, chatbot_id)


# --- notifications ---


class PublishesBeforeOutcomeIsWritten(Notifier):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        if not record.status.is_final:
            attributes = {name: value for name, value in final_attributes.items() if value is not None}
            self._publish(replace(record, **attributes))
        return super().conclude(record, final_attributes)


class MarksNotifiedBeforePublishing(Notifier):
    def _deliver(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.notified_at is None:
            try:
                self._table.mark_notified(record, self._clock())
            except RecordConflictError:
                return record
        return super()._deliver(record)


class DuplicateNotifiesAsOwner(Notifier):
    def notify(self, state: LoopState, owner: str) -> dict[str, Any]:
        record = self._table.get(state.execution_id, self._clock())
        assert record is not None
        return self.conclude(record, self.final_attributes(state))


class ReturnsLoopOutcomeNotRecords(Notifier):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        super().conclude(record, final_attributes)
        attributes = {name: value for name, value in final_attributes.items() if value is not None}
        return state_machine_output.outcome_output(replace(record, **attributes))


def event_id_without_time(record: ExecutionRecord) -> str:
    return f"{record.execution_id}/{record.status}"


# --- steps ---


class DuplicateStartsAsOwner(StartStep):
    def start(self, execution_input: object, *, owner: str, started_at: str) -> dict[str, Any]:
        now, defaults = self._clock(), self._settings.defaults
        trigger = TriggerInput.read(
            execution_input, execution_arn=owner, started_at=started_at, defaults=defaults
        )
        record = self._table.claim(trigger, owner=owner, now=now, defaults=defaults)
        return super().start(execution_input, owner=record.owner_execution_arn, started_at=started_at)


class LateStartReleasesSlotInUse(StartStep):
    def _current_state(self, state: LoopState) -> LoopState:
        assert self._limiter is not None
        self._limiter.release(state.execution_id, self._limiter.slots_of("support-chat"))
        return super()._current_state(state)


class LostAnswerIsPostedAgain(StartStep):
    def _after_lost_answer(
        self, state: LoopState, record: ExecutionRecord, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        decision = self._next_attempt(record, retry_after_s)
        return self._retry(state, record, why, WaitReason.RETRYING, decision)


class InvalidRequestGetsNoRecord(StartStep):
    def start(self, execution_input: object, *, owner: str, started_at: str) -> dict[str, Any]:
        defaults = self._settings.defaults
        trigger = TriggerInput.read(
            execution_input, execution_arn=owner, started_at=started_at, defaults=defaults
        )
        if trigger.problem is not None:
            return state_machine_output.failure_output(
                Status.REJECTED.error_name, trigger.problem, {"execution_id": trigger.execution_id}
            )
        return super().start(execution_input, owner=owner, started_at=started_at)


class FinishedJobIsRecordedAsCancelled(JobCanceller):
    def cancel(self, state: LoopState, outcome: Status, *, code: str, message: str) -> LoopState:
        cancelled = super().cancel(state, outcome, code=code, message=message)
        return state.ended(outcome, code=code, message=message) if cancelled.outcome.is_final else cancelled


class RunningExecutionCountsAsFailed(StateMachineExecutions):
    def running(self, remaining_s: Callable[[], float]) -> Iterator[str]:
        yield from ()

    def final_status(self, owner: str) -> str | None:
        return super().final_status(owner) or "FAILED"


class ReconcileSkipsExecutionWithoutJob(ReconcileStep):
    def end(self, record: ExecutionRecord, status: str) -> ExecutionRecord:
        is_without_job = record.waterflai_execution_id is None and not record.status.is_final
        return record if is_without_job else super().end(record, status)


class SweepSkipsFinalRecords(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        return "alive" if record is None or record.status.is_final else super()._handle(entry)


class SweepSkipsMissingExecutions(StateMachineExecutions):
    def final_status(self, owner: str) -> str | None:
        status = super().final_status(owner)
        return None if status == MISSING else status


class SweepDiscardsEveryAcceptedRecord(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        is_accepted = record is not None and record.status is Status.ACCEPTED
        if record is not None and is_accepted and entry.owner == record.owner_execution_arn:
            key = {"execution_id": {"S": record.execution_id}}
            self._table._client.delete_item(TableName="executions", Key=key)  # noqa: SLF001 - it is the bug
            return "discarded"
        return super()._handle(entry)


class SweepPublishesWithdrawnRequest(Sweeper):
    def _discard(self, record: ExecutionRecord) -> str:
        self._end(record, MISSING)
        return "ended"


class SweepDropsNotifiedRecordWithItsSlot(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        if record is not None and record.notified_at is not None:
            self._table.leave_index(record)
            return "alive"
        return super()._handle(entry)


class FirstDependencyFaultEndsJob(StatusPoller):
    def dependency_failed(self, state: LoopState, error: DependencyUnavailableError) -> LoopState:
        return state.ended(Status.ERROR, code="fault", message=str(error))


class DependencyFaultIsRaised(StatusPoller):
    def dependency_failed(self, state: LoopState, error: DependencyUnavailableError) -> LoopState:
        raise error


class LoopIgnoresFinalRecord(FinalRecordCheck):
    def end_if_final(self, state: LoopState, began_at: float) -> LoopState:
        return state


class FaultIsReportedWithoutCancel(CancelStep):
    def cancel(self, state: LoopState, owner: str) -> LoopState:
        if state.fault is not None:
            return state.ended(Status.ERROR, code="fault", message=state.fault)
        return super().cancel(state, owner)


# --- api ---


class CancelIsAlwaysConfirmed(ExecutionCanceller):
    def cancel(self, record: ExecutionRecord) -> CancelResult:
        return replace(super().cancel(record), cancelled=True)


def every_error_is_refusal(error: ClientError | BotoCoreError) -> bool:
    return True


MUTATIONS = (
    Mutation(
        "the deadline of a request is not checked",
        Invariant.HISTORY_ENDS,
        replacements=(Replacement(polling_policy, "next_step", next_step_without_deadline),),
    ),
    Mutation(
        "an open stream is trusted: the status is polled only after a final event",
        Invariant.OUTCOME_IS_TIMELY,
        replacements=(Replacement(polling_policy, "poll_due_at", poll_only_after_final_event),),
        found_by_seed=377,
    ),
    Mutation(
        "every event of a stream postpones the next poll by a minute",
        Invariant.OUTCOME_IS_TIMELY,
        replacements=(Replacement(polling_policy, "poll_due_at", poll_a_minute_after_last_event),),
        found_by_seed=389,
    ),
    Mutation(
        "after a final event the status is polled only once",
        Invariant.OUTCOME_IS_TIMELY,
        replacements=(Replacement(polling_policy, "poll_due_at", poll_once_after_final_event),),
        found_by_seed=1_307,
    ),
    Mutation(
        "a job is LOST after its first 404",
        Invariant.OUTCOME_IS_OF_JOB,
        replacements=(Replacement(poll_history, "is_lost", is_lost_after_first_404),),
    ),
    Mutation(
        "the hash of a request leaves out its input_data",
        Invariant.KEY_HAS_ONE_REQUEST,
        replacements=(Replacement(Request, "sha256", property(hash_without_input_data)),),
    ),
    Mutation(
        "the id of an event is not its idempotency key",
        Invariant.KEY_HAS_ONE_JOB,
        replacements=(Replacement(TriggerInput, "read", staticmethod(read_without_event_id)),),
    ),
    Mutation(
        "the status document of another execution is accepted",
        Invariant.OUTPUT_IS_OF_JOB,
        replacements=(
            Replacement(StatusDocument, "from_body", staticmethod(read_document_of_any_execution)),
        ),
    ),
    Mutation(
        "a start that is answered 500 counts as not accepted",
        Invariant.KEY_HAS_ONE_JOB,
        replacements=(Replacement(responses, "error_from_response", server_error_is_not_accepted),),
    ),
    Mutation(
        "a start with an unreadable answer counts as not accepted",
        Invariant.KEY_HAS_ONE_JOB,
        replacements=(Replacement(client, "_started_id", unreadable_start_is_not_accepted),),
        found_by_seed=743,
    ),
    Mutation(
        "every successful answer to a cancel counts as cancelled",
        Invariant.CANCEL_ANSWER_IS_TRUE,
        replacements=(Replacement(WaterflaiClient, "cancel", every_answer_is_cancelled),),
    ),
    Mutation(
        "a later outcome overwrites the first one",
        Invariant.OUTCOME_IS_FINAL,
        Components(table=LaterOutcomeOverwritesFirst),
    ),
    Mutation(
        "a start checks neither the status nor whether a cancel was requested",
        Invariant.CANCEL_ANSWER_IS_TRUE,
        Components(table=StartIgnoresStatusAndCancel),
        found_by_seed=477,
    ),
    Mutation(
        "the job id is saved over an outcome",
        Invariant.OUTCOME_IS_FINAL,
        Components(table=JobIdOverwritesOutcome),
    ),
    Mutation(
        "the record does not show that the answer to a start was lost",
        Invariant.JOB_IS_KNOWN,
        Components(table=LostAnswerIsNotRecorded),
    ),
    Mutation(
        "a record is withdrawn although another call of the API has returned it",
        Invariant.RECORD_IS_KEPT,
        Components(table=WithdrawIgnoresOtherCallers),
        found_by_seed=6_841,
    ),
    Mutation(
        "a duplicate execution takes over the record",
        Invariant.RECORD_KEEPS_OWNER,
        Components(table=DuplicateTakesOverRecord),
    ),
    Mutation(
        "slots are never released",
        Invariant.SLOT_IS_RELEASED,
        Components(limiter=SlotsAreNeverReleased),
    ),
    Mutation(
        "a slot is taken after the outcome was written",
        Invariant.SLOT_IS_RELEASED,
        Components(limiter=SlotIsTakenAfterOutcome),
    ),
    Mutation(
        "a progress event gets a number that another one has",
        Invariant.NOTIFICATION_IS_CONSTANT,
        replacements=(Replacement(executions_table, "next_in_line", mine),),
        found_by_seed=2_269,
    ),
    Mutation(
        "the outcome is published before it is written",
        Invariant.NOTIFICATION_MATCHES_RECORD,
        Components(notifier=PublishesBeforeOutcomeIsWritten),
    ),
    Mutation(
        "a record is marked as notified before its notification is published",
        Invariant.NOTIFICATION_IS_PUBLISHED,
        Components(notifier=MarksNotifiedBeforePublishing),
    ),
    Mutation(
        "the state machine returns the outcome of its loop, not that of the record",
        Invariant.STATE_MACHINE_AGREES,
        Components(notifier=ReturnsLoopOutcomeNotRecords),
        found_by_seed=169,
    ),
    Mutation(
        "the event id lacks the time of acceptance",
        Invariant.NOTIFICATION_MATCHES_RECORD,
        replacements=(Replacement(notification_events, "event_id", event_id_without_time),),
    ),
    Mutation(
        "a duplicate execution starts and notifies as the owner",
        Invariant.NOTIFICATION_IS_OF_OWNER,
        Components(start_step=DuplicateStartsAsOwner, notifier=DuplicateNotifiesAsOwner),
    ),
    Mutation(
        "a start that comes too late releases a slot that is in use",
        Invariant.SLOT_IS_KEPT,
        Components(start_step=LateStartReleasesSlotInUse),
    ),
    Mutation(
        "a start whose answer was lost is sent again",
        Invariant.KEY_HAS_ONE_JOB,
        Components(start_step=LostAnswerIsPostedAgain),
    ),
    Mutation(
        "an invalid request ends without a record",
        Invariant.EXECUTION_HAS_RECORD,
        Components(start_step=InvalidRequestGetsNoRecord),
    ),
    Mutation(
        "a finished job is recorded as cancelled",
        Invariant.FAULT_MESSAGE_IS_TRUE,
        Components(job_canceller=FinishedJobIsRecordedAsCancelled),
        found_by_seed=104,
    ),
    Mutation(
        "reconcile and sweep skip an execution without a job",
        Invariant.RECORD_HAS_OUTCOME,
        Components(reconcile_step=ReconcileSkipsExecutionWithoutJob),
    ),
    Mutation(
        "the sweep ends running executions",
        Invariant.SWEEP_SPARES_RUNNING,
        Components(state_machine_executions=RunningExecutionCountsAsFailed),
    ),
    Mutation(
        "the sweep skips records that have an outcome and were not published",
        Invariant.NOTIFICATION_IS_RECORDED,
        Components(sweeper=SweepSkipsFinalRecords),
        found_by_seed=232,
    ),
    Mutation(
        "the sweep skips executions that were never started",
        Invariant.RECORD_HAS_OUTCOME,
        Components(state_machine_executions=SweepSkipsMissingExecutions),
    ),
    Mutation(
        "the sweep discards every accepted record",
        Invariant.RECORD_IS_KEPT,
        Components(sweeper=SweepDiscardsEveryAcceptedRecord),
    ),
    Mutation(
        "the sweep publishes an outcome for a request that was answered 503",
        Invariant.NOTIFICATION_HAS_EXECUTION,
        Components(sweeper=SweepPublishesWithdrawnRequest),
    ),
    Mutation(
        "the sweep does not release the slot of a record that is notified",
        Invariant.SLOT_IS_RELEASED,
        Components(sweeper=SweepDropsNotifiedRecordWithItsSlot),
        found_by_seed=1_027,
    ),
    Mutation(
        "the first fault of an AWS service ends a job",
        Invariant.OUTCOME_SURVIVES_OUTAGE,
        Components(status_poller=FirstDependencyFaultEndsJob),
        found_by_seed=215,
    ),
    Mutation(
        "a fault of an AWS service is raised, and the state machine retries it for minutes only",
        Invariant.OUTCOME_SURVIVES_OUTAGE,
        Components(status_poller=DependencyFaultIsRaised),
    ),
    Mutation(
        "the loop does not read whether its record is final",
        Invariant.LOOP_ENDS_WITH_RECORD,
        Components(final_record_check=LoopIgnoresFinalRecord),
    ),
    Mutation(
        "a job is given up without a cancel request",
        Invariant.JOB_IS_CANCELLED_AFTER_FAULT,
        Components(cancel_step=FaultIsReportedWithoutCancel),
        found_by_seed=104,
    ),
    Mutation(
        'the answer to a cancel is always "cancelled"',
        Invariant.CANCEL_ANSWER_IS_TRUE,
        Components(execution_canceller=CancelIsAlwaysConfirmed),
    ),
    Mutation(
        "a request is withdrawn although StartExecution may have been carried out",
        Invariant.KEY_HAS_ONE_JOB,
        replacements=(Replacement(service, "_is_refusal", every_error_is_refusal),),
        found_by_seed=1_716,
    ),
)


def main() -> None:
    """Print which invariant finds each mutation, and after how many histories."""
    logging.disable()
    print(f"{'histories':>9}  {'subpackage':<20}  {'invariant':<29}  bug")  # noqa: T201 - the output of a command
    for mutation in MUTATIONS:
        found = mutation.find(SEEDS)
        histories = "none" if found is None or found.seed is None else str(found.seed + 1)
        subpackages = ", ".join(sorted(mutation.subpackages))
        line = f"{histories:>9}  {subpackages:<20}  {mutation.violates.name:<29}  {mutation.bug}"
        print(line, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
