"""Ending a remote job: a finished job is never called cancelled, and no answer is no outcome."""

import pytest

from tests.support.builders import UPSTREAM_ID, job, settings
from tests.support.clock import NOW, Clock
from tests.support.fakes import Answer, FakeUpstream
from waterhook.client import CancelAnswer
from waterhook.errors import PerhapsAccepted, Refused, ResultsUnavailable, Unavailable, UpstreamError
from waterhook.models import Job, Next, Status, iso
from waterhook.polling import Poller
from waterhook.results import Results
from waterhook.status import StatusDocument
from waterhook.stopping import Stopper

YES = CancelAnswer(cancelled=True, message=None, previous_status="RUNNING")
NO: dict[str, Answer[CancelAnswer]] = {
    "cancelled: false": CancelAnswer(cancelled=False, message=None, previous_status="COMPLETED"),
    "400": Refused("refused", "HTTP 400", status=400),
    "401": Refused("refused", "HTTP 401", status=401),
    "404": Refused("refused", "HTTP 404", status=404),
    "409": Refused("refused", "HTTP 409", status=409),
}
ENDS = {
    "COMPLETED": StatusDocument("COMPLETED", final_output_json='{"n":1.0}', completed_at=NOW),
    "FAILED": StatusDocument("FAILED", error_message="out of luck"),
    "CANCELLED": StatusDocument("CANCELLED"),
}


def stopped(upstream: FakeUpstream, outcome: Status = Status.CANCELLED, given: Job | None = None) -> Job:
    poller = Poller(upstream, Results("none"), settings(), Clock())
    return Stopper(upstream, poller).stop(given or job(), outcome, code="because", message="it was asked for")


@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_job_that_could_be_cancelled_ends_for_the_reason_it_was_cancelled(outcome: Status) -> None:
    upstream = FakeUpstream(cancels=[YES])
    got = stopped(upstream, outcome)
    assert (got.outcome, got.next) == (outcome, Next.NOTIFY)
    assert got.error == {"code": "because", "message": "it was asked for"}
    assert (upstream.cancelled, upstream.asked) == ([UPSTREAM_ID], [])


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_had_ended_has_the_outcome_it_had(refusal: Answer[CancelAnswer], end: str) -> None:
    upstream = FakeUpstream(cancels=[refusal], statuses=[ENDS[end]])
    got = stopped(upstream)
    assert (got.outcome, got.next) == (Status(end), Next.NOTIFY)
    assert (len(upstream.cancelled), len(upstream.asked)) == (1, 1)


@pytest.mark.parametrize("end", [*ENDS, "RUNNING"])
def test_an_answer_that_does_not_say_leaves_it_to_the_status(end: str) -> None:
    unsaid = CancelAnswer(cancelled=None, message=None, previous_status=None)
    upstream = FakeUpstream(cancels=[unsaid], statuses=[ENDS.get(end, StatusDocument("RUNNING"))])
    got = stopped(upstream, Status.TIMED_OUT)
    # Nobody else is known to have cancelled it.
    assert got.outcome is (Status.TIMED_OUT if end == "CANCELLED" else Status(end))


def test_too_late_brings_output_and_time_along() -> None:
    got = stopped(FakeUpstream(cancels=[NO["409"]], statuses=[ENDS["COMPLETED"]]))
    assert got.result == {"final_output_json": '{"n":1.0}', "completed_at": iso(NOW)}


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
def test_a_job_that_runs_on_has_no_outcome(refusal: Answer[CancelAnswer]) -> None:
    got = stopped(FakeUpstream(cancels=[refusal], statuses=[StatusDocument("RUNNING")]))
    assert got.outcome is Status.RUNNING


@pytest.mark.parametrize("status", [None, 503], ids=["unreachable", "503"])
def test_a_cancel_that_was_not_taken_decides_nothing(status: int | None) -> None:
    upstream = FakeUpstream(cancels=[Unavailable("unavailable", "not now", status=status)])
    with pytest.raises(Unavailable):
        stopped(upstream)
    assert upstream.asked == []


LOST = {
    "500": PerhapsAccepted("server_error", "HTTP 500", status=500),
    "no answer": PerhapsAccepted("no_answer", "no answer"),
    "garbage": PerhapsAccepted("unusable_answer", "HTTP 200, but not JSON", status=200),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("outcome", [Status.CANCELLED, Status.TIMED_OUT])
def test_a_job_that_is_cancelled_after_a_lost_answer_was_cancelled_by_us(
    fault: UpstreamError, outcome: Status
) -> None:
    upstream = FakeUpstream(cancels=[fault], statuses=[ENDS["CANCELLED"]])
    got = stopped(upstream, outcome)
    assert (got.outcome, got.next) == (outcome, Next.NOTIFY)
    assert got.error == {"code": "because", "message": "it was asked for"}
    assert (len(upstream.cancelled), len(upstream.asked)) == (1, 1)


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
def test_a_job_that_had_ended_before_a_lost_answer_has_the_outcome_it_had(
    fault: UpstreamError, end: str
) -> None:
    got = stopped(FakeUpstream(cancels=[fault], statuses=[ENDS[end]]), Status.TIMED_OUT)
    assert (got.outcome, got.next) == (Status(end), Next.NOTIFY)


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    "status",
    [StatusDocument("RUNNING"), StatusDocument("???"), Unavailable("unreachable", "no connection")],
    ids=["running", "unknown", "no answer"],
)
def test_a_lost_answer_and_a_status_that_settles_nothing_is_the_fault_of_the_cancel(
    fault: UpstreamError, status: Answer[StatusDocument]
) -> None:
    upstream = FakeUpstream(cancels=[fault], statuses=[status])
    with pytest.raises(PerhapsAccepted) as caught:
        stopped(upstream)
    assert caught.value is fault
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("refusal", NO.values(), ids=NO)
def test_a_refusal_followed_by_no_answer_is_no_outcome_either(refusal: Answer[CancelAnswer]) -> None:
    got = stopped(FakeUpstream(cancels=[refusal], statuses=[Refused("refused", "HTTP 404", status=404)]))
    assert got.outcome is Status.RUNNING


class Full(Results):
    """A bucket that takes nothing."""

    def __init__(self) -> None:
        pass

    def keep(self, execution_id: str, output_json: str | bytes | bytearray) -> dict[str, str]:
        raise ResultsUnavailable("SlowDown")


@pytest.mark.parametrize("answer", [*NO.values(), *LOST.values()], ids=[*NO, *LOST])
def test_a_completed_job_whose_output_cannot_be_stored_was_not_cancelled(
    answer: Answer[CancelAnswer],
) -> None:
    upstream = FakeUpstream(cancels=[answer], statuses=[ENDS["COMPLETED"]])
    poller = Poller(upstream, Full(), settings(), Clock())
    with pytest.raises(ResultsUnavailable):
        Stopper(upstream, poller).stop(job(), Status.CANCELLED, code="because", message="it was asked for")
