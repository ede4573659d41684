"""Mistakes we did not make: each takes one part's place, and some history must notice."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.invariants.world import Parts
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.domain.stream_history import StreamHistory
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import DependencyUnavailableError, RecordConflictError
from waterhook.notifications.notifier import Notifier
from waterhook.steps.cancel import CancelStep
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import MISSING, StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper
from waterhook.steps.wait_reason import WaitReason
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable, mine
from waterhook.storage.unfinished_index import UnfinishedEntry


class LastVerdictWins(ExecutionsTable):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> ExecutionRecord:
        return self._change(record, final_attributes, mine)


class StartsWhatIsNotAccepted(ExecutionsTable):
    def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
        return self._change(record, {"status": Status.STARTING}, mine)


class SavesOverAVerdict(ExecutionsTable):
    def save_start(self, record: ExecutionRecord, waterflai_execution_id: str, now: float) -> ExecutionRecord:
        changes = {"status": Status.RUNNING, "waterflai_execution_id": waterflai_execution_id}
        return self._change(record, changes, mine)


class ForgetsALostAnswer(ExecutionsTable):
    def undo_start(
        self,
        record: ExecutionRecord,
        waiting: Mapping[str, Any] | None = None,
        *,
        perhaps_started: bool = False,
    ) -> ExecutionRecord:
        return super().undo_start(record, waiting)


class WithdrawsWhatOthersCountOn(ExecutionsTable):
    def withdraw(self, record: ExecutionRecord) -> None:
        current = self.get(record.execution_id, 0.0)
        if current is not None and current.status is Status.ACCEPTED:
            key = {"execution_id": {"S": record.execution_id}}
            self._client.delete_item(TableName=self._table, Key=key)


class PublishesBeforeItWrites(Notifier):
    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> dict[str, Any]:
        if not record.status.is_final:
            given = {name: value for name, value in final_attributes.items() if value is not None}
            self._publish(replace(record, **given))
        return super().conclude(record, final_attributes)

    def _publish(self, record: ExecutionRecord) -> None:
        for target in self._targets:
            target.deliver(record)


class RemembersBeforeItPublishes(Notifier):
    def _deliver(self, record: ExecutionRecord) -> ExecutionRecord:
        if record.notified_at is None:
            try:
                self._table.mark_notified(record, self._clock())
            except RecordConflictError:
                return record
        return super()._deliver(record)


class SpeaksForAnyone(Notifier):
    def notify(self, job: LoopState, owner: str) -> dict[str, Any]:
        record = self._table.get(job.execution_id, self._clock())
        assert record is not None
        return self.conclude(record, self.final_attributes(job))


class ActsForAnyone(StartStep):
    def start(self, given: object, *, owner: str, started_at: str) -> dict[str, Any]:
        now, defaults = self._clock(), self._settings.defaults
        trigger = TriggerInput.read(given, execution_arn=owner, started_at=started_at, defaults=defaults)
        record = self._table.claim(trigger, owner=owner, now=now, deliver_to=defaults.deliver_to)
        return super().start(given, owner=record.owner_execution_arn, started_at=started_at)


class KeepsItsSlots(ConcurrencyLimiter):
    def release(self, execution_id: str, slots: Iterable[str]) -> None:
        pass


class TakesASlotTooLate(ConcurrencyLimiter):
    def acquire(
        self,
        execution_id: str,
        chatbot_id: str,
        held: Iterable[str] = (),
        mark: Callable[[list[str]], Any] | None = None,
    ) -> Acquisition:
        return super().acquire(execution_id, chatbot_id)


class GivesAwayWhatIsInUse(StartStep):
    def _current_state(self, job: LoopState) -> LoopState:
        assert self._limiter is not None
        self._limiter.release(job.execution_id, self._limiter.slots_of("support-chat"))
        return super()._current_state(job)


class PostsAgain(StartStep):
    def _after_lost_answer(
        self, job: LoopState, record: ExecutionRecord, why: str, retry_after_s: float | None = None
    ) -> LoopState:
        decision = self._next_attempt(record, retry_after_s)
        return self._retry(job, record, why, WaitReason.RETRYING, decision)


class CallsADoneJobCancelled(JobCanceller):
    def stop(self, job: LoopState, outcome: Status, *, code: str, message: str) -> LoopState:
        stopped = super().stop(job, outcome, code=code, message=message)
        return job.ended(outcome, code=code, message=message) if stopped.outcome.is_final else stopped


class SweepsTheLiving(StateMachineExecutions):
    def running(self, remaining_s: Callable[[], float]) -> Iterator[str]:
        yield from ()

    def final_status(self, owner: str) -> str | None:
        return super().final_status(owner) or "FAILED"


class SweepsOnlyWhatHasNoVerdict(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        return "alive" if record is None or record.status.is_final else super()._handle(entry)


class SweepsWhatWasStartedOnly(StateMachineExecutions):
    def final_status(self, owner: str) -> str | None:
        status = super().final_status(owner)
        return None if status == MISSING else status


class DiscardsWhatMayHaveAJob(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        if (
            record is not None
            and record.status is Status.ACCEPTED
            and entry.owner == record.owner_execution_arn
        ):
            key = {"execution_id": {"S": record.execution_id}}
            self._table._client.delete_item(TableName="executions", Key=key)  # noqa: SLF001 - it is a mistake
            return "discarded"
        return super()._handle(entry)


class ForgetsTheSlotOfWhatIsNotified(Sweeper):
    def _handle(self, entry: UnfinishedEntry) -> str:
        record = self._table.get(entry.execution_id, self._clock())
        if record is not None and record.notified_at is not None:
            self._table.leave_index(record)
            return "alive"
        return super()._handle(entry)


class BelievesTheStream(StatusPoller):
    def due_at(self, job: LoopState, stream: StreamHistory) -> float:
        return job.deadline if stream.final_event_at is None else super().due_at(job, stream)


class PutsOffPollsForEvents(StatusPoller):
    def due_at(self, job: LoopState, stream: StreamHistory) -> float:
        return min((stream.event_at or 0.0) + 60.0, job.deadline)


class ForgetsToPollAgain(StatusPoller):
    def due_at(self, job: LoopState, stream: StreamHistory) -> float:
        lagging = stream.final_event_at is not None and (job.history.polled_at or 0.0) > stream.final_event_at
        return job.deadline if lagging else super().due_at(job, stream)


class EndsAtTheFirstFault(StatusPoller):
    def dependency_failed(self, job: LoopState, error: DependencyUnavailableError) -> LoopState:
        return job.ended(Status.ERROR, code="fault", message=str(error))


class RaisesItsFaults(StatusPoller):
    def dependency_failed(self, job: LoopState, error: DependencyUnavailableError) -> LoopState:
        raise error


class LooksAtNoRecord(FinalRecordCheck):
    def end_if_final(self, job: LoopState, began_at: float) -> LoopState:
        return job


class ReportsWithoutACancel(CancelStep):
    def cancel(self, job: LoopState, owner: str) -> LoopState:
        if job.fault is not None:
            return job.ended(Status.ERROR, code="fault", message=job.fault)
        return super().cancel(job, owner)


SEEDED = {
    "the last outcome wins": Parts(records=LastVerdictWins),
    "a start that does not look whether it was cancelled": Parts(records=StartsWhatIsNotAccepted),
    "an upstream id saved over an outcome": Parts(records=SavesOverAVerdict),
    "a lost answer that no later outcome mentions": Parts(records=ForgetsALostAnswer),
    "a record withdrawn that another caller counts on": Parts(records=WithdrawsWhatOthersCountOn),
    "published from the job, before the outcome is written": Parts(notifier=PublishesBeforeItWrites),
    "recorded as published before it is": Parts(notifier=RemembersBeforeItPublishes),
    "a duplicate that acts as the owner": Parts(start_step=ActsForAnyone, notifier=SpeaksForAnyone),
    "slots that are never given back": Parts(capacity=KeepsItsSlots),
    "a slot taken after the end": Parts(capacity=TakesASlotTooLate),
    "a slot given away while it is in use": Parts(start_step=GivesAwayWhatIsInUse),
    "a second POST after a lost answer": Parts(start_step=PostsAgain),
    "a finished job recorded as cancelled": Parts(job_canceller=CallsADoneJobCancelled),
    "a sweep that ends what still runs": Parts(executions=SweepsTheLiving),
    "a sweep that does not look for what was never published": Parts(sweeper=SweepsOnlyWhatHasNoVerdict),
    "a sweep that does not look for what was never started": Parts(executions=SweepsWhatWasStartedOnly),
    "a sweep that discards what was answered 202": Parts(sweeper=DiscardsWhatMayHaveAJob),
    "a sweep that forgets the slots of what is notified": Parts(sweeper=ForgetsTheSlotOfWhatIsNotified),
    "a follow that takes an open stream for a working one": Parts(poller=BelievesTheStream),
    "a poll that every event postpones": Parts(poller=PutsOffPollsForEvents),
    "a final event after which the status is polled once": Parts(poller=ForgetsToPollAgain),
    "a fault of an AWS service that ends a job": Parts(poller=EndsAtTheFirstFault),
    "a fault of an AWS service that is an exception": Parts(poller=RaisesItsFaults),
    "a loop that does not look whether its record is final": Parts(check=LooksAtNoRecord),
    "a job that is given up without a cancel": Parts(cancel_step=ReportsWithoutACancel),
}
