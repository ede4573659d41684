"""One status request and its consequences: a failed request is not a failed job."""

import json
from typing import Any

import pytest

from tests.fakes.aws import Bucket, Failing, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import NO_BUCKET
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.builders import ID, UPSTREAM_ID, history, job, settings
from waterhook.domain import polling_policy
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import (
    MAX_INLINE_BYTES,
    FlawedDocumentError,
    OutputError,
    StatusDocument,
)
from waterhook.domain.stream_history import StreamHistory
from waterhook.errors import (
    KeyUnavailableError,
    PerhapsAcceptedError,
    ResultsUnavailableError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.results_bucket import ResultsBucket

MISSING = UpstreamRefusedError("refused", "HTTP 404", status=404)

FAULTS: dict[str, UpstreamError] = {
    "unreachable": UpstreamUnavailableError("unreachable", "no connection"),
    "429": UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=30.0),
    "503": UpstreamUnavailableError("unavailable", "HTTP 503", status=503),
    "timeout": PerhapsAcceptedError("no_answer", "no answer: ReadTimeoutError"),
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
    "504": PerhapsAcceptedError("server_error", "HTTP 504", status=504),
    "garbage": PerhapsAcceptedError("unusable_answer", "HTTP 200, but not JSON", status=200),
    "401": UpstreamRefusedError("refused", "HTTP 401", status=401),
    "403": UpstreamRefusedError("refused", "HTTP 403", status=403),
    "404": MISSING,
    "a redirect": UpstreamRefusedError("redirected", "HTTP 302", status=302),
}


class Polling:
    """A poller, its clock and its upstream."""

    def __init__(self, *statuses: Answer[StatusDocument], results: ResultsBucket | None = None) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream(statuses=list(statuses))
        self.poller = StatusPoller(self.upstream, results or NO_BUCKET, settings(), self.clock)

    def poll(self, given: LoopState | None = None) -> LoopState:
        return self.poller.poll(given or job())


def test_a_running_job_is_polled_again_after_a_wait() -> None:
    polling = Polling(StatusDocument(status="RUNNING"))
    got = polling.poll()
    assert (got.outcome, got.next, got.wait_seconds, got.history.status_requests) == (
        Status.RUNNING,
        NextStep.WAIT,
        2,
        1,
    )
    assert polling.upstream.polled == [UPSTREAM_ID]


@pytest.mark.parametrize("status", [None, "PENDING", "QUEUED", "PAUSED", "TIMED_OUT", "EXPIRED", ""])
def test_a_status_that_is_not_final_is_waited_for_whatever_it_is_called(status: str | None) -> None:
    got = Polling(StatusDocument(status=status)).poll()
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.WAIT)


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("completed", Status.COMPLETED),
        ("SUCCESS", Status.COMPLETED),
        ("Succeeded", Status.COMPLETED),
        ("done", Status.COMPLETED),
        (" COMPLETED ", Status.COMPLETED),
        ("failed", Status.FAILED),
        ("ERROR", Status.FAILED),
        ("failure", Status.FAILED),
        ("CANCELED", Status.CANCELLED),
        ("cancelled", Status.CANCELLED),
    ],
)
def test_a_final_status_is_known_in_any_case_and_in_its_common_spellings(word: str, outcome: Status) -> None:
    assert Polling(StatusDocument(status=word)).poll().outcome is outcome


ENDED = StatusDocument("Expired", completed_at=NOW, error_message="too old")


def test_an_unknown_status_with_an_end_time_is_final_after_three_polls_over_ten_seconds() -> None:
    polling = Polling(StatusDocument("Expired"), ENDED)
    got = polling.poll()
    moments = []
    while not got.outcome.is_final:
        polling.clock.advance(got.wait_seconds)
        moments.append(polling.clock.now)
        got = polling.poll(got)
    assert (got.outcome, got.next) == (Status.FAILED, NextStep.NOTIFY)
    assert got.error is not None
    assert got.error["code"] == "upstream_status"
    assert "'Expired'" in got.error["message"]
    assert "too old" in got.error["message"]
    assert got.result == {"completed_at": "2026-01-01T00:00:00.000Z"}
    assert len(moments) >= 3
    assert 10 <= moments[-1] - moments[0] <= 16


def test_a_poll_of_an_old_job_with_an_unknown_status_and_an_end_time_is_repeated_soon() -> None:
    old = job(deadline=NOW + 9e5, history=history(started_at=NOW - 9e4, status_requests=99))
    assert Polling(StatusDocument("EXPIRED")).poll(old).wait_seconds == 60
    assert Polling(ENDED).poll(old).wait_seconds == polling_policy.ENDED_POLL_S
    followed = following(ENDED)
    seen = followed.poller.observe(old)
    assert followed.poller.due_at(seen, StreamHistory()) <= NOW + 1.1 * polling_policy.ENDED_POLL_S


@pytest.mark.parametrize(
    "between",
    [
        StatusDocument("RUNNING", completed_at=NOW),
        StatusDocument("ARCHIVED", completed_at=NOW),
        StatusDocument("EXPIRED"),
        StatusDocument(None, completed_at=NOW),
    ],
    ids=["running", "another word", "no end time", "no status"],
)
def test_unknown_statuses_with_an_end_time_count_only_in_a_row(between: StatusDocument) -> None:
    polling = Polling(ENDED, ENDED, between, ENDED, ENDED)
    got = job()
    for _ in range(5):
        got = polling.poll(got)
        polling.clock.advance(20)
    assert got.outcome is Status.RUNNING


def test_a_failed_poll_between_unknown_statuses_with_an_end_time_changes_nothing() -> None:
    polling = Polling(ENDED, ENDED, FAULTS["500"], ENDED)
    got = job()
    for _ in range(4):
        got = polling.poll(got)
        polling.clock.advance(20)
    assert got.error is not None
    assert got.error["code"] == "upstream_status"


@pytest.mark.parametrize("word", ["RUNNING", "running", "PENDING", "queued", None, ""])
def test_a_running_status_with_an_end_time_is_no_end(word: str | None) -> None:
    polling = Polling(StatusDocument(word, completed_at=NOW))
    got = job()
    for _ in range(5):
        got = polling.poll(got)
        polling.clock.advance(20)
    assert got.outcome is Status.RUNNING


def test_progress_of_a_hundred_is_not_an_outcome() -> None:
    got = Polling(StatusDocument(status="RUNNING", progress=100.0, completed_nodes=3, total_nodes=3)).poll()
    assert got.outcome is Status.RUNNING


def test_a_completed_job_takes_its_small_output_along() -> None:
    document = StatusDocument(status="COMPLETED", final_output_json='{"n":1.0}', completed_at=NOW)
    got = Polling(document).poll()
    assert (got.outcome, got.next, got.error) == (Status.COMPLETED, NextStep.NOTIFY, None)
    assert got.result == {"final_output_json": '{"n":1.0}', "completed_at": "2026-01-01T00:00:00.000Z"}


def test_a_completed_job_leaves_its_large_output_in_the_bucket(bucket: Bucket) -> None:
    text = '"' + "x" * MAX_INLINE_BYTES + '"'
    polling = Polling(
        StatusDocument(status="COMPLETED", final_output_json=text),
        results=ResultsBucket(bucket.name, lambda: bucket.client),
    )
    got = polling.poll()
    assert set(got.result) == {"output_ref"}
    assert bucket.text(got.result["output_ref"]) == text
    assert len(json.dumps(got.to_dict())) < 8 * 1024


@pytest.mark.parametrize(("too_large", "why"), [(True, "too_large"), (False, "missing")])
def test_a_completed_job_without_an_output_is_still_completed(*, too_large: bool, why: str) -> None:
    got = Polling(StatusDocument(status="COMPLETED", too_large=too_large)).poll()
    assert (got.outcome, got.result) == (Status.COMPLETED, {"output_error": why})


def test_a_failed_job_has_the_upstreams_reason() -> None:
    got = Polling(StatusDocument(status="FAILED", error_message="node 3: no credit")).poll()
    assert (got.outcome, got.next) == (Status.FAILED, NextStep.NOTIFY)
    assert got.error == {"code": "failed", "message": "node 3: no credit"}


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_a_job_that_ended_without_a_reason_has_a_message(status: str) -> None:
    got = Polling(StatusDocument(status=status)).poll()
    assert got.outcome == status
    assert got.error is not None
    assert got.error["message"]


def test_a_job_that_was_cancelled_at_waterflai_is_cancelled() -> None:
    got = Polling(StatusDocument(status="CANCELLED", completed_at=NOW)).poll()
    assert (got.outcome, got.result) == (Status.CANCELLED, {"completed_at": "2026-01-01T00:00:00.000Z"})


def test_a_growing_retry_count_is_not_a_failure() -> None:
    assert Polling(StatusDocument(status="RUNNING", retry_count=7)).poll().outcome is Status.RUNNING


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failed_status_request_is_repeated_and_never_raises(fault: UpstreamError) -> None:
    got = Polling(fault).poll()
    assert (got.outcome, got.next, got.history.errors) == (Status.RUNNING, NextStep.WAIT, 1)
    assert got.wait_seconds >= (fault.retry_after_s or 1)


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "404"])
def test_no_row_of_failures_ends_a_job_before_its_deadline(name: str) -> None:
    polling = Polling(FAULTS[name])
    got = job()
    while got.next is not NextStep.CANCEL:
        got = polling.poll(got)
        assert got.outcome is Status.RUNNING
        polling.clock.advance(got.wait_seconds)
    assert polling.clock.now >= got.deadline
    assert got.history.errors == got.history.status_requests


def test_a_row_of_404_over_a_minute_is_a_lost_job() -> None:
    polling = Polling(MISSING)
    got = job()
    while not got.outcome.is_final:
        got = polling.poll(got)
        polling.clock.advance(got.wait_seconds)
    assert (got.outcome, got.next) == (Status.LOST, NextStep.NOTIFY)
    assert got.error == {"code": "not_found", "message": "Waterflai no longer has this job (HTTP 404)"}
    assert 60 <= polling.clock.now - NOW < 200


def test_a_job_that_turns_up_after_some_404_is_not_lost() -> None:
    polling = Polling(MISSING, MISSING, StatusDocument(status="RUNNING"), MISSING)
    got = job()
    for _ in range(4):
        got = polling.poll(got)
        polling.clock.advance(40)
    assert got.outcome is Status.RUNNING


def test_at_its_deadline_a_job_is_cancelled_next() -> None:
    got = Polling(StatusDocument(status="RUNNING")).poll(job(deadline=NOW))
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.CANCEL)


def test_a_job_that_is_done_at_its_deadline_is_done() -> None:
    got = Polling(StatusDocument(status="COMPLETED", final_output_json="{}")).poll(job(deadline=NOW - 99))
    assert got.outcome is Status.COMPLETED


def test_a_failed_question_after_the_deadline_leads_to_the_cancel_too() -> None:
    got = Polling(FAULTS["timeout"]).poll(job(deadline=NOW - 1))
    assert got.next is NextStep.CANCEL


def test_a_document_cut_before_its_status_is_requested_again() -> None:
    got = Polling(StatusDocument(too_large=True)).poll()
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.WAIT)


def test_a_poll_leaves_the_rest_of_the_state_unchanged() -> None:
    given = job(unsaved=True, history=history(cancels=2))
    got = Polling(StatusDocument()).poll(given)
    assert (got.unsaved, got.history.cancels, got.execution_id, got.deadline) == (True, 2, ID, given.deadline)


def test_the_time_a_question_takes_counts_as_waited() -> None:
    polling = Polling(StatusDocument(status="RUNNING"))
    polling.clock.step_s = 25
    got = polling.poll(job(deadline=NOW + 49))
    assert got.next is NextStep.CANCEL


# Documents that show the outcome and can't be read as a whole


def flawed(**changes: Any) -> FlawedDocumentError:
    known: dict[str, Any] = {"status": "COMPLETED", "output_error": OutputError.UNREADABLE, "is_flawed": True}
    return FlawedDocumentError(200, StatusDocument(**known | changes))


def test_an_outcome_without_a_readable_output_is_accepted_after_three_answers_over_ten_seconds() -> None:
    polling = Polling(flawed(completed_at=NOW))
    first = polling.poll()
    assert (first.outcome, first.next, first.history.errors) == (Status.RUNNING, NextStep.WAIT, 1)
    polling.clock.advance(9)
    second = polling.poll(first)
    assert not second.outcome.is_final
    assert not polling.poll(second).outcome.is_final  # three of them, but not over ten seconds
    polling.clock.advance(1)
    third = polling.poll(second)
    assert (third.outcome, third.next) == (Status.COMPLETED, NextStep.NOTIFY)
    assert third.result == {"output_error": "unreadable", "completed_at": "2026-01-01T00:00:00.000Z"}


def test_an_output_that_was_unreadable_once_is_used_when_it_is_read() -> None:
    polling = Polling(flawed(), StatusDocument(status="COMPLETED", final_output_json="{}"))
    assert polling.poll(polling.poll()).result == {"final_output_json": "{}"}


def test_other_answers_in_between_begin_the_count_anew() -> None:
    polling = Polling(flawed(), flawed(), FAULTS["500"], flawed(), flawed(), flawed())
    got = job()
    for seen in range(1, 6):
        got = polling.poll(got)
        assert not got.outcome.is_final, seen
        polling.clock.advance(20)
    assert polling.poll(got).outcome is Status.COMPLETED


def test_a_flawed_document_is_accepted_before_its_job_is_removed() -> None:
    assert Polling(flawed(cleanup_after=NOW + 60)).poll().outcome is Status.COMPLETED
    assert Polling(flawed(cleanup_after=NOW + 61)).poll().outcome is Status.RUNNING


def test_a_flawed_document_is_accepted_where_no_other_request_follows() -> None:
    upstream = FakeUpstream(statuses=[flawed()])
    poller = StatusPoller(upstream, NO_BUCKET, settings(), Clock(), polls_again=False)
    assert poller.poll(job()).result["output_error"] == "unreadable"


def test_a_flawed_document_of_a_failed_job_keeps_its_reason() -> None:
    document = flawed(status="FAILED", error_message="no credit", output_error=None)
    polling = Polling(document)
    got = job()
    while not got.outcome.is_final:
        got = polling.poll(got)
        polling.clock.advance(got.wait_seconds)
    assert got.error == {"code": "failed", "message": "no credit"}
    assert polling.clock.now - NOW < 60


def test_an_output_behind_which_the_document_breaks_off_is_used() -> None:
    polling = Polling(flawed(output_error=None, final_output_json='{"a":1}'))
    got = polling.poll(job(history=history(unusable=5, unusable_since=NOW - 100)))
    assert got.result == {"final_output_json": '{"a":1}'}


def test_an_end_whose_time_was_not_read_ended_when_it_was_observed() -> None:
    document = StatusDocument(status="COMPLETED", too_large=True, output_error=OutputError.TOO_LARGE)
    assert Polling(document).poll().result == {
        "output_error": "too_large",
        "completed_at": "2026-01-01T00:00:00.000Z",
    }


def test_the_reason_of_the_last_failed_request_is_known_until_one_succeeds() -> None:
    polling = Polling(FAULTS["500"], FAULTS["garbage"], StatusDocument(status="RUNNING"))
    first = polling.poll()
    second = polling.poll(first)
    assert (first.history.failure, first.history.unusable) == ("HTTP 500", 0)
    assert (second.history.failure, second.history.unusable) == ("HTTP 200, but not JSON", 1)
    third = polling.poll(second)
    assert (third.history.failure, third.history.unusable, third.history.unusable_since) == (None, 0, None)


# Beside a follow


LARGE = StatusDocument(status="COMPLETED", too_large=True)


def test_a_document_too_large_for_a_small_poller_is_left_to_one_with_more_room() -> None:
    upstream = FakeUpstream(statuses=[LARGE])
    small = StatusPoller(upstream, NO_BUCKET, settings(follow_concurrency=50), Clock(), limit_bytes=1024)
    got = small.poll(job())
    assert (got.outcome, got.next, got.wait_seconds) == (Status.RUNNING, NextStep.POLL, 0)
    roomy = StatusPoller(upstream, NO_BUCKET, settings(follow_concurrency=50), Clock()).poll(got)
    assert (roomy.outcome, roomy.result) == (Status.COMPLETED, {"output_error": "too_large"})


def following(*statuses: Answer[StatusDocument]) -> Polling:
    polling = Polling(*statuses)
    polling.poller = StatusPoller(polling.upstream, NO_BUCKET, settings(follow_concurrency=50), polling.clock)
    return polling


def test_a_poll_leads_back_to_following_where_that_is_on() -> None:
    assert following().poll().next is NextStep.FOLLOW
    assert Polling().poll().next is NextStep.WAIT


def test_a_follow_that_found_no_concurrency_is_not_repeated_for_a_while() -> None:
    polling = following()
    got = polling.poll(job(follow_refused=True))
    assert (got.next, got.follow_refused, got.history.follow_refused_at) == (NextStep.WAIT, False, NOW)
    polling.clock.advance(polling_policy.FOLLOW_PAUSE_S - 1)
    assert polling.poll(got).next is NextStep.WAIT
    polling.clock.advance(1)
    assert polling.poll(got).next is NextStep.FOLLOW


def test_an_upstream_in_trouble_is_not_followed() -> None:
    got = following(FAULTS["500"], FAULTS["500"], StatusDocument(status="RUNNING"))
    first = got.poll()
    assert (first.next, got.poll(first).next, got.poll(first).next) == (
        NextStep.WAIT,
        NextStep.WAIT,
        NextStep.FOLLOW,
    )


def test_a_job_whose_id_is_not_saved_yet_is_polled_until_it_is() -> None:
    """Only a poll saves it, and until then no caller can cancel the job."""
    assert following().poll(job(unsaved=True)).next is NextStep.WAIT


@pytest.mark.parametrize("answer", [StatusDocument(status="RUNNING"), FAULTS["500"], MISSING], ids=str)
def test_a_job_that_its_caller_cancelled_is_cancelled_again_until_it_has_ended(
    answer: Answer[StatusDocument],
) -> None:
    got = following(answer).poll(job(cancel_requested=True))
    assert (got.outcome, got.next, got.wait_seconds) == (Status.RUNNING, NextStep.CANCEL, 0)


def test_a_job_that_ended_before_its_callers_cancel_keeps_its_outcome() -> None:
    got = following(StatusDocument(status="FAILED")).poll(job(cancel_requested=True))
    assert (got.outcome, got.next) == (Status.FAILED, NextStep.NOTIFY)


# Faults of Waterhook


LARGE_OUTPUT = StatusDocument(
    status="COMPLETED", final_output_json='"' + "x" * (MAX_INLINE_BYTES + 1) + '"', completed_at=NOW
)
NO_KEY = KeyUnavailableError("the secret: Secrets Manager failed: ThrottlingException")


class Down:
    """A bucket that stores nothing until the test permits it."""

    def __init__(self) -> None:
        self.down = True

    def store(self, execution_id: str, output_json: str) -> dict[str, str]:
        if self.down:
            raise ResultsUnavailableError("the output could not be stored: SlowDown")
        return {"output_ref": "s3://results/it"}


def storing(down: Down, *statuses: Answer[StatusDocument]) -> Polling:
    results: Any = down
    return Polling(*statuses or [LARGE_OUTPUT], results=results)


def lasting(polling: Polling, given: LoopState | None = None) -> LoopState:
    """Poll until the loop goes elsewhere than to Wait."""
    got = polling.poll(given or job(deadline=NOW + 9e5))
    while got.next is NextStep.WAIT:
        polling.clock.advance(got.wait_seconds)
        got = polling.poll(got)
    return got


def test_a_key_that_cannot_be_read_is_an_answer_and_no_error_of_the_upstream() -> None:
    got = Polling(NO_KEY).poll()
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.WAIT)
    assert 30 <= got.wait_seconds <= 45
    past = got.history
    assert (past.faults, past.fault, past.fault_since) == (1, "KeyUnavailableError", NOW)
    assert past.fault_reason == str(NO_KEY)
    assert (past.errors, past.status_requests) == (0, 0)
    assert LoopState.from_dict(json.loads(json.dumps(got.to_dict()))) == got


def test_an_error_that_is_none_of_a_dependency_is_raised() -> None:
    with pytest.raises(RuntimeError):
        Polling(RuntimeError("a bug")).poll()


def test_faults_are_retried_at_doubled_intervals_up_to_a_quarter_of_an_hour() -> None:
    polling = Polling(NO_KEY)
    got, waits = job(deadline=NOW + 9e5), []
    for _ in range(9):
        got = polling.poll(got)
        waits.append(got.wait_seconds)
        polling.clock.advance(got.wait_seconds)
    for wait_s, least_s in zip(waits, [30, 60, 120, 240, 480, 900, 900, 900, 900], strict=True):
        assert least_s <= wait_s <= 1.5 * least_s


def test_a_job_whose_key_comes_back_within_six_hours_keeps_its_outcome() -> None:
    polling = Polling(StatusDocument(status="COMPLETED", final_output_json="{}"))
    back_at = NOW + 6 * 3600 - 60

    def status() -> StatusDocument:
        if polling.clock.now < back_at:
            raise NO_KEY
        return StatusDocument(status="COMPLETED", final_output_json="{}")

    polling.poller = StatusPoller(FakeUpstream(statuses=[status]), NO_BUCKET, settings(), polling.clock)
    assert lasting(polling).outcome is Status.COMPLETED


@pytest.mark.parametrize("answer", [StatusDocument("RUNNING"), FAULTS["500"]], ids=str)
def test_an_answer_of_the_upstream_ends_the_row_of_faults_of_the_key(answer: Answer[StatusDocument]) -> None:
    polling = Polling(NO_KEY, answer)
    past = polling.poll(polling.poll()).history
    assert (past.faults, past.fault, past.fault_since, past.fault_reason) == (0, None, None, None)


def test_a_job_whose_key_cannot_be_read_for_six_hours_is_given_up_and_cancelled() -> None:
    polling = Polling(NO_KEY)
    got = lasting(polling)
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.CANCEL)
    assert got.error == {
        "code": "fault",
        "message": f"the API key could not be read for 6 h (KeyUnavailableError: {NO_KEY})",
    }
    assert 6 * 3600 <= polling.clock.now - NOW <= 6 * 3600 + 30
    assert polling.poll(got).next is NextStep.CANCEL


def test_no_fault_outlasts_the_deadline() -> None:
    polling = Polling(NO_KEY)
    got = lasting(polling, job(deadline=NOW + 1000))
    assert (got.next, got.error, polling.clock.now - NOW) == (NextStep.CANCEL, None, 1000)


def test_a_job_with_a_fault_is_not_followed() -> None:
    assert following(NO_KEY).poll().next is NextStep.WAIT


def test_a_bucket_that_fails_is_a_fault_and_no_error_of_the_upstream() -> None:
    got = storing(Down()).poll()
    assert (got.outcome, got.next, got.history.errors) == (Status.RUNNING, NextStep.WAIT, 0)
    assert (got.history.faults, got.history.fault) == (1, "ResultsUnavailableError")


def test_the_faults_of_a_bucket_are_counted_through_answers_that_it_can_not_store() -> None:
    polling = storing(Down())
    got = polling.poll()
    polling.clock.advance(100)
    past = polling.poll(got).history
    assert (past.faults, past.fault_since) == (2, NOW)


def test_an_output_that_the_bucket_takes_within_six_hours_is_stored() -> None:
    down = Down()
    polling = storing(down)
    got = polling.poll(job(deadline=NOW + 9e5))
    while polling.clock.now < NOW + 5 * 3600:
        polling.clock.advance(got.wait_seconds)
        got = polling.poll(got)
    assert got.next is NextStep.WAIT
    down.down = False
    assert polling.poll(got).result["output_ref"] == "s3://results/it"


@pytest.mark.parametrize(("deadline_s", "ends_s"), [(9e5, 6 * 3600), (3600, 3600)])
def test_a_completed_job_whose_output_cannot_be_stored_is_completed_without_it(
    deadline_s: float, ends_s: float
) -> None:
    polling = storing(Down())
    got = lasting(polling, job(deadline=NOW + deadline_s))
    if got.next is NextStep.CANCEL:  # the deadline was found before its last poll
        got = polling.poll(got)
    assert (got.outcome, got.next, got.error) == (Status.COMPLETED, NextStep.NOTIFY, None)
    assert got.result == {"output_error": "storage_failed", "completed_at": "2026-01-01T00:00:00.000Z"}
    assert ends_s <= polling.clock.now - NOW <= ends_s + 30


def test_a_job_that_turns_out_to_run_on_has_no_fault_of_the_bucket() -> None:
    polling = storing(Down(), LARGE_OUTPUT, StatusDocument("RUNNING"))
    assert polling.poll(polling.poll()).history.faults == 0


def test_an_output_that_the_bucket_does_not_take_is_fetched_again_later(bucket: Bucket) -> None:
    large = '"' + "x" * (MAX_INLINE_BYTES + 1) + '"'
    client: Any = Failing(bucket.client, {"put_object": client_error("SlowDown", 503)})
    done = StatusDocument(status="COMPLETED", final_output_json=large)
    poller = StatusPoller(
        FakeUpstream(statuses=[done]), ResultsBucket(bucket.name, lambda: client), settings(), Clock()
    )
    asked_again = poller.poll(job())
    assert (asked_again.outcome, asked_again.next) == (Status.RUNNING, NextStep.WAIT)
    client.faults.clear()
    assert poller.poll(asked_again).outcome is Status.COMPLETED
