"""Cancel of a job: a finished job is never recorded as cancelled, and a lost response is no outcome."""

import pytest

from tests.fakes.clock import NOW, Clock
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import build_job_canceller
from tests.support.builders import UPSTREAM_ID, job
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    PerhapsAcceptedError,
    ResultsUnavailableError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.client import CancelResult

YES = CancelResult(cancelled=True, message=None, previous_status="RUNNING")
NO: dict[str, Answer[CancelResult]] = {
    "cancelled: false": CancelResult(cancelled=False, message=None, previous_status="COMPLETED"),
    "400": UpstreamRefusedError("refused", "HTTP 400", status=400),
    "401": UpstreamRefusedError("refused", "HTTP 401", status=401),
    "404": UpstreamRefusedError("refused", "HTTP 404", status=404),
    "409": UpstreamRefusedError("refused", "HTTP 409", status=409),
}
ENDS = {
    "COMPLETED": StatusDocument("COMPLETED", final_output_json='{"n":1.0}', completed_at=NOW),
    "FAILED": StatusDocument("FAILED", error_message="out of luck"),
    "CANCELLED": StatusDocument("CANCELLED"),
}


def stop(
    upstream: FakeUpstream, outcome: Status = Status.CANCELLED, given: LoopState | None = None
) -> LoopState:
    return build_job_canceller(upstream, Clock()).stop(
        given or job(), outcome, code="because", message="it was requested"
    )


@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_job_that_could_be_cancelled_ends_for_the_reason_it_was_cancelled(outcome: Status) -> None:
    upstream = FakeUpstream(cancels=[YES])
    got = stop(upstream, outcome)
    assert (got.outcome, got.next) == (outcome, NextStep.NOTIFY)
    assert got.error == {"code": "because", "message": "it was requested"}
    assert (upstream.cancelled, upstream.polled) == ([UPSTREAM_ID], [])


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_had_ended_has_the_outcome_it_had(refusal: Answer[CancelResult], end: str) -> None:
    upstream = FakeUpstream(cancels=[refusal], statuses=[ENDS[end]])
    got = stop(upstream)
    assert (got.outcome, got.next) == (Status(end), NextStep.NOTIFY)
    assert (len(upstream.cancelled), len(upstream.polled)) == (1, 1)


@pytest.mark.parametrize("end", [*ENDS, "RUNNING"])
def test_after_a_cancel_without_a_result_the_status_decides(end: str) -> None:
    no_result = CancelResult(cancelled=None, message=None, previous_status=None)
    upstream = FakeUpstream(cancels=[no_result], statuses=[ENDS.get(end, StatusDocument("RUNNING"))])
    got = stop(upstream, Status.TIMED_OUT)
    # No other caller is known to have cancelled it.
    assert got.outcome is (Status.TIMED_OUT if end == "CANCELLED" else Status(end))


def test_too_late_brings_output_and_time_along() -> None:
    got = stop(FakeUpstream(cancels=[NO["409"]], statuses=[ENDS["COMPLETED"]]))
    assert got.result == {"final_output_json": '{"n":1.0}', "completed_at": to_rfc3339(NOW)}


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
def test_a_job_that_runs_on_has_no_outcome(refusal: Answer[CancelResult]) -> None:
    got = stop(FakeUpstream(cancels=[refusal], statuses=[StatusDocument("RUNNING")]))
    assert got.outcome is Status.RUNNING


@pytest.mark.parametrize("status", [None, 503], ids=["unreachable", "503"])
def test_a_cancel_that_was_not_taken_decides_nothing(status: int | None) -> None:
    upstream = FakeUpstream(cancels=[UpstreamUnavailableError("unavailable", "not now", status=status)])
    with pytest.raises(UpstreamUnavailableError):
        stop(upstream)
    assert upstream.polled == []


LOST = {
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
    "no answer": PerhapsAcceptedError("no_answer", "no answer"),
    "garbage": PerhapsAcceptedError("unusable_answer", "HTTP 200, but not JSON", status=200),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_job_that_is_cancelled_after_a_lost_answer_was_cancelled_by_us(
    fault: UpstreamError, outcome: Status
) -> None:
    upstream = FakeUpstream(cancels=[fault], statuses=[ENDS["CANCELLED"]])
    got = stop(upstream, outcome)
    assert (got.outcome, got.next) == (outcome, NextStep.NOTIFY)
    assert got.error == {"code": "because", "message": "it was requested"}
    assert (len(upstream.cancelled), len(upstream.polled)) == (1, 1)


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
def test_a_job_that_had_ended_before_a_lost_answer_has_the_outcome_it_had(
    fault: UpstreamError, end: str
) -> None:
    got = stop(FakeUpstream(cancels=[fault], statuses=[ENDS[end]]), Status.TIMED_OUT)
    assert (got.outcome, got.next) == (Status(end), NextStep.NOTIFY)


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    "status",
    [
        StatusDocument("RUNNING"),
        StatusDocument("???"),
        UpstreamUnavailableError("unreachable", "no connection"),
    ],
    ids=["running", "unknown", "no answer"],
)
def test_a_lost_answer_and_a_status_that_settles_nothing_is_the_fault_of_the_cancel(
    fault: UpstreamError, status: Answer[StatusDocument]
) -> None:
    upstream = FakeUpstream(cancels=[fault], statuses=[status])
    with pytest.raises(PerhapsAcceptedError) as caught:
        stop(upstream)
    assert caught.value is fault
    assert len(upstream.polled) == 1


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
def test_a_refusal_followed_by_no_answer_is_no_outcome_either(refusal: Answer[CancelResult]) -> None:
    got = stop(
        FakeUpstream(cancels=[refusal], statuses=[UpstreamRefusedError("refused", "HTTP 404", status=404)])
    )
    assert got.outcome is Status.RUNNING


class Full(ResultsBucket):
    """A bucket that takes nothing."""

    def __init__(self) -> None:
        pass

    def store(self, execution_id: str, output_json: str | bytes | bytearray) -> dict[str, str]:
        raise ResultsUnavailableError("SlowDown")


@pytest.mark.parametrize("answer", [*NO.values(), *LOST.values()], ids=[*NO, *LOST])
def test_a_completed_job_whose_output_cannot_be_stored_was_not_cancelled(
    answer: Answer[CancelResult],
) -> None:
    upstream = FakeUpstream(cancels=[answer], statuses=[ENDS["COMPLETED"]])
    with pytest.raises(ResultsUnavailableError):
        build_job_canceller(upstream, Clock(), Full()).stop(
            job(), Status.CANCELLED, code="because", message="it was requested"
        )
