"""Bugs that a maintainer could introduce, each with the invariant that finds it.

    PYTHONPATH=layers/waterhook python -m tests.invariants.mutations

prints a table: the bug, its subpackage, the invariant, and how many histories it took to find it. No history runs
`waterhook.observability`, the transport or the streams of `waterhook.upstream`: their bugs are in `unit_mutations.py`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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
from waterhook.domain import poll_history, polling_policy, webhook_host, webhook_retries
from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.polling_policy import Decision, Limits
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.stream_history import StreamHistory
from waterhook.domain.trigger_input import TriggerInput
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_host import Admission, HostState
from waterhook.errors import (
    DependencyUnavailableError,
    RecordConflictError,
    UpstreamError,
    UpstreamUnavailableError,
)
from waterhook.notifications import delivery_targets, notification_events, state_machine_output
from waterhook.notifications.delivery_targets import DeliveryTarget, EventBridgeTarget, WebhookTarget
from waterhook.notifications.notifier import Notifier
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.steps import resend
from waterhook.steps.cancel import CancelStep
from waterhook.steps.deliver import DeliverStep
from waterhook.steps.delivered import Delivered
from waterhook.steps.delivery_sweep import DeliverySweeper
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.reconcile import ReconcileStep
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import MISSING, StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper
from waterhook.steps.wait_reason import WaitReason
from waterhook.steps.webhook_attempts import WebhookAttempts
from waterhook.storage import executions_table, webhook_deliveries
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable, mine, still_alive
from waterhook.storage.unfinished_index import UnfinishedEntry
from waterhook.storage.webhook_deliveries import DueDelivery, WebhookDeliveries
from waterhook.storage.webhook_hosts import Entry, WebhookHosts
from waterhook.timestamps import to_rfc3339
from waterhook.upstream import client, responses
from waterhook.upstream.client import CancelResult, WaterflaiClient
from waterhook.upstream.responses import Response
from waterhook.webhooks.sender import Attempt

SEEDS = range(10_000)
# Subpackages of waterhook that the histories run.
SUBPACKAGES = ("api", "domain", "notifications", "steps", "storage", "upstream", "webhooks")


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


def mark_notified_without_output(
    self: ExecutionsTable,
    record: ExecutionRecord,
    now: float,
    expires_at: float | None = None,
    **arguments: Any,
) -> ExecutionRecord:
    return _mark_notified(self, record, now, expires_at, **(arguments | {"keeps_output": False}))


_mark_notified = ExecutionsTable.mark_notified

# --- notifications ---


class PublishesBeforeOutcomeIsWritten(Notifier):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        if not record.status.is_final:
            attributes = {name: value for name, value in final_attributes.items() if value is not None}
            concluded = replace(record, **attributes)
            self._publish(concluded, self._missing_targets(concluded))
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


class IgnoresTargetsThatReceivedOutcome(Notifier):
    def _missing_targets(
        self, record: ExecutionRecord, published: Iterable[str] = ()
    ) -> list[DeliveryTarget]:
        return [target for target in self._targets if target.receives_outcome(record)]


class RedeliversToWebhook(Notifier):
    def redeliver(self, execution_id: object) -> dict[str, Any]:
        result = super().redeliver(execution_id)
        record = self._table.get(str(execution_id), self._clock())
        if result["redelivered"] and record is not None and self._webhook is not None:
            self._webhook.publish_outcome(record)
        return result


class FirstFailureEndsPublishing(Notifier):
    def _publish(self, record: ExecutionRecord, targets: Iterable[DeliveryTarget]) -> None:
        # The bus comes before the topic and the webhook, by its name.
        for target in sorted(targets, key=lambda target: target.name):
            target.publish_outcome(record)
            self._mark_published(record, [target.name])


class FailureLeavesNoMark(Notifier):
    def _mark_published(self, record: ExecutionRecord, published: Iterable[str]) -> None:
        pass


class RedeliversToTopicOnly(Notifier):
    def redeliver(self, execution_id: object) -> dict[str, Any]:
        targets = self._targets
        self._targets = [target for target in targets if target.name != EventBridgeTarget.name]
        try:
            return super().redeliver(execution_id)
        finally:
            self._targets = targets


class FailureOfBusIsIgnored(EventBridgeTarget):
    def publish_outcome(self, record: ExecutionRecord) -> None:
        with suppress(ClientError, BotoCoreError):
            super().publish_outcome(record)


class EveryOutcomeIsPutOnBus(EventBridgeTarget):
    def receives_outcome(self, record: ExecutionRecord) -> bool:
        return record.status.is_final


class ProgressIsPutOnBusForEachRequest(EventBridgeTarget):
    def receives_progress(self, record: ExecutionRecord) -> bool:
        return record.publishes_progress


class EventHasNoOutput(EventBridgeTarget):
    def publish_outcome(self, record: ExecutionRecord) -> None:
        super().publish_outcome(replace(record, final_output_json=None))


class FailureOfQueueIsIgnored(WebhookTarget):
    def publish_outcome(self, record: ExecutionRecord) -> None:
        with suppress(ClientError, BotoCoreError):
            super().publish_outcome(record)


class EveryOutcomeIsSent(WebhookTarget):
    def receives_outcome(self, record: ExecutionRecord) -> bool:
        return record.webhook is not None and record.status.is_final


class ProgressIsSentToEachWebhook(WebhookTarget):
    def receives_progress(self, record: ExecutionRecord) -> bool:
        return record.webhook is not None


class EventHasTimeOfAttempt(WebhookRequests):
    def outcome(self, record: ExecutionRecord) -> UnsignedRequest:
        return super().outcome(replace(record, finished_at=to_rfc3339(self._clock())))


class ThinWebhookHasOutput(WebhookRequests):
    def outcome(self, record: ExecutionRecord) -> UnsignedRequest:
        webhook = record.webhook and replace(record.webhook, payload="full")
        return super().outcome(replace(record, webhook=webhook))


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


class DeliverKeepsRecordsInMemory(ExecutionsTable):
    def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
        record = super().get(execution_id, now)
        # One container serves many messages. Only a record with an outcome does not change any more.
        cache = self.__dict__.setdefault("cache", {})
        if record is not None and record.notified_at is not None:
            cache[execution_id] = record
        return record or cache.get(execution_id)


class AttemptIsCountedAfterRequest(WebhookAttempts):
    def make(
        self,
        webhook: Webhook,
        request: UnsignedRequest,
        *,
        held_back_s: float,
        begin: Callable[[str], object] = lambda _token: None,
    ) -> Attempt | Entry:
        attempt = super().make(webhook, request, held_back_s=held_back_s)
        if isinstance(attempt, Attempt):
            begin("token")
        return attempt


class NoAttemptIsMadeWithoutPlace(WebhookAttempts):
    def make(
        self,
        webhook: Webhook,
        request: UnsignedRequest,
        *,
        held_back_s: float,
        begin: Callable[[str], object] = lambda _token: None,
    ) -> Attempt | Entry:
        attempt = super().make(webhook, request, held_back_s=held_back_s, begin=begin)
        if isinstance(attempt, Entry):
            begin("token")
            return Attempt(None, "no_result")
        return attempt


class ProgressIsSentAfterOutcome(DeliverStep):
    def deliver(self, message: object, *, before_attempt: Callable[[], object] = lambda: None) -> Delivered:
        assert isinstance(message, Mapping)
        record = self._table.get(message["execution_id"], self._clock())
        if "progress" in message and record is not None and record.webhook is not None:
            return self._progress.deliver(message, record.webhook, before_attempt)
        return super().deliver(message, before_attempt=before_attempt)


class ResultOfDeliveryIsNotWritten(DeliverStep):
    def _finish(
        self, delivery: Delivery, status: DeliveryStatus, code: int | None, error: str | None
    ) -> None:
        if status is not DeliveryStatus.DELIVERED:
            super()._finish(delivery, status, code, error)


class FailedDeliveryIsNotDeadLettered(DeliverStep):
    def _give_up(self, delivery: Delivery, result: Delivered) -> Delivered:
        self._finish(delivery, DeliveryStatus.FAILED, delivery.last_code, delivery.last_error)
        return result


class FailedAttemptSendsNoMessage(DeliverStep):
    def _conclude(
        self, record: ExecutionRecord, delivery: Delivery, attempt: Attempt, result: Delivered
    ) -> Delivered:
        with patch.object(self._queue, "send"):
            return super()._conclude(record, delivery, attempt, result)


class CleanUpKeepsOutput(DeliverStep):
    def _clean_up(self, record: ExecutionRecord, delivery: Delivery, result: Delivered) -> Delivered:
        return super()._clean_up(
            replace(record, deliver_to=(*record.deliver_to, "dynamodb")), delivery, result
        )


class SweepIgnoresLostMessages(DeliverySweeper):
    def _due(self) -> Iterator[DueDelivery]:
        return (due for due in super()._due() if not due.queued)


class SweepIgnoresLaterAttempts(DeliverySweeper):
    def _due(self) -> Iterator[DueDelivery]:
        return (due for due in super()._due() if due.queued)


class ResendKeepsAttempts(WebhookDeliveries):
    def reset(self, delivery: Delivery, *, exists: bool, now: float, queued: bool) -> Delivery:
        fresh = replace(delivery, status=DeliveryStatus.PENDING, next_at=int(now), queued=queued)
        return self._write(fresh, webhook_deliveries._as_read(delivery) if exists else None)  # noqa: SLF001 - the bug


class DeliveryOfErasedExecutionIsKept(WebhookDeliveries):
    def delete(self, execution_id: str, event_id: str) -> None:
        pass


class TwoCallsMakeSameAttempt(WebhookDeliveries):
    def _write(self, delivery: Delivery, as_read: tuple[str, dict[str, Any]] | None) -> Delivery:
        return super()._write(delivery, as_read and ("attribute_exists(pk)", {}))


class LateResultOverwritesNewerAttempt(WebhookDeliveries):
    def finish(
        self,
        delivery: Delivery,
        status: DeliveryStatus,
        *,
        now: float,
        code: int | None,
        error: str | None,
    ) -> Delivery:
        current = self.get(delivery.execution_id, delivery.event_id)
        return super().finish(current or delivery, status, now=now, code=code, error=error)


class PlacesAreNeverGivenBack(WebhookHosts):
    def leave(
        self, host: str, token: str, now: float, *, host_failed: bool | None, error: str | None
    ) -> None:
        pass


def admit_while_open(
    state: HostState, token: str, now: float, *, limit: int, held_back_s: float
) -> tuple[Admission, HostState]:
    return _enter(state, token, now, limit=limit, held_back_s=2 * webhook_host.MAX_HELD_BACK_S)


def admit_above_share(
    state: HostState, token: str, now: float, *, limit: int, held_back_s: float
) -> tuple[Admission, HostState]:
    return _enter(state, token, now, limit=1_000, held_back_s=held_back_s)


def admit_every_probe(
    state: HostState, token: str, now: float, *, limit: int, held_back_s: float
) -> tuple[Admission, HostState]:
    failures = min(state.failures, webhook_host.OPEN_AFTER - 1)
    admission, entered = _enter(
        replace(state, failures=failures), token, now, limit=limit, held_back_s=held_back_s
    )
    return admission, replace(entered, failures=state.failures)


def never_close(
    state: HostState, token: str, now: float, *, host_failed: bool | None, error: str | None
) -> HostState:
    left = _leave(state, token, now, host_failed=host_failed, error=error)
    return replace(left, failures=state.failures, open_until=state.open_until) if not host_failed else left


_enter, _leave = webhook_host.enter, webhook_host.leave

# --- api ---


class CancelIsAlwaysConfirmed(ExecutionCanceller):
    def cancel(self, record: ExecutionRecord, *, by_operator: bool = False) -> CancelResult:
        return replace(super().cancel(record, by_operator=by_operator), cancelled=True)


class CancelIsAlwaysOfCaller(ExecutionCanceller):
    def cancel(self, record: ExecutionRecord, *, by_operator: bool = False) -> CancelResult:
        return super().cancel(record)


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
        found_by_seed=254,
    ),
    Mutation(
        "every event of a stream postpones the next poll by a minute",
        Invariant.OUTCOME_IS_TIMELY,
        replacements=(Replacement(polling_policy, "poll_due_at", poll_a_minute_after_last_event),),
        found_by_seed=1_061,
    ),
    Mutation(
        "after a final event the status is polled only once",
        Invariant.OUTCOME_IS_TIMELY,
        replacements=(Replacement(polling_policy, "poll_due_at", poll_once_after_final_event),),
        found_by_seed=1_061,
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
        found_by_seed=725,
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
        found_by_seed=172,
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
        found_by_seed=408,
    ),
    Mutation(
        "a record is withdrawn although another call of the API has returned it",
        Invariant.RECORD_IS_KEPT,
        Components(table=WithdrawIgnoresOtherCallers),
        found_by_seed=2_842,
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
        found_by_seed=1_253,
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
        found_by_seed=106,
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
        found_by_seed=189,
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
        found_by_seed=442,
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
        found_by_seed=110,
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
        found_by_seed=2_046,
    ),
    Mutation(
        "the first fault of an AWS service ends a job",
        Invariant.OUTCOME_SURVIVES_OUTAGE,
        Components(status_poller=FirstDependencyFaultEndsJob),
        found_by_seed=388,
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
        found_by_seed=128,
    ),
    Mutation(
        "a job is given up without a cancel request",
        Invariant.JOB_IS_CANCELLED_AFTER_FAULT,
        Components(cancel_step=FaultIsReportedWithoutCancel),
        found_by_seed=232,
    ),
    Mutation(
        'the answer to a cancel is always "cancelled"',
        Invariant.CANCEL_ANSWER_IS_TRUE,
        Components(execution_canceller=CancelIsAlwaysConfirmed),
    ),
    Mutation(
        "the cancel of an operator is reported as one of the caller",
        Invariant.CANCEL_MESSAGE_IS_TRUE,
        Components(execution_canceller=CancelIsAlwaysOfCaller),
    ),
    Mutation(
        "a request is withdrawn although StartExecution may have been carried out",
        Invariant.KEY_HAS_ONE_JOB,
        replacements=(Replacement(service, "_is_refusal", every_error_is_refusal),),
    ),
    Mutation(
        "a target that received the outcome receives it again when another one fails",
        Invariant.TARGET_IS_NOT_REPEATED,
        Components(notifier=IgnoresTargetsThatReceivedOutcome),
    ),
    Mutation(
        "an entry that EventBridge refuses counts as put",
        Invariant.EVENT_IS_PUT,
        replacements=(Replacement(delivery_targets, "refusal_code", lambda _response: None),),
    ),
    Mutation(
        "a failure of the bus is ignored",
        Invariant.EVENT_IS_PUT,
        Components(event_bus_target=FailureOfBusIsIgnored),
    ),
    Mutation(
        "every outcome is put on the bus",
        Invariant.EVENT_IS_WANTED,
        Components(event_bus_target=EveryOutcomeIsPutOnBus),
    ),
    Mutation(
        "progress is put on the bus for each request",
        Invariant.EVENT_IS_WANTED,
        Components(event_bus_target=ProgressIsPutOnBusForEachRequest),
    ),
    Mutation(
        "an event on the bus has no output",
        Invariant.EVENT_IS_NOTIFICATION,
        Components(event_bus_target=EventHasNoOutput),
    ),
    Mutation(
        "the bus comes first, and its failure ends the call",
        Invariant.TOPIC_IGNORES_FAILURE_OF_BUS,
        Components(notifier=FirstFailureEndsPublishing),
    ),
    Mutation(
        "a record does not list the targets that have received its outcome",
        Invariant.TOPIC_IGNORES_FAILURE_OF_BUS,
        Components(notifier=FailureLeavesNoMark),
        found_by_seed=1_744,
    ),
    Mutation(
        "a redelivery is not put on the bus",
        Invariant.REDELIVERY_REACHES_TARGETS,
        Components(notifier=RedeliversToTopicOnly),
    ),
    Mutation(
        "a redelivery is sent to the webhook too",
        Invariant.TARGET_IS_NOT_REPEATED,
        Components(notifier=RedeliversToWebhook),
    ),
    Mutation(
        "a failure of the queue of webhooks is ignored",
        Invariant.WEBHOOK_IS_DELIVERED,
        Components(webhook_target=FailureOfQueueIsIgnored),
        found_by_seed=119,
    ),
    Mutation(
        "the late result of an attempt overwrites a resend",
        Invariant.DELIVERY_MATCHES_ANSWER,
        Components(deliveries=LateResultOverwritesNewerAttempt),
        found_by_seed=1_932,
    ),
    Mutation(
        "every outcome is sent to the webhook",
        Invariant.WEBHOOK_IS_WANTED,
        Components(webhook_target=EveryOutcomeIsSent),
    ),
    Mutation(
        "progress is sent to each webhook",
        Invariant.WEBHOOK_IS_WANTED,
        Components(webhook_target=ProgressIsSentToEachWebhook),
    ),
    Mutation(
        "the event of a webhook has the time of its attempt",
        Invariant.WEBHOOK_IS_CONSTANT,
        Components(webhook_requests=EventHasTimeOfAttempt),
    ),
    Mutation(
        "a thin webhook has the output",
        Invariant.WEBHOOK_MATCHES_RECORD,
        Components(webhook_requests=ThinWebhookHasOutput),
    ),
    Mutation(
        "an attempt is counted after its request",
        Invariant.ATTEMPT_IS_COUNTED,
        Components(webhook_attempts=AttemptIsCountedAfterRequest),
    ),
    Mutation(
        "two messages of a delivery make the same attempt",
        Invariant.ATTEMPT_IS_COUNTED,
        Components(deliveries=TwoCallsMakeSameAttempt),
        found_by_seed=128,
    ),
    Mutation(
        "a message that comes too early makes an attempt",
        Invariant.ATTEMPT_IS_DUE,
        replacements=(Replacement(webhook_retries, "TOLERANCE_S", 1_000.0),),
    ),
    Mutation(
        "a failed attempt sends no message for the next one",
        Invariant.ATTEMPT_IS_DUE,
        Components(deliver_step=FailedAttemptSendsNoMessage),
    ),
    Mutation(
        "an attempt that the host does not admit counts as failed",
        Invariant.ATTEMPT_IS_COUNTED,
        Components(webhook_attempts=NoAttemptIsMadeWithoutPlace),
    ),
    Mutation(
        "a delivery ends after two days",
        Invariant.WEBHOOK_SURVIVES_OUTAGE,
        replacements=(Replacement(webhook_retries, "MAX_AGE_S", 2 * 24 * 3600),),
        found_by_seed=324,
    ),
    Mutation(
        "a resend keeps the number of attempts",
        Invariant.WEBHOOK_USES_ITS_ATTEMPTS,
        Components(deliveries=ResendKeepsAttempts),
        found_by_seed=160,
    ),
    Mutation(
        "the result of a delivery is not written",
        Invariant.WEBHOOK_IS_NOT_REPEATED,
        Components(deliver_step=ResultOfDeliveryIsNotWritten),
    ),
    Mutation(
        "a failed delivery is not dead-lettered",
        Invariant.DELIVERY_MATCHES_ANSWER,
        Components(deliver_step=FailedDeliveryIsNotDeadLettered),
    ),
    Mutation(
        "an answer 410 counts as delivered",
        Invariant.DELIVERY_MATCHES_ANSWER,
        replacements=(Replacement(Attempt, "is_delivered", property(lambda self: self.code in {204, 410})),),
    ),
    Mutation(
        "progress that waits in the queue is sent after the outcome",
        Invariant.NO_PROGRESS_AFTER_OUTCOME,
        Components(deliver_step=ProgressIsSentAfterOutcome),
    ),
    Mutation(
        "the sweep of deliveries ignores lost messages",
        Invariant.DELIVERIES_END,
        Components(delivery_sweeper=SweepIgnoresLostMessages),
        found_by_seed=277,
    ),
    Mutation(
        "the sweep of deliveries ignores attempts that are later than a message can wait",
        Invariant.DELIVERIES_END,
        Components(delivery_sweeper=SweepIgnoresLaterAttempts),
    ),
    Mutation(
        "the delivery of an erased execution is kept",
        Invariant.DELIVERIES_END,
        Components(deliveries=DeliveryOfErasedExecutionIsKept),
        found_by_seed=110,
    ),
    Mutation(
        "the deliver function keeps records in memory",
        Invariant.ERASED_IS_NOT_SENT,
        Components(table=DeliverKeepsRecordsInMemory),
        found_by_seed=128,
    ),
    Mutation(
        "a notified record loses its output before its webhook is delivered",
        Invariant.OUTPUT_IS_KEPT,
        replacements=(Replacement(ExecutionsTable, "mark_notified", mark_notified_without_output),),
    ),
    Mutation(
        "the output is dropped directly after the delivery",
        Invariant.OUTPUT_IS_KEPT,
        replacements=(Replacement(webhook_deliveries, "KEPT_AFTER_S", 0),),
    ),
    Mutation(
        "a resend does not wait for the clean-up of its record",
        Invariant.OUTPUT_IS_KEPT,
        replacements=(Replacement(resend, "_is_cleaned_up_soon", lambda _delivery, _now: False),),
        found_by_seed=643,
    ),
    Mutation(
        "the output is not dropped a day after the delivery",
        Invariant.OUTPUT_IS_DROPPED,
        Components(deliver_step=CleanUpKeepsOutput),
    ),
    Mutation(
        "an open breaker admits attempts",
        Invariant.OPEN_HOST_IS_NOT_USED,
        replacements=(Replacement(webhook_host, "enter", admit_while_open),),
    ),
    Mutation(
        "several attempts probe a host after its breaker was open",
        Invariant.OPEN_HOST_IS_NOT_USED,
        replacements=(Replacement(webhook_host, "enter", admit_every_probe),),
        found_by_seed=4_312,
    ),
    Mutation(
        "one host may use the whole concurrency",
        Invariant.HOST_IS_SHARED,
        replacements=(Replacement(webhook_host, "enter", admit_above_share),),
        found_by_seed=211,
    ),
    Mutation(
        "a breaker never opens",
        Invariant.BREAKER_COUNTS_FAILURES,
        replacements=(Replacement(webhook_host, "OPEN_AFTER", 10_000),),
    ),
    Mutation(
        "a breaker never closes",
        Invariant.BREAKER_COUNTS_FAILURES,
        replacements=(Replacement(webhook_host, "leave", never_close),),
    ),
    Mutation(
        "a breaker counts answers 404",
        Invariant.BREAKER_COUNTS_FAILURES,
        replacements=(Replacement(Attempt, "host_failed", property(lambda self: self.error is not None)),),
    ),
    Mutation(
        "places of a host are never given back",
        Invariant.PLACE_IS_GIVEN_BACK,
        Components(hosts=PlacesAreNeverGivenBack),
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
