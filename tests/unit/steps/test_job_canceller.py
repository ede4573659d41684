"""Outcomes of a cancelled job, also after a refusal or a lost answer."""

import pytest

from tests.fakes.clock import NOW, Clock
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import build_job_canceller
from tests.support.builders import UPSTREAM_ID, running_state
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    PerhapsAcceptedError,
    ResultsUnavailableError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.client import CancelResult

YES = CancelResult(cancelled=True, message=None, previous_status="RUNNING")
NO: dict[str, Answer[CancelResult]] = {
    "cancelled: false": CancelResult(cancelled=False, message=None, previous_status="COMPLETED"),
    "409": UpstreamRefusedError("refused", "HTTP 409", status=409),
}
ENDS = {
    "COMPLETED": StatusDocument("COMPLETED", final_output_json='{"n":1.0}', completed_at=NOW),
    "FAILED": StatusDocument("FAILED", error_message="out of luck"),
    "CANCELLED": StatusDocument("CANCELLED"),
}


def cancel(
    upstream: FakeUpstream, outcome: Status = Status.CANCELLED, state: LoopState | None = None
) -> LoopState:
    return build_job_canceller(upstream, Clock()).cancel(
        state or running_state(), outcome, code="because", message="it was requested"
    )


@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_cancelled_job_has_the_requested_outcome(outcome: Status) -> None:
    upstream = FakeUpstream(cancels=[YES])
    result = cancel(upstream, outcome)
    assert (result.outcome, result.next) == (outcome, NextStep.NOTIFY)
    assert result.error == {"code": "because", "message": "it was requested"}
    assert (upstream.cancelled, upstream.polled) == ([UPSTREAM_ID], [])


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_had_ended_keeps_its_outcome(refusal: Answer[CancelResult], end: str) -> None:
    upstream = FakeUpstream(cancels=[refusal], statuses=[ENDS[end]])
    result = cancel(upstream)
    assert (result.outcome, result.next) == (Status(end), NextStep.NOTIFY)
    assert (len(upstream.cancelled), len(upstream.polled)) == (1, 1)


@pytest.mark.parametrize("end", [*ENDS, "RUNNING"])
def test_after_a_cancel_without_a_result_the_status_decides(end: str) -> None:
    no_result = CancelResult(cancelled=None, message=None, previous_status=None)
    upstream = FakeUpstream(cancels=[no_result], statuses=[ENDS.get(end, StatusDocument("RUNNING"))])
    result = cancel(upstream, Status.TIMED_OUT)
    # No other caller is known to have cancelled it.
    assert result.outcome is (Status.TIMED_OUT if end == "CANCELLED" else Status(end))


def test_a_job_that_had_completed_keeps_its_output_and_its_time() -> None:
    result = cancel(FakeUpstream(cancels=[NO["409"]], statuses=[ENDS["COMPLETED"]]))
    assert result.result == {"final_output_json": '{"n":1.0}', "completed_at": to_rfc3339(NOW)}


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
def test_a_job_that_runs_after_a_refused_cancel_has_no_outcome(refusal: Answer[CancelResult]) -> None:
    result = cancel(FakeUpstream(cancels=[refusal], statuses=[StatusDocument("RUNNING")]))
    assert result.outcome is Status.RUNNING


def test_an_upstream_that_is_unavailable_raises_without_a_status_request() -> None:
    upstream = FakeUpstream(cancels=[UpstreamUnavailableError("unavailable", "not now", status=503)])
    with pytest.raises(UpstreamUnavailableError):
        cancel(upstream)
    assert upstream.polled == []


LOST = PerhapsAcceptedError("no_answer", "no answer")


@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_job_that_is_cancelled_after_a_lost_answer_has_the_requested_outcome(outcome: Status) -> None:
    upstream = FakeUpstream(cancels=[LOST], statuses=[ENDS["CANCELLED"]])
    result = cancel(upstream, outcome)
    assert (result.outcome, result.next) == (outcome, NextStep.NOTIFY)
    assert result.error == {"code": "because", "message": "it was requested"}
    assert (len(upstream.cancelled), len(upstream.polled)) == (1, 1)


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
def test_a_job_that_had_ended_keeps_its_outcome_after_a_lost_answer(end: str) -> None:
    result = cancel(FakeUpstream(cancels=[LOST], statuses=[ENDS[end]]), Status.TIMED_OUT)
    assert (result.outcome, result.next) == (Status(end), NextStep.NOTIFY)


@pytest.mark.parametrize(
    "status",
    [
        StatusDocument("RUNNING"),
        StatusDocument("???"),
        UpstreamUnavailableError("unreachable", "no connection"),
    ],
    ids=["running", "unknown", "no answer"],
)
def test_a_lost_answer_without_a_final_status_raises_the_error_of_the_cancel(
    status: Answer[StatusDocument],
) -> None:
    upstream = FakeUpstream(cancels=[LOST], statuses=[status])
    with pytest.raises(PerhapsAcceptedError) as caught:
        cancel(upstream)
    assert caught.value is LOST
    assert len(upstream.polled) == 1


def test_a_refused_cancel_and_a_failed_status_request_are_no_outcome() -> None:
    result = cancel(
        FakeUpstream(cancels=[NO["409"]], statuses=[UpstreamRefusedError("refused", "HTTP 404", status=404)])
    )
    assert result.outcome is Status.RUNNING


class Full(ResultsBucket):
    """A bucket in which nothing can be stored."""

    def __init__(self) -> None:
        pass

    def store(self, execution_id: str, output_json: str | bytes | bytearray) -> dict[str, str]:
        raise ResultsUnavailableError("SlowDown")


@pytest.mark.parametrize("answer", [*NO.values(), LOST], ids=[*NO, "a lost answer"])
def test_a_completed_job_whose_output_cannot_be_stored_raises_and_is_not_cancelled(
    answer: Answer[CancelResult],
) -> None:
    upstream = FakeUpstream(cancels=[answer], statuses=[ENDS["COMPLETED"]])
    with pytest.raises(ResultsUnavailableError):
        build_job_canceller(upstream, Clock(), Full()).cancel(
            running_state(), Status.CANCELLED, code="because", message="it was requested"
        )
