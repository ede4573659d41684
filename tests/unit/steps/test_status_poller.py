"""One status request and what follows from it: an outcome, a wait, a cancel or a fault."""

import json
from typing import Any

import pytest

from tests.fakes.aws import Bucket
from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import NO_BUCKET
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.builders import ID, UPSTREAM_ID, history, running_state, settings
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
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
    "garbage": PerhapsAcceptedError("unusable_answer", "HTTP 200, but not JSON", status=200),
    "401": UpstreamRefusedError("refused", "HTTP 401", status=401),
    "404": MISSING,
}


class Polling:
    """A poller, its clock and its upstream."""

    def __init__(self, *statuses: Answer[StatusDocument], results: ResultsBucket | None = None) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream(statuses=list(statuses))
        self.poller = StatusPoller(self.upstream, results or NO_BUCKET, settings(), self.clock)

    def poll(self, state: LoopState | None = None) -> LoopState:
        return self.poller.poll(state or running_state())


def test_a_running_job_is_polled_again_after_a_wait() -> None:
    polling = Polling(StatusDocument(status="RUNNING"))
    result = polling.poll()
    assert (result.outcome, result.next, result.wait_seconds, result.history.status_requests) == (
        Status.RUNNING,
        NextStep.WAIT,
        2,
        1,
    )
    assert polling.upstream.polled == [UPSTREAM_ID]


@pytest.mark.parametrize("status", [None, "PENDING"])
def test_a_job_with_an_unknown_status_or_none_is_polled_again(status: str | None) -> None:
    result = Polling(StatusDocument(status=status)).poll()
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.WAIT)


ENDED = StatusDocument("Expired", completed_at=NOW, error_message="too old")


def test_an_unknown_status_with_an_end_time_is_final_after_three_polls_over_ten_seconds() -> None:
    polling = Polling(StatusDocument("Expired"), ENDED)
    result = polling.poll()
    moments = []
    while not result.outcome.is_final:
        polling.clock.advance(result.wait_seconds)
        moments.append(polling.clock.now)
        result = polling.poll(result)
    assert (result.outcome, result.next) == (Status.FAILED, NextStep.NOTIFY)
    assert result.error is not None
    assert result.error["code"] == "upstream_status"
    assert "'Expired'" in result.error["message"]
    assert "too old" in result.error["message"]
    assert result.result == {"completed_at": "2026-01-01T00:00:00.000Z"}
    assert len(moments) >= 3
    assert 10 <= moments[-1] - moments[0] <= 16


def test_a_poll_of_an_old_job_with_an_unknown_status_and_an_end_time_is_repeated_soon() -> None:
    old = running_state(deadline=NOW + 9e5, history=history(started_at=NOW - 9e4, status_requests=99))
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
def test_unknown_statuses_with_an_end_time_count_only_consecutively(between: StatusDocument) -> None:
    polling = Polling(ENDED, ENDED, between, ENDED, ENDED)
    result = running_state()
    for _ in range(5):
        result = polling.poll(result)
        polling.clock.advance(20)
    assert result.outcome is Status.RUNNING


def test_a_failed_poll_between_unknown_statuses_with_an_end_time_changes_nothing() -> None:
    polling = Polling(ENDED, ENDED, FAULTS["500"], ENDED)
    result = running_state()
    for _ in range(4):
        result = polling.poll(result)
        polling.clock.advance(20)
    assert result.error is not None
    assert result.error["code"] == "upstream_status"


@pytest.mark.parametrize("word", ["RUNNING", None])
def test_a_running_status_with_an_end_time_is_no_outcome(word: str | None) -> None:
    polling = Polling(StatusDocument(word, completed_at=NOW))
    result = running_state()
    for _ in range(5):
        result = polling.poll(result)
        polling.clock.advance(20)
    assert result.outcome is Status.RUNNING


def test_neither_progress_of_100_percent_nor_retries_are_an_outcome() -> None:
    document = StatusDocument("RUNNING", progress=100.0, completed_nodes=3, total_nodes=3, retry_count=7)
    assert Polling(document).poll().outcome is Status.RUNNING


def test_a_small_output_is_kept_in_the_state() -> None:
    document = StatusDocument(status="COMPLETED", final_output_json='{"n":1.0}', completed_at=NOW)
    result = Polling(document).poll()
    assert (result.outcome, result.next, result.error) == (Status.COMPLETED, NextStep.NOTIFY, None)
    assert result.result == {"final_output_json": '{"n":1.0}', "completed_at": "2026-01-01T00:00:00.000Z"}


def test_a_large_output_is_stored_in_the_bucket(bucket: Bucket) -> None:
    text = '"' + "x" * MAX_INLINE_BYTES + '"'
    polling = Polling(
        StatusDocument(status="COMPLETED", final_output_json=text),
        results=ResultsBucket(bucket.name, lambda: bucket.client),
    )
    result = polling.poll()
    assert set(result.result) == {"output_ref"}
    assert bucket.text(result.result["output_ref"]) == text
    assert len(json.dumps(result.to_dict())) < 8 * 1024


@pytest.mark.parametrize(("too_large", "why"), [(True, "too_large"), (False, "missing")])
def test_a_completed_job_without_an_output_is_still_completed(*, too_large: bool, why: str) -> None:
    result = Polling(StatusDocument(status="COMPLETED", too_large=too_large)).poll()
    assert (result.outcome, result.result) == (Status.COMPLETED, {"output_error": why})


def test_the_error_of_a_failed_job_is_the_upstreams_message() -> None:
    result = Polling(StatusDocument(status="FAILED", error_message="node 3: no credit")).poll()
    assert (result.outcome, result.next) == (Status.FAILED, NextStep.NOTIFY)
    assert result.error == {"code": "failed", "message": "node 3: no credit"}


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_a_job_that_ended_without_a_reason_has_a_message(status: str) -> None:
    result = Polling(StatusDocument(status=status)).poll()
    assert result.outcome == status
    assert result.error is not None
    assert result.error["message"]


def test_a_job_that_was_cancelled_at_waterflai_is_cancelled() -> None:
    result = Polling(StatusDocument(status="CANCELLED", completed_at=NOW)).poll()
    assert (result.outcome, result.result) == (Status.CANCELLED, {"completed_at": "2026-01-01T00:00:00.000Z"})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failed_status_request_is_repeated_and_never_raises(fault: UpstreamError) -> None:
    result = Polling(fault).poll()
    assert (result.outcome, result.next, result.history.errors) == (Status.RUNNING, NextStep.WAIT, 1)
    assert result.wait_seconds >= (fault.retry_after_s or 1)


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "404"])
def test_consecutive_failed_requests_do_not_end_a_job_before_its_deadline(name: str) -> None:
    polling = Polling(FAULTS[name])
    result = running_state()
    while result.next is not NextStep.CANCEL:
        result = polling.poll(result)
        assert result.outcome is Status.RUNNING
        polling.clock.advance(result.wait_seconds)
    assert polling.clock.now >= result.deadline
    assert result.history.errors == result.history.status_requests


def test_a_job_that_is_not_found_for_a_minute_is_lost() -> None:
    polling = Polling(MISSING)
    result = running_state()
    while not result.outcome.is_final:
        result = polling.poll(result)
        polling.clock.advance(result.wait_seconds)
    assert (result.outcome, result.next) == (Status.LOST, NextStep.NOTIFY)
    assert result.error == {"code": "not_found", "message": "Waterflai no longer has this job (HTTP 404)"}
    assert 60 <= polling.clock.now - NOW < 200


def test_a_job_that_is_found_after_some_404_is_not_lost() -> None:
    polling = Polling(MISSING, MISSING, StatusDocument(status="RUNNING"), MISSING)
    result = running_state()
    for _ in range(4):
        result = polling.poll(result)
        polling.clock.advance(40)
    assert result.outcome is Status.RUNNING


def test_a_running_job_is_cancelled_at_its_deadline() -> None:
    result = Polling(StatusDocument(status="RUNNING")).poll(running_state(deadline=NOW))
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.CANCEL)


def test_a_job_that_has_completed_at_its_deadline_is_completed() -> None:
    result = Polling(StatusDocument(status="COMPLETED", final_output_json="{}")).poll(
        running_state(deadline=NOW - 99)
    )
    assert result.outcome is Status.COMPLETED


def test_a_failed_request_after_the_deadline_also_leads_to_a_cancel() -> None:
    result = Polling(FAULTS["500"]).poll(running_state(deadline=NOW - 1))
    assert result.next is NextStep.CANCEL


def test_a_document_that_was_cut_before_its_status_is_requested_again() -> None:
    result = Polling(StatusDocument(too_large=True)).poll()
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.WAIT)


def test_a_poll_leaves_the_rest_of_the_state_unchanged() -> None:
    state = running_state(unsaved=True, history=history(cancels=2))
    result = Polling(StatusDocument()).poll(state)
    assert (result.unsaved, result.history.cancels, result.execution_id, result.deadline) == (
        True,
        2,
        ID,
        state.deadline,
    )


def test_the_duration_of_a_status_request_counts_towards_the_deadline() -> None:
    polling = Polling(StatusDocument(status="RUNNING"))
    polling.clock.step_s = 25
    result = polling.poll(running_state(deadline=NOW + 49))
    assert result.next is NextStep.CANCEL


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


def test_a_different_answer_restarts_the_count_of_flawed_documents() -> None:
    polling = Polling(flawed(), flawed(), FAULTS["500"], flawed(), flawed(), flawed())
    result = running_state()
    for seen in range(1, 6):
        result = polling.poll(result)
        assert not result.outcome.is_final, seen
        polling.clock.advance(20)
    assert polling.poll(result).outcome is Status.COMPLETED


def test_a_flawed_document_is_accepted_before_its_job_is_removed() -> None:
    assert Polling(flawed(cleanup_after=NOW + 60)).poll().outcome is Status.COMPLETED
    assert Polling(flawed(cleanup_after=NOW + 61)).poll().outcome is Status.RUNNING


def test_a_flawed_document_is_accepted_where_no_other_request_follows() -> None:
    upstream = FakeUpstream(statuses=[flawed()])
    poller = StatusPoller(upstream, NO_BUCKET, settings(), Clock(), polls_again=False)
    assert poller.poll(running_state()).result["output_error"] == "unreadable"


def test_a_flawed_document_of_a_failed_job_keeps_its_reason() -> None:
    document = flawed(status="FAILED", error_message="no credit", output_error=None)
    polling = Polling(document)
    result = running_state()
    while not result.outcome.is_final:
        result = polling.poll(result)
        polling.clock.advance(result.wait_seconds)
    assert result.error == {"code": "failed", "message": "no credit"}
    assert polling.clock.now - NOW < 60


def test_a_complete_output_of_a_document_that_breaks_off_is_used() -> None:
    polling = Polling(flawed(output_error=None, final_output_json='{"a":1}'))
    result = polling.poll(running_state(history=history(unusable=5, unusable_since=NOW - 100)))
    assert result.result == {"final_output_json": '{"a":1}'}


def test_an_outcome_without_an_end_time_has_the_time_of_the_request() -> None:
    document = StatusDocument(status="COMPLETED", too_large=True, output_error=OutputError.TOO_LARGE)
    assert Polling(document).poll().result == {
        "output_error": "too_large",
        "completed_at": "2026-01-01T00:00:00.000Z",
    }


def test_the_history_has_the_last_failure_until_a_request_succeeds() -> None:
    polling = Polling(FAULTS["500"], FAULTS["garbage"], StatusDocument(status="RUNNING"))
    first = polling.poll()
    second = polling.poll(first)
    assert (first.history.failure, first.history.unusable) == ("HTTP 500", 0)
    assert (second.history.failure, second.history.unusable) == ("HTTP 200, but not JSON", 1)
    third = polling.poll(second)
    assert (third.history.failure, third.history.unusable, third.history.unusable_since) == (None, 0, None)


# Beside a follow


LARGE = StatusDocument(status="COMPLETED", too_large=True)


def test_a_document_above_the_limit_of_the_follow_function_is_read_by_the_poll_function() -> None:
    upstream = FakeUpstream(statuses=[LARGE])
    small = StatusPoller(upstream, NO_BUCKET, settings(follow_concurrency=50), Clock(), limit_bytes=1024)
    result = small.poll(running_state())
    assert (result.outcome, result.next, result.wait_seconds) == (Status.RUNNING, NextStep.POLL, 0)
    roomy = StatusPoller(upstream, NO_BUCKET, settings(follow_concurrency=50), Clock()).poll(result)
    assert (roomy.outcome, roomy.result) == (Status.COMPLETED, {"output_error": "too_large"})


def following(*statuses: Answer[StatusDocument]) -> Polling:
    polling = Polling(*statuses)
    polling.poller = StatusPoller(polling.upstream, NO_BUCKET, settings(follow_concurrency=50), polling.clock)
    return polling


def test_a_poll_leads_to_following_only_where_that_is_enabled() -> None:
    assert following().poll().next is NextStep.FOLLOW
    assert Polling().poll().next is NextStep.WAIT


def test_after_a_refused_follow_the_job_is_polled_for_a_while() -> None:
    polling = following()
    result = polling.poll(running_state(follow_refused=True))
    assert (result.next, result.follow_refused, result.history.follow_refused_at) == (
        NextStep.WAIT,
        False,
        NOW,
    )
    polling.clock.advance(polling_policy.FOLLOW_PAUSE_S - 1)
    assert polling.poll(result).next is NextStep.WAIT
    polling.clock.advance(1)
    assert polling.poll(result).next is NextStep.FOLLOW


def test_a_job_is_followed_only_while_the_upstream_answers() -> None:
    result = following(FAULTS["500"], FAULTS["500"], StatusDocument(status="RUNNING"))
    first = result.poll()
    assert (first.next, result.poll(first).next, result.poll(first).next) == (
        NextStep.WAIT,
        NextStep.WAIT,
        NextStep.FOLLOW,
    )


def test_a_job_whose_id_is_not_saved_yet_is_polled_until_it_is() -> None:
    """Only a poll saves it, and until then no caller can cancel the job."""
    assert following().poll(running_state(unsaved=True)).next is NextStep.WAIT


@pytest.mark.parametrize("answer", [StatusDocument(status="RUNNING"), FAULTS["500"], MISSING], ids=str)
def test_the_cancel_of_a_caller_is_repeated_until_the_job_has_ended(
    answer: Answer[StatusDocument],
) -> None:
    result = following(answer).poll(running_state(cancel_requested=True))
    assert (result.outcome, result.next, result.wait_seconds) == (Status.RUNNING, NextStep.CANCEL, 0)


def test_a_job_that_ended_before_its_callers_cancel_keeps_its_outcome() -> None:
    result = following(StatusDocument(status="FAILED")).poll(running_state(cancel_requested=True))
    assert (result.outcome, result.next) == (Status.FAILED, NextStep.NOTIFY)


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


def lasting(polling: Polling, state: LoopState | None = None) -> LoopState:
    """Poll until the loop goes elsewhere than to Wait."""
    result = polling.poll(state or running_state(deadline=NOW + 9e5))
    while result.next is NextStep.WAIT:
        polling.clock.advance(result.wait_seconds)
        result = polling.poll(result)
    return result


def test_an_unreadable_api_key_is_a_fault_and_no_error_of_the_upstream() -> None:
    result = Polling(NO_KEY).poll()
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.WAIT)
    assert 30 <= result.wait_seconds <= 45
    past = result.history
    assert (past.faults, past.fault, past.fault_since) == (1, "KeyUnavailableError", NOW)
    assert past.fault_reason == str(NO_KEY)
    assert (past.errors, past.status_requests) == (0, 0)
    assert LoopState.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_an_unexpected_exception_is_raised() -> None:
    with pytest.raises(RuntimeError):
        Polling(RuntimeError("a bug")).poll()


def test_faults_are_retried_at_doubled_intervals_up_to_a_quarter_of_an_hour() -> None:
    polling = Polling(NO_KEY)
    result, waits = running_state(deadline=NOW + 9e5), []
    for _ in range(9):
        result = polling.poll(result)
        waits.append(result.wait_seconds)
        polling.clock.advance(result.wait_seconds)
    for wait_s, least_s in zip(waits, [30, 60, 120, 240, 480, 900, 900, 900, 900], strict=True):
        assert least_s <= wait_s <= 1.5 * least_s


def test_a_job_whose_api_key_is_readable_again_within_six_hours_keeps_its_outcome() -> None:
    polling = Polling(StatusDocument(status="COMPLETED", final_output_json="{}"))
    back_at = NOW + 6 * 3600 - 60

    def status() -> StatusDocument:
        if polling.clock.now < back_at:
            raise NO_KEY
        return StatusDocument(status="COMPLETED", final_output_json="{}")

    polling.poller = StatusPoller(FakeUpstream(statuses=[status]), NO_BUCKET, settings(), polling.clock)
    assert lasting(polling).outcome is Status.COMPLETED


@pytest.mark.parametrize("answer", [StatusDocument("RUNNING"), FAULTS["500"]], ids=str)
def test_an_answer_of_the_upstream_resets_the_faults_of_the_api_key(answer: Answer[StatusDocument]) -> None:
    polling = Polling(NO_KEY, answer)
    past = polling.poll(polling.poll()).history
    assert (past.faults, past.fault, past.fault_since, past.fault_reason) == (0, None, None, None)


def test_a_job_whose_api_key_is_unreadable_for_six_hours_is_cancelled() -> None:
    polling = Polling(NO_KEY)
    result = lasting(polling)
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.CANCEL)
    assert result.error == {
        "code": "fault",
        "message": f"the API key could not be read for 6 h (KeyUnavailableError: {NO_KEY})",
    }
    assert 6 * 3600 <= polling.clock.now - NOW <= 6 * 3600 + 30
    assert polling.poll(result).next is NextStep.CANCEL


def test_a_job_with_a_fault_is_cancelled_at_its_deadline() -> None:
    polling = Polling(NO_KEY)
    result = lasting(polling, running_state(deadline=NOW + 1000))
    assert (result.next, result.error, polling.clock.now - NOW) == (NextStep.CANCEL, None, 1000)


def test_a_job_with_a_fault_is_not_followed() -> None:
    assert following(NO_KEY).poll().next is NextStep.WAIT


def test_a_bucket_that_fails_is_a_fault_and_no_error_of_the_upstream() -> None:
    result = storing(Down()).poll()
    assert (result.outcome, result.next, result.history.errors) == (Status.RUNNING, NextStep.WAIT, 0)
    assert (result.history.faults, result.history.fault) == (1, "ResultsUnavailableError")


def test_each_output_that_the_bucket_refuses_counts_as_a_fault() -> None:
    polling = storing(Down())
    result = polling.poll()
    polling.clock.advance(100)
    past = polling.poll(result).history
    assert (past.faults, past.fault_since) == (2, NOW)


def test_an_output_that_the_bucket_accepts_within_six_hours_is_stored() -> None:
    down = Down()
    polling = storing(down)
    result = polling.poll(running_state(deadline=NOW + 9e5))
    while polling.clock.now < NOW + 5 * 3600:
        assert result.next is NextStep.WAIT
        polling.clock.advance(result.wait_seconds)
        result = polling.poll(result)
    down.down = False
    assert polling.poll(result).result["output_ref"] == "s3://results/it"


@pytest.mark.parametrize(("deadline_s", "ends_s"), [(9e5, 6 * 3600), (3600, 3600)])
def test_a_completed_job_whose_output_cannot_be_stored_is_completed_without_it(
    deadline_s: float, ends_s: float
) -> None:
    polling = storing(Down())
    result = lasting(polling, running_state(deadline=NOW + deadline_s))
    if result.next is NextStep.CANCEL:  # the deadline was found before its last poll
        result = polling.poll(result)
    assert (result.outcome, result.next, result.error) == (Status.COMPLETED, NextStep.NOTIFY, None)
    assert result.result == {"output_error": "storage_failed", "completed_at": "2026-01-01T00:00:00.000Z"}
    assert ends_s <= polling.clock.now - NOW <= ends_s + 30


def test_a_running_status_resets_the_faults_of_the_bucket() -> None:
    polling = storing(Down(), LARGE_OUTPUT, StatusDocument("RUNNING"))
    assert polling.poll(polling.poll()).history.faults == 0
