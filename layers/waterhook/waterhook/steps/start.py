"""The start step: claims the record of an execution, sends one POST, saves the id of the job."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from waterhook.domain import polling_policy, retry_policy
from waterhook.domain.jitter import jitter_of
from waterhook.domain.loop_state import STATE_VERSION, LoopState, NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.request import Request
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import (
    DependencyUnavailableError,
    KeyUnavailableError,
    NotAcceptedError,
    RecordConflictError,
    RecordUnavailableError,
    UpstreamError,
    UpstreamUnavailableError,
)
from waterhook.notifications import state_machine_output
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.wait_reason import WaitReason, end_without_job, waiting_attribute
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import format_duration
from waterhook.timestamps import to_epoch_s, to_rfc3339

_SERVICE_UNAVAILABLE = 503
# A start whose answer came is undone: so often, with these pauses, and for no longer than this. The function ends after
# 30 s, of which the POST may have taken most.
_UNDO_PAUSES_S = (0.5, 1.0, 1.5)
_UNDO_S = 4.0
_CANCELLED_BEFORE = {"code": "cancelled", "message": "cancelled before it was started"}


class Upstream(Protocol):
    """What a start needs of the client."""

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        """Start an execution and return its id."""

    def cancel(self, execution_id: str) -> object:
        """Cancel it."""


class StartStep:
    """One key, one remote job: every edge between ACCEPTED, STARTING and RUNNING is a conditional write.

    A fault of Waterhook before the POST, of the table or the secret, is waited out: nothing was sent, so the record
    is read again later. `read_key` raises KeyUnavailableError where the upstream could not be called.
    """

    def __init__(
        self,
        table: ExecutionsTable,
        upstream: Upstream,
        settings: Settings,
        clock: Callable[[], float],
        limiter: ConcurrencyLimiter | None = None,
        *,
        telemetry: Telemetry,
        read_key: Callable[[], object] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limiter = limiter
        self._telemetry = telemetry
        self._table = table
        self._upstream = upstream
        self._settings = settings
        self._defaults = settings.defaults
        self._limits = settings.limits(0.0)
        self._clock = clock
        self._read_key = read_key
        self._sleep = sleep

    def start(self, given: object, *, owner: str, started_at: str) -> dict[str, Any]:
        """Return the state of the loop, or how this execution ends where the request is another's.

        Idempotent: safe to call again after any crash, since the record shows how far the last call came.
        """
        now = self._clock()
        defaults = self._defaults
        trigger = TriggerInput.read(given, execution_arn=owner, started_at=started_at, defaults=defaults)
        try:
            record = self._table.claim(trigger, owner=owner, now=now, deliver_to=defaults.deliver_to)
        except RecordUnavailableError as error:
            return self._unclaimed(given, trigger, owner, started_at, error)
        request = trigger.request
        if record.owner_execution_arn != owner:
            same = record.request_sha256 == (request.sha256 if request else None)
            return (
                state_machine_output.duplicate_output(record)
                if same
                else state_machine_output.conflict_output(record)
            )
        accepted_at = to_epoch_s(record.created_at) or now
        events = polling_policy.events_before_start(
            record.start_attempts, now - accepted_at, record.deadline - accepted_at
        )
        state = LoopState(
            record.execution_id,
            record.deadline,
            PollHistory(round(now, 3), earlier_events=events),
            record.waterflai_execution_id,
            progress_events=record.progress_events,
            chatbot_id=record.chatbot_id,
        )
        if request is None:
            problem = trigger.problem or ""
            return state.ended(Status.REJECTED, code="invalid_request", message=problem).to_dict()
        try:
            return self._go_on(state, record, request).to_dict()
        except DependencyUnavailableError as error:
            return self._put_off(state, record, error).to_dict()

    def _unclaimed(
        self, given: object, trigger: TriggerInput, owner: str, started_at: str, error: RecordUnavailableError
    ) -> dict[str, Any]:
        """Return the state of an execution whose record can neither be read nor written: it has no job yet."""
        now = self._clock()
        accepted_at = to_epoch_s(started_at) or now
        timeout_s = trigger.request.timeout_seconds if trigger.request else retry_policy.START_FAULT_LIMIT_S
        age_s = now - accepted_at
        decision = retry_policy.next_attempt_after_fault(
            age_s, now, accepted_at + timeout_s, jitter_of(owner, int(now))
        )
        self._report_fault(error)
        state = {"v": STATE_VERSION, "outcome": Status.RUNNING, "wait_seconds": decision.wait_seconds}
        if decision.next is NextStep.NOTIFY:
            # As the state machine reports a fault: notify finds the record by the input, or writes it.
            fault = f"{error}, for {format_duration(age_s)}"
            return state | {"next": decision.next, "outcome": Status.ERROR, "fault": fault, "input": given}
        return state | {"next": decision.next}

    def _put_off(
        self, state: LoopState, record: ExecutionRecord, error: DependencyUnavailableError
    ) -> LoopState:
        """Return the state on its way to another look at its record, or ended where that has gone on for too long."""
        self._report_fault(error)
        now = self._clock()
        decision = self._after_fault(record)
        if decision.next is NextStep.NOTIFY:
            message = f"Waterhook could not start it for {format_duration(now - self._accepted_at(record))}: {error}"
            # Without the table it is not known what another call of this execution has done meanwhile.
            if isinstance(error, RecordUnavailableError):
                return end_without_job(state, record, Status.ERROR, code="fault", message=message)
            rejected = end_without_job(state, record, Status.REJECTED, code="fault", message=message)
            return self._unless_begun(state, record, rejected)
        if not isinstance(error, RecordUnavailableError):
            why = waiting_attribute(
                WaitReason.RETRYING, str(error), now, decision.wait_seconds, record.waiting
            )
            # Only what GET shows: the next look goes by the record, whatever has become of it.
            with suppress(RecordConflictError, RecordUnavailableError):
                self._table.wait(record, why)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _after_fault(self, record: ExecutionRecord) -> polling_policy.Decision:
        now = self._clock()
        age_s = now - self._accepted_at(record)
        return retry_policy.next_attempt_after_fault(
            age_s, now, record.deadline, jitter_of(record.execution_id, int(now))
        )

    def _accepted_at(self, record: ExecutionRecord) -> float:
        return to_epoch_s(record.created_at) or self._clock()

    def _go_on(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        if record.status is Status.ACCEPTED:
            return self._accepted(state, record, request)
        if record.status is Status.STARTING:
            # The last call ended, or lost the table, between its first write and its last one.
            return self._perhaps_accepted(
                state, record, "the start was interrupted before its result was saved"
            )
        if record.status is Status.RUNNING:
            return self._running(state)
        return state.ended(record.status)

    def _accepted(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        if record.cancel_requested:
            return end_without_job(state, record, Status.CANCELLED, **_CANCELLED_BEFORE)
        now = self._clock()
        if now >= record.deadline:
            return self._unless_begun(state, record, self._overdue(state, record, now))
        self._read_key()
        if self._limiter is not None:
            mark = partial(self._table.take_slots, record)
            try:
                slot = self._limiter.acquire(
                    record.execution_id, request.chatbot_id, record.slots or (), mark
                )
            except RecordConflictError:
                return self._overtaken(state)
            if not slot:
                return self._queued(state, record, slot)
        return self._post(state, record, request)

    def _unless_begun(self, state: LoopState, record: ExecutionRecord, rejected: LoopState) -> LoopState:
        """Return `rejected`, once no other call of this execution can start its job.

        A call that Step Functions gave up and repeated may still run. Only one of the two passes from ACCEPTED to
        STARTING.
        """
        try:
            self._begin(record)
        except RecordConflictError:
            return self._overtaken(state)
        return rejected

    def _begin(self, record: ExecutionRecord) -> ExecutionRecord:
        first_at = record.first_attempt_at or to_rfc3339(self._clock())
        return self._table.begin_start(replace(record, first_attempt_at=first_at))

    def _overdue(self, state: LoopState, record: ExecutionRecord, now: float) -> LoopState:
        """Return the state as rejected at its deadline, with the reason for which it waited until then."""
        waiting = record.waiting or {}
        if waiting.get("reason") == WaitReason.QUEUED:
            waited_s = now - (to_epoch_s(waiting["since"]) or now)
            message = f"waited {waited_s:,.0f} s for a free slot ({waiting['detail']}); it was never started"
            return end_without_job(state, record, Status.REJECTED, code="no_capacity", message=message)
        if waiting:
            return self._never_started(state, record, waiting["detail"])
        age = format_duration(now - self._accepted_at(record))
        message = (
            f"its deadline passed {age} after it was accepted, before an attempt to start it;"
            " the history of its state machine execution shows why"
        )
        return end_without_job(state, record, Status.REJECTED, code="start_deadline", message=message)

    def _queued(self, state: LoopState, record: ExecutionRecord, taking: Acquisition) -> LoopState:
        """Return the state on its way to another look for a free slot; its record stays ACCEPTED meanwhile."""
        before = record.waiting or {}
        conflicts = int(before.get("conflicts", 0)) + taking.is_contended
        if taking.full:
            self._telemetry.add_metric(Metric.STARTS_QUEUED)
        now = self._clock()
        decision = retry_policy.next_slot_attempt(
            record.deadline - self._accepted_at(record),
            now,
            replace(self._limits, deadline=state.deadline),
            jitter_of(record.execution_id, int(now)),
            conflicts if taking.is_contended else 0,
        )
        detail = taking.full or before.get("detail") or "other requests took slots at the same time"
        why = waiting_attribute(
            WaitReason.QUEUED, detail, now, decision.wait_seconds, record.waiting, conflicts
        )
        try:
            self._table.wait(record, why)
        except RecordConflictError:
            return self._overtaken(state)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _post(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        waited = record.waiting
        try:
            record = self._begin(record)
        except RecordConflictError:
            # The slot is not released: an outcome that came first has released it, a start that came first uses it.
            return self._overtaken(state)
        # For the reason for which it waits next: `since` counts from when that began.
        record = replace(record, waiting=waited)
        try:
            upstream_id = self._upstream.start(request.chatbot_id, request.input_data)
        except KeyUnavailableError as error:
            # Nothing was sent: the key is read before the connection is opened.
            return self._again(state, record, str(error), WaitReason.RETRYING, self._after_fault(record))
        except UpstreamError as error:
            return self._not_started(state, record, error)
        state = replace(state, waterflai_execution_id=upstream_id)
        try:
            record = self._saved(record, upstream_id)
        except RecordConflictError:
            # An outcome was written during the POST: no execution waits for this job.
            self._cancel_quietly(upstream_id)
            return self._overtaken(state)
        except RecordUnavailableError:
            self._telemetry.logger.warning(
                "the upstream id is not saved yet", execution_id=state.execution_id
            )
            state = replace(state, unsaved=True)
        if record.cancel_requested:
            return replace(state, next=NextStep.CANCEL, cancel_requested=True)
        return self._running(state)

    def _saved(self, record: ExecutionRecord, upstream_id: str) -> ExecutionRecord:
        """Return the record with the upstream's id. Raises RecordConflictError when an outcome came first."""
        try:
            return self._table.save_start(record, upstream_id, self._clock())
        except RecordConflictError:
            current = self._table.get(record.execution_id, self._clock())
            if current and current.status is Status.RUNNING and current.waterflai_execution_id == upstream_id:
                # It was our own write: its answer was lost, and boto3's repetition of it came too late.
                return current
            raise

    def _not_started(self, state: LoopState, record: ExecutionRecord, error: UpstreamError) -> LoopState:
        ambiguous_503 = error.status == _SERVICE_UNAVAILABLE and self._settings.uncertain_on_503
        if not isinstance(error, NotAcceptedError) or ambiguous_503:
            return self._perhaps_accepted(state, record, error.message, error.retry_after_s)
        if not isinstance(error, UpstreamUnavailableError):
            message = f"Waterflai refused the start: {error.message}"
            return end_without_job(state, record, Status.REJECTED, code=error.code, message=message)
        decision = self._start_again(record, error.retry_after_s)
        return self._again(state, record, error.message, WaitReason.of(error), decision)

    def _perhaps_accepted(
        self, state: LoopState, record: ExecutionRecord, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        if self._settings.at_least_once:
            decision = self._start_again(record, retry_after_s)
            return self._again(state, record, why, WaitReason.RETRYING, decision, perhaps_started=True)
        message = f"{why}; Waterflai may be running this job, and it was not started a second time"
        return state.ended(Status.UNCERTAIN, code="start_uncertain", message=message)

    def _start_again(self, record: ExecutionRecord, retry_after_s: float | None) -> polling_policy.Decision:
        now = self._clock()
        first_at = to_epoch_s(record.first_attempt_at) or now
        # A job that is started at the deadline of the request would be cancelled immediately.
        last_at = min(first_at + self._settings.start_deadline_s, record.deadline - retry_policy.LAST_START_S)
        jitter = jitter_of(record.execution_id, record.start_attempts)
        return retry_policy.next_start_attempt(
            record.start_attempts, retry_after_s, now, replace(self._limits, deadline=last_at), jitter
        )

    def _again(
        self,
        state: LoopState,
        record: ExecutionRecord,
        why: str,
        reason: WaitReason,
        decision: polling_policy.Decision,
        *,
        perhaps_started: bool = False,
    ) -> LoopState:
        """Return the state on its way to another start, or ended when that is not to be tried any more."""
        waiting = waiting_attribute(reason, why, self._clock(), decision.wait_seconds, record.waiting)
        try:
            record = self._undo(record, waiting, perhaps_started=perhaps_started)
        except RecordConflictError:
            return self._overtaken(state)
        except RecordUnavailableError as error:
            # It stays STARTING, so that no later call may post again. This one still knows what has happened.
            record = replace(record, perhaps_started=record.perhaps_started or perhaps_started)
            message = f"{why}; it can't be started again, since {error}"
            return end_without_job(state, record, Status.REJECTED, code="fault", message=message)
        if record.cancel_requested:
            return end_without_job(state, record, Status.CANCELLED, **_CANCELLED_BEFORE)
        if decision.next is NextStep.NOTIFY:
            return self._never_started(state, record, why)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _undo(
        self, record: ExecutionRecord, waiting: Mapping[str, Any], *, perhaps_started: bool
    ) -> ExecutionRecord:
        """Return the record as ACCEPTED. Tried for a few seconds, since a record that stays STARTING ends there."""
        ends_at = self._clock() + _UNDO_S
        for pause_s in _UNDO_PAUSES_S:
            try:
                return self._table.undo_start(record, waiting, perhaps_started=perhaps_started)
            except RecordUnavailableError:
                if self._clock() + pause_s >= ends_at:
                    raise
                self._sleep(pause_s)
        return self._table.undo_start(record, waiting, perhaps_started=perhaps_started)

    def _never_started(self, state: LoopState, record: ExecutionRecord, why: str) -> LoopState:
        """Return the state as rejected at its start deadline: TIMED_OUT would say that one ran."""
        now, attempts = self._clock(), record.start_attempts
        tried_s = now - (to_epoch_s(record.first_attempt_at) or self._accepted_at(record))
        count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
        message = f"it could not be started for {format_duration(tried_s)} ({count}), last: {why}"
        return end_without_job(state, record, Status.REJECTED, code="start_deadline", message=message)

    def _running(self, state: LoopState) -> LoopState:
        follow = self._limits.follow and not state.unsaved
        limits = replace(self._limits, deadline=state.deadline, follow=follow)
        decision = polling_policy.next_step(state.history, self._clock(), limits)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _overtaken(self, state: LoopState) -> LoopState:
        """Return the state as the record has it: final, or cancelled before it was started."""
        record = self._table.get(state.execution_id, self._clock())
        if record is not None and record.status.is_final:
            return state.ended(record.status)
        if record is not None and record.cancel_requested:
            return end_without_job(state, record, Status.CANCELLED, **_CANCELLED_BEFORE)
        message = f"{state.execution_id}: the record is neither final nor cancelled"
        raise RecordConflictError(message)

    def _cancel_quietly(self, upstream_id: str) -> None:
        try:
            self._upstream.cancel(upstream_id)
        except UpstreamError as error:
            self._telemetry.logger.warning(
                "a job that no execution waits for was not cancelled",
                code=error.code,
                http_status=error.status,
            )

    def _report_fault(self, error: DependencyUnavailableError) -> None:
        self._telemetry.logger.warning("the start is put off", fault=type(error).__name__, reason=str(error))
        self._telemetry.add_metric(Metric.DEPENDENCY_FAULTS)
