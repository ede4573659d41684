"""The start step: claims the record of an execution, sends one POST and saves the id of the job.

At-most-once start: each change between ACCEPTED, STARTING and RUNNING is a conditional write, and the POST is sent only
by the call that changed ACCEPTED to STARTING. If the table or the secret fails before the POST, nothing was sent, so
the step runs again later.
"""

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
from waterhook.steps.wait_reason import (
    WaitReason,
    cancel_without_job,
    end_without_job,
    waiting_attribute,
)
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import format_duration
from waterhook.timestamps import to_epoch_s, to_rfc3339

_SERVICE_UNAVAILABLE = 503
# An attempt whose failure is certain sets the record back to ACCEPTED. Pauses between attempts to write that, and their
# total time: the function times out after 30 s, and the POST may have used most of them.
_UNDO_PAUSES_S = (0.5, 1.0, 1.5)
_UNDO_S = 4.0


class Upstream(Protocol):
    """The client methods that a start uses."""

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        """Start a job and return its id."""

    def cancel(self, execution_id: str) -> object:
        """Cancel the job."""


class StartStep:
    """Starts the job of an execution: at most once, or at least once if `StartSemantics` is AT_LEAST_ONCE.

    `read_key` raises KeyUnavailableError if the upstream can't be called.
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

    def start(self, execution_input: object, *, owner: str, started_at: str) -> dict[str, Any]:
        """Return the loop state, or the output of an execution whose key belongs to another execution.

        Idempotent: safe to call again after a crash, because the record has the progress of the last call.
        """
        now = self._clock()
        defaults = self._defaults
        trigger = TriggerInput.read(
            execution_input, execution_arn=owner, started_at=started_at, defaults=defaults
        )
        try:
            record = self._table.claim(trigger, owner=owner, now=now, defaults=defaults)
        except RecordUnavailableError as error:
            return self._defer_unclaimed(execution_input, trigger, owner, started_at, error)
        request = trigger.request
        if record.owner_execution_arn != owner:
            if record.request_sha256 == (request.sha256 if request else None):
                return state_machine_output.duplicate_output(record)
            return state_machine_output.conflict_output(record)
        accepted_at = to_epoch_s(record.created_at) or now
        events = polling_policy.events_before_start(
            record.start_attempts, now - accepted_at, record.deadline - accepted_at
        )
        state = LoopState(
            record.execution_id,
            record.deadline,
            PollHistory(round(now, 3), earlier_events=events),
            record.waterflai_execution_id,
            progress_events=record.publishes_progress,
            chatbot_id=record.chatbot_id,
        )
        if request is None:
            problem = trigger.problem or ""
            return state.ended(Status.REJECTED, code="invalid_request", message=problem).to_dict()
        try:
            return self._continue_from(state, record, request).to_dict()
        except DependencyUnavailableError as error:
            return self._defer(state, record, error).to_dict()

    def _defer_unclaimed(
        self,
        execution_input: object,
        trigger: TriggerInput,
        owner: str,
        started_at: str,
        error: RecordUnavailableError,
    ) -> dict[str, Any]:
        """Return the state of an execution whose record can't be read or written. It has no job yet."""
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
            # As if the state machine had caught an error: notify finds or writes the record from the input.
            fault = f"{error}, for {format_duration(age_s)}"
            return state | {
                "next": decision.next,
                "outcome": Status.ERROR,
                "fault": fault,
                "input": execution_input,
            }
        return state | {"next": decision.next}

    def _defer(
        self, state: LoopState, record: ExecutionRecord, error: DependencyUnavailableError
    ) -> LoopState:
        """Return the state with a wait before the step runs again, or ended if the fault has lasted too long."""
        self._report_fault(error)
        now = self._clock()
        decision = self._after_fault(record)
        if decision.next is NextStep.NOTIFY:
            duration = format_duration(now - self._accepted_at(record))
            message = f"Waterhook could not start the job for {duration}: {error}"
            # Without the table it is unknown what another call of this execution has done since.
            if isinstance(error, RecordUnavailableError):
                return end_without_job(state, record, Status.ERROR, code="fault", message=message)
            rejected = end_without_job(state, record, Status.REJECTED, code="fault", message=message)
            return self._unless_started(state, record, rejected)
        if not isinstance(error, RecordUnavailableError):
            waiting = waiting_attribute(
                WaitReason.RETRYING, str(error), now, decision.wait_seconds, record.waiting
            )
            # Only GET uses this attribute, so a failed write is ignored. The next call reads the record again.
            with suppress(RecordConflictError, RecordUnavailableError):
                self._table.wait(record, waiting)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _after_fault(self, record: ExecutionRecord) -> polling_policy.Decision:
        now = self._clock()
        age_s = now - self._accepted_at(record)
        return retry_policy.next_attempt_after_fault(
            age_s, now, record.deadline, jitter_of(record.execution_id, int(now))
        )

    def _accepted_at(self, record: ExecutionRecord) -> float:
        return to_epoch_s(record.created_at) or self._clock()

    def _continue_from(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        if record.status is Status.ACCEPTED:
            return self._start_accepted(state, record, request)
        if record.status is Status.STARTING:
            # The last call crashed, or the table failed, between its first and its last write.
            return self._after_lost_answer(
                state, record, "the start was interrupted before its result was saved"
            )
        if record.status is Status.RUNNING:
            return self._after_start(state)
        return state.ended(record.status)

    def _start_accepted(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        if record.cancel_requested:
            return cancel_without_job(state, record)
        now = self._clock()
        if now >= record.deadline:
            return self._unless_started(state, record, self._overdue(state, record, now))
        self._read_key()
        if self._limiter is not None:
            mark = partial(self._table.take_slots, record)
            try:
                slot = self._limiter.acquire(
                    record.execution_id, request.chatbot_id, record.slots or (), mark
                )
            except RecordConflictError:
                return self._current_state(state)
            if not slot:
                return self._queued(state, record, slot)
        return self._post(state, record, request)

    def _unless_started(self, state: LoopState, record: ExecutionRecord, rejected: LoopState) -> LoopState:
        """Return `rejected` after making sure that no other call of this execution can start the job.

        A call that timed out in Step Functions and was retried may still run. Only one of the two calls can change
        ACCEPTED to STARTING.
        """
        try:
            self._begin(record)
        except RecordConflictError:
            return self._current_state(state)
        return rejected

    def _begin(self, record: ExecutionRecord) -> ExecutionRecord:
        first_at = record.first_attempt_at or to_rfc3339(self._clock())
        return self._table.begin_start(replace(record, first_attempt_at=first_at))

    def _overdue(self, state: LoopState, record: ExecutionRecord, now: float) -> LoopState:
        """Return the state as REJECTED at the deadline, with the reason why the start waited until then."""
        waiting = record.waiting or {}
        if waiting.get("reason") == WaitReason.QUEUED:
            waited_s = now - (to_epoch_s(waiting["since"]) or now)
            message = (
                f"waited {waited_s:,.0f} s for a free slot ({waiting['detail']}); the job was not started"
            )
            return end_without_job(state, record, Status.REJECTED, code="no_capacity", message=message)
        if waiting:
            return self._reject_at_deadline(state, record, waiting["detail"])
        age = format_duration(now - self._accepted_at(record))
        message = (
            f"the deadline passed {age} after the request was accepted, before the first attempt to start the job;"
            " see the history of the state machine execution"
        )
        return end_without_job(state, record, Status.REJECTED, code="start_deadline", message=message)

    def _queued(self, state: LoopState, record: ExecutionRecord, acquisition: Acquisition) -> LoopState:
        """Return the state with a wait before the next check for a free slot. The record stays ACCEPTED."""
        before = record.waiting or {}
        conflicts = int(before.get("conflicts", 0)) + acquisition.is_contended
        if acquisition.full:
            self._telemetry.add_metric(Metric.STARTS_QUEUED)
        now = self._clock()
        decision = retry_policy.next_slot_attempt(
            record.deadline - self._accepted_at(record),
            now,
            replace(self._limits, deadline=state.deadline),
            jitter_of(record.execution_id, int(now)),
            conflicts if acquisition.is_contended else 0,
        )
        detail = acquisition.full or before.get("detail") or "other requests took slots at the same time"
        waiting = waiting_attribute(
            WaitReason.QUEUED, detail, now, decision.wait_seconds, record.waiting, conflicts
        )
        try:
            self._table.wait(record, waiting)
        except RecordConflictError:
            return self._current_state(state)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _post(self, state: LoopState, record: ExecutionRecord, request: Request) -> LoopState:
        previous_waiting = record.waiting
        try:
            record = self._begin(record)
        except RecordConflictError:
            # Don't release the slot: the call that wrote an outcome has released it, and a started job uses it.
            return self._current_state(state)
        # `begin_start` removes `waiting`. Keep it, so that `since` counts from when the wait began.
        record = replace(record, waiting=previous_waiting)
        try:
            upstream_id = self._upstream.start(request.chatbot_id, request.input_data)
        except KeyUnavailableError as error:
            # Nothing was sent: the key is read before the connection is opened.
            return self._retry(state, record, str(error), WaitReason.RETRYING, self._after_fault(record))
        except UpstreamError as error:
            return self._after_failed_post(state, record, error)
        state = replace(state, waterflai_execution_id=upstream_id)
        try:
            record = self._save_upstream_id(record, upstream_id)
        except RecordConflictError:
            # Another call wrote an outcome during the POST, so no execution waits for this job.
            self._cancel_unwanted_job(upstream_id)
            return self._current_state(state)
        except RecordUnavailableError:
            self._telemetry.logger.warning(
                "upstream id not saved, the next poll saves it", execution_id=state.execution_id
            )
            state = replace(state, unsaved=True)
        if record.cancel_requested:
            return replace(
                state,
                next=NextStep.CANCEL,
                cancel_requested=True,
                cancelled_by_operator=bool(record.cancelled_by_operator),
            )
        return self._after_start(state)

    def _save_upstream_id(self, record: ExecutionRecord, upstream_id: str) -> ExecutionRecord:
        """Return the record with the id of the job. Raises RecordConflictError if an outcome was written first."""
        try:
            return self._table.save_start(record, upstream_id, self._clock())
        except RecordConflictError:
            current = self._table.get(record.execution_id, self._clock())
            if current and current.status is Status.RUNNING and current.waterflai_execution_id == upstream_id:
                # This call wrote it: the response was lost, and the condition failed for boto3's retry.
                return current
            raise

    def _after_failed_post(
        self, state: LoopState, record: ExecutionRecord, error: UpstreamError
    ) -> LoopState:
        ambiguous_503 = error.status == _SERVICE_UNAVAILABLE and self._settings.uncertain_on_503
        if not isinstance(error, NotAcceptedError) or ambiguous_503:
            return self._after_lost_answer(state, record, error.message, error.retry_after_s)
        if not isinstance(error, UpstreamUnavailableError):
            message = f"Waterflai refused the start: {error.message}"
            return end_without_job(state, record, Status.REJECTED, code=error.code, message=message)
        decision = self._next_attempt(record, error.retry_after_s)
        return self._retry(state, record, error.message, WaitReason.of(error), decision)

    def _after_lost_answer(
        self, state: LoopState, record: ExecutionRecord, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        if self._settings.at_least_once:
            decision = self._next_attempt(record, retry_after_s)
            return self._retry(state, record, why, WaitReason.RETRYING, decision, perhaps_started=True)
        message = f"{why}; Waterflai may be running this job, and it was not started a second time"
        return state.ended(Status.UNCERTAIN, code="start_uncertain", message=message)

    def _next_attempt(self, record: ExecutionRecord, retry_after_s: float | None) -> polling_policy.Decision:
        now = self._clock()
        first_at = to_epoch_s(record.first_attempt_at) or now
        # A job that is started at the deadline would be cancelled immediately.
        last_at = min(first_at + self._settings.start_deadline_s, record.deadline - retry_policy.LAST_START_S)
        jitter = jitter_of(record.execution_id, record.start_attempts)
        return retry_policy.next_start_attempt(
            record.start_attempts, retry_after_s, now, replace(self._limits, deadline=last_at), jitter
        )

    def _retry(
        self,
        state: LoopState,
        record: ExecutionRecord,
        why: str,
        reason: WaitReason,
        decision: polling_policy.Decision,
        *,
        perhaps_started: bool = False,
    ) -> LoopState:
        """Return the state with a wait before the next start, or ended if there is no further attempt."""
        waiting = waiting_attribute(reason, why, self._clock(), decision.wait_seconds, record.waiting)
        try:
            record = self._undo(record, waiting, perhaps_started=perhaps_started)
        except RecordConflictError:
            return self._current_state(state)
        except RecordUnavailableError as error:
            # The record stays STARTING, so no later call sends a POST. This call can still report what happened.
            record = replace(record, perhaps_started=record.perhaps_started or perhaps_started)
            message = f"{why}; the start can't be repeated: {error}"
            return end_without_job(state, record, Status.REJECTED, code="fault", message=message)
        if record.cancel_requested:
            return cancel_without_job(state, record)
        if decision.next is NextStep.NOTIFY:
            return self._reject_at_deadline(state, record, why)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _undo(
        self, record: ExecutionRecord, waiting: Mapping[str, Any], *, perhaps_started: bool
    ) -> ExecutionRecord:
        """Set the record back to ACCEPTED. Retries for _UNDO_S: a record that stays STARTING can't start again."""
        ends_at = self._clock() + _UNDO_S
        for pause_s in _UNDO_PAUSES_S:
            try:
                return self._table.undo_start(record, waiting, perhaps_started=perhaps_started)
            except RecordUnavailableError:
                if self._clock() + pause_s >= ends_at:
                    raise
                self._sleep(pause_s)
        return self._table.undo_start(record, waiting, perhaps_started=perhaps_started)

    def _reject_at_deadline(self, state: LoopState, record: ExecutionRecord, why: str) -> LoopState:
        """Return the state as REJECTED at the start deadline. TIMED_OUT would mean that a job has run."""
        now, attempts = self._clock(), record.start_attempts
        tried_s = now - (to_epoch_s(record.first_attempt_at) or self._accepted_at(record))
        count = f"{attempts} attempt{'' if attempts == 1 else 's'}"
        message = f"the job could not be started in {format_duration(tried_s)} ({count}); last failure: {why}"
        return end_without_job(state, record, Status.REJECTED, code="start_deadline", message=message)

    def _after_start(self, state: LoopState) -> LoopState:
        follow = self._limits.follow and not state.unsaved
        limits = replace(self._limits, deadline=state.deadline, follow=follow)
        decision = polling_policy.next_step(state.history, self._clock(), limits)
        return replace(state, next=decision.next, wait_seconds=decision.wait_seconds)

    def _current_state(self, state: LoopState) -> LoopState:
        """Read the record that another call has changed; return it as final, or as cancelled before the start."""
        record = self._table.get(state.execution_id, self._clock())
        if record is not None and record.status.is_final:
            return state.ended(record.status)
        if record is not None and record.cancel_requested:
            return cancel_without_job(state, record)
        message = (
            f"{state.execution_id}: another call changed the record, and it is neither final nor cancelled"
        )
        raise RecordConflictError(message)

    def _cancel_unwanted_job(self, upstream_id: str) -> None:
        try:
            self._upstream.cancel(upstream_id)
        except UpstreamError as error:
            self._telemetry.logger.warning(
                "job without an execution not cancelled",
                code=error.code,
                http_status=error.status,
            )

    def _report_fault(self, error: DependencyUnavailableError) -> None:
        self._telemetry.logger.warning("start deferred", fault=type(error).__name__, reason=str(error))
        self._telemetry.add_metric(Metric.DEPENDENCY_FAULTS)
