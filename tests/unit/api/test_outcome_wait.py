"""Waiting for an outcome, with a clock that moves with each pause and each call to AWS."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import NOW, Clock
from tests.support.builders import SUCCESS_AND_FAILURE, final_record, running_record
from waterhook import aws_config
from waterhook.api.callers import Caller
from waterhook.api.outcome_wait import MAX_FAILURES, PAUSE_S, OutcomeWait, Waited, WaitResult
from waterhook.domain.status import Status
from waterhook.errors import RecordUnavailableError
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.waiting_places import MAX_TAKE_CALLS

ADA = Caller("ada")
FUNCTION_S = 28.0
LONGEST_CALL_S = aws_config.longest_call_s(aws_config.SHORT)
UNAVAILABLE = RecordUnavailableError("the table failed")


class Aws:
    """The table, the places and the status documents. A call takes `call_s`.

    The record becomes final at `final_at`, and is gone from `gone_at`. Calls from `fails_from` on raise an error, as do
    the calls with the numbers `failing`, from 0.
    """

    def __init__(
        self,
        *,
        final_at: float = float("inf"),
        gone_at: float = float("inf"),
        fails_from: float = float("inf"),
        call_s: float = 0.0,
        places: int = 1,
        lag_s: float = 0.0,
        failing: Sequence[int] = (),
    ) -> None:
        self.clock, self.failing = Clock(), failing
        self.final_at, self.gone_at, self.fails_from = NOW + final_at, NOW + gone_at, NOW + fails_from
        self.call_s, self.lag_s, self.free = call_s, lag_s, places
        self.calls: list[str] = []
        self.place_expires_at = 0.0

    def status(self, execution_id: str) -> Status | None:
        self._call("status")
        seen_at = self.clock.now - self.lag_s
        if seen_at < NOW or seen_at >= self.gone_at:
            return None
        return Status.COMPLETED if seen_at >= self.final_at else Status.RUNNING

    def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
        self._call("get")
        if self.clock.now >= self.gone_at:
            return None
        return final_record() if self.clock.now >= self.final_at else running_record()

    def new(self, expires_at: float) -> str:
        self.place_expires_at = expires_at
        return "place"

    def take(self, place: str, now: float) -> bool:
        self.clock.advance((MAX_TAKE_CALLS - 1) * self.call_s)
        self._call("take")
        self.free -= 1
        return self.free >= 0

    def give_back(self, place: str) -> None:
        self.clock.advance(self.call_s)
        self.calls.append("give back")
        self.free += 1

    def document(self, record: ExecutionRecord, caller: Caller, *, with_progress: bool = True) -> str:
        assert not with_progress, "Waterflai may answer too late"
        if record.status.is_final:
            self._call("delivery of the webhook")
        return record.status

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.clock.advance(self.call_s)
        if self.clock.now >= self.fails_from or len(self.calls) - 1 in self.failing:
            raise UNAVAILABLE

    def remaining_s(self, began_s: float = 0.0) -> Callable[[], float]:
        return lambda: FUNCTION_S - began_s - (self.clock.now - NOW)

    def waiting(self, longest_s: int = 20) -> OutcomeWait:
        return OutcomeWait(longest_s, self, self, self, self.clock, self.clock.sleep)

    def wait(self, wanted_s: int = 20, *, longest_s: int = 20, began_s: float = 0.0) -> Waited:
        return self.waiting(longest_s).wait(running_record(), wanted_s, self.remaining_s(began_s))

    @property
    def passed_s(self) -> float:
        return self.clock.now - NOW


@pytest.mark.parametrize("final_at", [0.2, 0.5, 7.3, 19.9])
def test_a_wait_ends_within_half_a_second_of_the_outcome(final_at: float) -> None:
    aws = Aws(final_at=final_at)
    waited = aws.wait()
    assert (waited.result, waited.applied_s) == (WaitResult.FINAL, 20)
    assert waited.record == final_record()
    assert final_at <= aws.passed_s <= final_at + PAUSE_S
    assert waited.waited_s == aws.passed_s


def test_the_whole_record_is_read_only_after_the_outcome() -> None:
    aws = Aws(final_at=9.8)
    aws.wait()
    assert aws.calls == ["take", *["status"] * 20, "get", "give back"]


@pytest.mark.parametrize(
    ("wanted_s", "longest_s", "began_s", "applied_s"),
    [
        (5, 20, 0.0, 5),
        (60, 20, 0.0, 20),
        (10**9, 25, 0.0, 25),
        (25, 25, 1.5, 23),
        (20, 20, 10.0, 15),
        (20, 20, 21.3, 3),
    ],
)
def test_a_wait_is_limited_by_the_caller_the_deployment_and_the_function(
    wanted_s: int, longest_s: int, began_s: float, applied_s: int
) -> None:
    aws = Aws()
    waited = aws.wait(wanted_s, longest_s=longest_s, began_s=began_s)
    assert (waited.result, waited.applied_s, waited.record) == (
        WaitResult.TIME_OVER,
        applied_s,
        running_record(),
    )
    assert aws.passed_s == pytest.approx(applied_s)


@pytest.mark.parametrize("began_s", [21.5, 26.0, 28.0, 40.0])
def test_without_the_time_to_take_a_place_no_call_is_made(began_s: float) -> None:
    aws = Aws()
    waited = aws.wait(began_s=began_s)
    assert (waited.result, waited.record, aws.calls) == (WaitResult.NO_TIME, running_record(), [])


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_a_final_execution_needs_no_place(status: Status) -> None:
    aws, record = Aws(places=0), final_record(status)
    waited = aws.waiting().wait(record, 60, aws.remaining_s())
    assert waited == Waited(WaitResult.FINAL, record, 20)
    assert aws.calls == []


def test_without_a_place_the_wait_ends_immediately() -> None:
    aws = Aws(places=0)
    waited = aws.wait()
    assert (waited.result, waited.record) == (WaitResult.NO_PLACE, running_record())
    assert (aws.calls, aws.passed_s) == (["take"], 0)


@pytest.mark.parametrize("end", [{"final_at": 3.0}, {"gone_at": 3.0}, {"fails_from": 3.0}, {}])
def test_the_place_is_given_back(end: dict[str, Any]) -> None:
    aws = Aws(**end)
    aws.wait()
    assert aws.free == 1


def test_the_place_expires_shortly_after_the_function_has_ended() -> None:
    aws = Aws()
    aws.wait(25, longest_s=25)
    assert NOW + FUNCTION_S < aws.place_expires_at <= NOW + FUNCTION_S + 5


def test_a_place_is_given_back_after_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws()
    monkeypatch.setattr(aws, "status", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        aws.wait()
    assert aws.free == 1


def test_a_record_that_is_erased_ends_the_wait() -> None:
    aws = Aws(gone_at=4.1)
    waited = aws.wait()
    assert (waited.result, waited.record) == (WaitResult.GONE, None)
    assert aws.passed_s == pytest.approx(4.5)


def test_a_read_that_does_not_see_the_new_record_yet_does_not_end_the_wait() -> None:
    aws = Aws(lag_s=0.8, final_at=5.0)
    assert aws.wait().result is WaitResult.FINAL


@pytest.mark.parametrize("fails_from", [0.0, 0.3, 11.0, 19.9])
def test_a_table_that_fails_ends_the_wait_with_the_earlier_record(fails_from: float) -> None:
    aws = Aws(fails_from=fails_from)
    waited = aws.wait()
    assert (waited.result, waited.record) == (WaitResult.FAILED, running_record())
    assert aws.passed_s <= fails_from + MAX_FAILURES * PAUSE_S
    assert aws.waiting().document(final_record(), ADA, aws.remaining_s()) is None


@pytest.mark.parametrize(("failing", "is_read"), [(1, True), (MAX_FAILURES - 1, True), (MAX_FAILURES, False)])
def test_a_wait_continues_after_a_few_reads_that_fail(failing: int, *, is_read: bool) -> None:
    aws = Aws(final_at=12, failing=range(3, 3 + failing))
    assert (aws.wait().result is WaitResult.FINAL) is is_read


def test_reads_that_fail_do_not_prolong_the_wait() -> None:
    aws = Aws(failing=[number for number in range(2, 100) if number % 3])
    assert aws.wait(10).result is WaitResult.TIME_OVER
    assert aws.passed_s == 10


def test_without_the_time_for_a_call_there_is_no_document() -> None:
    aws = Aws()
    aws.wait(20)
    assert aws.waiting().document(final_record(), ADA, aws.remaining_s()) == Status.COMPLETED
    aws.clock.now = NOW + FUNCTION_S - LONGEST_CALL_S
    assert aws.waiting().document(final_record(), ADA, aws.remaining_s()) is None


@given(
    wanted_s=st.integers(1, 30),
    longest_s=st.integers(1, 25),
    began_s=st.floats(0, 28),
    call_s=st.floats(0, LONGEST_CALL_S),
    final_at=st.floats(0, 40),
    fails_from=st.floats(0, 80),
)
def test_the_answer_is_ready_before_the_function_times_out(
    wanted_s: int,
    longest_s: int,
    began_s: float,
    call_s: float,
    final_at: float,
    fails_from: float,
) -> None:
    aws = Aws(call_s=call_s, final_at=final_at, fails_from=fails_from)
    remaining_s = aws.remaining_s(began_s)
    waited = aws.wait(wanted_s, longest_s=longest_s, began_s=began_s)
    if waited.record is not None:
        aws.waiting(longest_s).document(waited.record, ADA, remaining_s)
    assert remaining_s() > 0 or not aws.calls


def test_waiting_is_impossible_without_the_output_in_the_record_or_if_it_is_switched_off() -> None:
    record = running_record()
    assert Aws().waiting().impossible(record) is None
    assert "deliver_to" in (Aws().waiting().impossible(replace(record, deliver_to=("sns",))) or "")
    assert "MaxWaitSeconds" in (Aws().waiting(0).impossible(record) or "")
