"""Cancel: what is overdue ends as TIMED_OUT, and a finished job is never recorded as cancelled."""

import json
from dataclasses import replace
from typing import Any

import pytest

from functions.cancel import app
from tests.fakes.aws import Bucket, Secret
from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import NO_BUCKET
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import build_job_canceller
from tests.support.builders import KEY, OWNER, STARTED_AT, UPSTREAM_ID, history, job, settings
from tests.support.invoke import Invoke
from waterhook.domain import retry_policy
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    KeyUnavailableError,
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.steps.cancel import CancelStep
from waterhook.steps.status_poller import StatusPoller
from waterhook.upstream.client import CancelResult

DONE = CancelResult(cancelled=True, message=None, previous_status="RUNNING")
TOO_LATE = CancelResult(cancelled=False, message="already finished", previous_status="COMPLETED")
COMPLETED = StatusDocument(status="COMPLETED", final_output_json='{"n":1.0}')
RUNNING = StatusDocument(status="RUNNING")
OVERDUE = NOW - 1
CRASHED = job(fault="RuntimeError", next=NextStep.CANCEL)
CRASH = f"Waterhook failed (RuntimeError); see the history of the state machine execution {OWNER}"


class CancelScenario:
    """A cancel step and its upstream. `run` does what the state machine does until there is an outcome."""

    def __init__(self, cancels: list[Answer[CancelResult]], statuses: list[Answer[StatusDocument]]) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream(cancels=cancels, statuses=statuses)
        self.poller = StatusPoller(self.upstream, NO_BUCKET, settings(), self.clock)
        self.step = CancelStep(build_job_canceller(self.upstream, self.clock), self.clock)

    def cancel(self, given: LoopState | None = None) -> LoopState:
        return self.step.cancel(given or job(deadline=OVERDUE), OWNER)

    def run(self, given: LoopState | None = None) -> LoopState:
        got = given or job(deadline=OVERDUE, next=NextStep.CANCEL)
        for _ in range(60):
            if got.next is NextStep.CANCEL:
                got = self.cancel(got)
            elif got.next is NextStep.WAIT:
                self.clock.advance(got.wait_seconds)
                got = self.poller.poll(got)
            else:
                return got
        raise AssertionError("there is no outcome")


def test_an_overdue_job_that_could_be_cancelled_is_timed_out() -> None:
    scenario = CancelScenario([DONE], [])
    got = scenario.cancel()
    assert (got.outcome, got.next) == (Status.TIMED_OUT, NextStep.NOTIFY)
    assert got.error == {"code": "deadline", "message": "cancelled at its deadline"}
    assert (scenario.upstream.cancelled, scenario.upstream.polled) == ([UPSTREAM_ID], [])


def test_the_outcome_of_an_overdue_job_names_why_its_status_was_not_known() -> None:
    why = "HTTP 200, but the content encoding br is not supported"
    known = replace(job().history, errors=12, failure=why)
    got = CancelScenario([DONE], []).cancel(job(deadline=OVERDUE, history=known))
    assert got.error == {
        "code": "deadline",
        "message": f"cancelled at its deadline; the last 12 status requests failed: {why}",
    }
    by_caller = CancelScenario([DONE], []).cancel(job(deadline=OVERDUE, history=known, cancel_requested=True))
    assert by_caller.error == {"code": "cancelled", "message": "cancelled by its caller"}


REFUSALS: dict[str, Answer[CancelResult]] = {
    "cancelled: false": TOO_LATE,
    "400": UpstreamRefusedError("refused", "HTTP 400", status=400),
    "404": UpstreamRefusedError("refused", "HTTP 404", status=404),
    "409": UpstreamRefusedError("refused", "HTTP 409", status=409),
}
ENDS = {
    "COMPLETED": (COMPLETED, Status.COMPLETED),
    "FAILED": (StatusDocument(status="FAILED"), Status.FAILED),
    "CANCELLED": (StatusDocument(status="CANCELLED"), Status.CANCELLED),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("end", ENDS)
def test_too_late_means_the_outcome_it_really_had(refusal: Answer[CancelResult], end: str) -> None:
    document, outcome = ENDS[end]
    got = CancelScenario([refusal], [document]).cancel()
    assert (got.outcome, got.next) == (outcome, NextStep.NOTIFY)


def test_too_late_brings_the_output_along() -> None:
    assert CancelScenario([TOO_LATE], [COMPLETED]).cancel().result == {"final_output_json": '{"n":1.0}'}


FAULTS: dict[str, UpstreamError] = {
    "unreachable": UpstreamUnavailableError("unreachable", "no connection"),
    "429": UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=600.0),
    "503": UpstreamUnavailableError("unavailable", "HTTP 503", status=503),
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
    "timeout": PerhapsAcceptedError("no_answer", "no answer"),
    "garbage": PerhapsAcceptedError("unusable_answer", "HTTP 200, but not JSON", status=200),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failed_cancel_is_tried_again_after_a_short_wait(fault: UpstreamError) -> None:
    got = CancelScenario([fault], [RUNNING]).cancel()
    wait_s = 60 if fault.retry_after_s else 5  # a longer Retry-After is shortened
    assert (got.outcome, got.next, got.history.cancels) == (Status.RUNNING, NextStep.WAIT, 1)
    assert got.wait_seconds == wait_s


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_cancel_that_fails_is_repeated_for_ten_minutes_at_growing_intervals(fault: UpstreamError) -> None:
    scenario = CancelScenario([fault], [RUNNING])
    got = scenario.run()
    assert got.outcome is Status.TIMED_OUT
    assert scenario.clock.now - NOW == retry_policy.CANCEL_LIMIT_S == 600
    assert 10 <= len(scenario.upstream.cancelled) <= 15
    assert got.error is not None
    assert "may still be running" in got.error["message"]


def test_neither_answering_nor_cancelling_does_not_keep_an_execution_alive() -> None:
    got = CancelScenario([FAULTS["timeout"]], [FAULTS["timeout"]]).run()
    assert got.outcome is Status.TIMED_OUT


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("given", ["overdue", "a step failed"])
def test_an_upstream_that_refuses_to_cancel_what_runs_is_tried_three_times(
    refusal: Answer[CancelResult], given: str
) -> None:
    scenario = CancelScenario([refusal], [RUNNING])
    got = scenario.run(CRASHED if given == "a step failed" else None)
    assert got.outcome is (Status.ERROR if given == "a step failed" else Status.TIMED_OUT)
    assert (len(scenario.upstream.cancelled), scenario.clock.now - NOW) == (3, 10)
    assert got.error is not None
    assert "may still be running: Waterflai did not cancel it" in got.error["message"]


def test_failures_between_refusals_do_not_count_as_refusals() -> None:
    scenario = CancelScenario([TOO_LATE, *[FAULTS["503"]] * 5, TOO_LATE, TOO_LATE], [RUNNING])
    assert scenario.run().outcome is Status.TIMED_OUT
    assert len(scenario.upstream.cancelled) == 8


def test_a_job_that_completes_between_two_cancels_is_completed() -> None:
    got = CancelScenario([FAULTS["500"]], [COMPLETED]).run()
    assert got.outcome is Status.COMPLETED


def test_a_job_that_our_cancel_ended_though_its_answer_was_lost_is_timed_out() -> None:
    """The upstream reports CANCELLED because of our own cancel at the deadline."""
    scenario = CancelScenario(
        [FAULTS["timeout"], TOO_LATE], [StatusDocument(status="CANCELLED", completed_at=NOW)]
    )
    got = scenario.run()
    assert (got.outcome, got.next) == (Status.TIMED_OUT, NextStep.NOTIFY)
    assert got.error == {"code": "deadline", "message": "cancelled at its deadline"}
    assert got.result == {"completed_at": "2026-01-01T00:00:00.000Z"}


def test_what_a_cancel_is_not_about_stays_as_it_was() -> None:
    given = job(deadline=OVERDUE, unsaved=True, history=history(status_requests=7, errors=2))
    got = CancelScenario([FAULTS["500"]], []).cancel(given)
    assert (got.unsaved, got.history.status_requests, got.history.errors) == (True, 7, 2)


def event(given: LoopState) -> dict[str, Any]:
    return {"state": given.to_dict(), "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def test_the_function_cancels_over_http(invoke: Invoke) -> None:
    with ScriptedServer([reply(200, {"cancelled": True, "previous_status": "RUNNING"})]) as server:
        state = invoke(app, event(job()), WATERFLAI_BASE_URL=server.url)
    (got,) = server.requests
    assert (got.method, got.target, got.headers["x-api-key"]) == (
        "DELETE",
        f"/v1/executions/{UPSTREAM_ID}",
        KEY,
    )
    assert (state["outcome"], state["next"]) == ("TIMED_OUT", "notify")
    assert json.loads(json.dumps(state)) == state


def test_the_function_brings_a_large_output_to_the_bucket_when_it_is_too_late(
    invoke: Invoke, bucket: Bucket
) -> None:
    output = '"' + "x" * 40_000 + '"'
    document = '{"status":"COMPLETED","final_output":' + output + "}"
    with ScriptedServer([reply(400, {"detail": "too late"}), reply(200, document)]) as server:
        state = invoke(app, event(job()), WATERFLAI_BASE_URL=server.url)
    assert bucket.text(state["result"]["output_ref"]) == output


def test_a_cancel_that_its_caller_was_promised_is_tried_for_ten_minutes_and_not_put_off_to_the_deadline() -> (
    None
):
    scenario = CancelScenario([FAULTS["500"]], [RUNNING])
    got = scenario.run(job(cancel_requested=True, next=NextStep.CANCEL))
    assert got.outcome is Status.CANCELLED
    assert scenario.clock.now - NOW == 600
    assert got.error is not None
    assert "may still be running" in got.error["message"]


def test_a_job_that_its_caller_cancelled_is_cancelled_and_not_timed_out() -> None:
    got = CancelScenario([DONE], []).cancel(job(cancel_requested=True))
    assert (got.outcome, got.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert got.error == {"code": "cancelled", "message": "cancelled by its caller"}


# Faults of Waterhook


UNREADABLE = KeyUnavailableError("the secret: AccessDeniedException")


def test_a_job_whose_step_failed_is_cancelled_with_that_as_its_error() -> None:
    scenario = CancelScenario([DONE], [])
    got = scenario.cancel(CRASHED)
    assert (got.outcome, got.next, got.fault) == (Status.ERROR, NextStep.NOTIFY, None)
    assert got.error == {"code": "fault", "message": f"{CRASH}; the job at Waterflai was cancelled"}
    assert scenario.upstream.cancelled == [UPSTREAM_ID]


@pytest.mark.parametrize("fault", [*FAULTS.values(), UNREADABLE], ids=[*FAULTS, "no key"])
def test_a_job_whose_step_failed_is_tried_to_be_cancelled_for_ten_minutes(fault: Any) -> None:
    scenario = CancelScenario([fault], [RUNNING])
    got = scenario.run(CRASHED)
    assert got.outcome is Status.ERROR
    assert scenario.clock.now - NOW == 600
    assert got.error is not None
    assert got.error["message"].startswith(f"{CRASH}; the job at Waterflai may still be running: ")
    assert str(fault) in got.error["message"]


@pytest.mark.parametrize("end", ENDS)
def test_a_job_whose_step_failed_keeps_its_real_outcome_where_it_has_one(end: str) -> None:
    document, outcome = ENDS[end]
    got = CancelScenario([TOO_LATE], [document]).cancel(CRASHED)
    assert (got.outcome, got.next) == (outcome, NextStep.NOTIFY)


def test_a_job_whose_step_failed_and_whose_cancel_lost_its_answer_was_cancelled_by_us() -> None:
    scenario = CancelScenario(
        [FAULTS["timeout"], TOO_LATE], [FAULTS["500"], StatusDocument(status="CANCELLED")]
    )
    got = scenario.run(CRASHED)
    assert (got.outcome, got.error and got.error["message"]) == (
        Status.ERROR,
        f"{CRASH}; the job at Waterflai was cancelled",
    )


def test_the_first_reason_for_a_cancel_counts_where_a_later_step_fails_too() -> None:
    given_up = {"code": "fault", "message": "the API key could not be read for 6 h"}
    got = CancelScenario([DONE], []).cancel(job(error=given_up, fault="RuntimeError"))
    assert got.error is not None
    assert got.error["message"] == f"{given_up['message']}; the job at Waterflai was cancelled"


def test_a_key_that_cannot_be_read_at_the_deadline_is_named_by_the_outcome() -> None:
    got = CancelScenario([UNREADABLE], [UNREADABLE]).run()
    assert got.outcome is Status.TIMED_OUT
    assert got.error is not None
    assert (
        "the API key could not be read (KeyUnavailableError: the secret: AccessDenied" in got.error["message"]
    )


def test_a_job_that_is_overdue_with_an_unknown_status_is_timed_out_and_names_it() -> None:
    overdue = job(deadline=OVERDUE, history=history(unknown_status="ARCHIVING"))
    got = CancelScenario([DONE], []).cancel(overdue)
    assert got.error is not None
    assert (
        got.error["message"] == "cancelled at its deadline; Waterflai's last status was unknown: 'ARCHIVING'"
    )


def test_a_loop_of_the_version_before_that_has_tried_twice_goes_on() -> None:
    got = CancelScenario([FAULTS["500"]], [RUNNING]).run(
        job(deadline=OVERDUE, next=NextStep.CANCEL, history=history(cancels=2))
    )
    assert got.outcome is Status.TIMED_OUT


def test_the_function_takes_a_secret_it_cannot_read_for_a_cancel_that_failed(
    invoke: Invoke, secret: Secret
) -> None:
    secret.rotate('{"apiKey": "in the wrong field"}')
    state = invoke(app, event(job()))
    assert (state["next"], state["wait_seconds"], state["history"]["cancels"]) == ("wait", 5, 1)
