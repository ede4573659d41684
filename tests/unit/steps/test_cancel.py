"""The cancel step: outcomes, repeated attempts and errors."""

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
from tests.support.builders import KEY, OWNER, STARTED_AT, UPSTREAM_ID, history, running_state, settings
from tests.support.invoke import Invoke
from waterhook.domain import retry_policy
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    KeyUnavailableError,
    PerhapsAcceptedError,
    UpstreamError,
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
CRASHED = running_state(fault="RuntimeError", next=NextStep.CANCEL)
CRASH = f"Waterhook failed (RuntimeError); see the history of the state machine execution {OWNER}"


class CancelScenario:
    """A cancel step and its upstream. `run` calls the steps as the state machine does, until an outcome."""

    def __init__(self, cancels: list[Answer[CancelResult]], statuses: list[Answer[StatusDocument]]) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream(cancels=cancels, statuses=statuses)
        self.poller = StatusPoller(self.upstream, NO_BUCKET, settings(), self.clock)
        self.step = CancelStep(build_job_canceller(self.upstream, self.clock), self.clock)

    def cancel(self, state: LoopState | None = None) -> LoopState:
        return self.step.cancel(state or running_state(deadline=OVERDUE), OWNER)

    def run(self, state: LoopState | None = None) -> LoopState:
        result = state or running_state(deadline=OVERDUE, next=NextStep.CANCEL)
        for _ in range(60):
            if result.next is NextStep.CANCEL:
                result = self.cancel(result)
            elif result.next is NextStep.WAIT:
                self.clock.advance(result.wait_seconds)
                result = self.poller.poll(result)
            else:
                return result
        raise AssertionError("there is no outcome")


def test_an_overdue_job_that_could_be_cancelled_is_timed_out() -> None:
    scenario = CancelScenario([DONE], [])
    result = scenario.cancel()
    assert (result.outcome, result.next) == (Status.TIMED_OUT, NextStep.NOTIFY)
    assert result.error == {"code": "deadline", "message": "cancelled at its deadline"}
    assert (scenario.upstream.cancelled, scenario.upstream.polled) == ([UPSTREAM_ID], [])


def test_the_error_of_an_overdue_job_names_the_failed_status_requests() -> None:
    why = "HTTP 200, but the content encoding br is not supported"
    known = replace(running_state().history, errors=12, failure=why)
    result = CancelScenario([DONE], []).cancel(running_state(deadline=OVERDUE, history=known))
    assert result.error == {
        "code": "deadline",
        "message": f"cancelled at its deadline; the last 12 status requests failed: {why}",
    }
    by_caller = CancelScenario([DONE], []).cancel(
        running_state(deadline=OVERDUE, history=known, cancel_requested=True)
    )
    assert by_caller.error == {"code": "cancelled", "message": "cancelled by its caller"}


def test_a_job_that_completed_before_its_cancel_keeps_its_outcome_and_output() -> None:
    result = CancelScenario([TOO_LATE], [COMPLETED]).cancel()
    assert (result.outcome, result.next) == (Status.COMPLETED, NextStep.NOTIFY)
    assert result.result == {"final_output_json": '{"n":1.0}'}


FAULTS: dict[str, UpstreamError] = {
    "429": UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=600.0),
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_failed_cancel_is_tried_again_after_a_short_wait(fault: UpstreamError) -> None:
    result = CancelScenario([fault], [RUNNING]).cancel()
    wait_s = 60 if fault.retry_after_s else 5  # a longer Retry-After is shortened
    assert (result.outcome, result.next, result.history.cancels) == (Status.RUNNING, NextStep.WAIT, 1)
    assert result.wait_seconds == wait_s


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_cancel_that_fails_is_repeated_for_ten_minutes_at_growing_intervals(fault: UpstreamError) -> None:
    scenario = CancelScenario([fault], [RUNNING])
    result = scenario.run()
    assert result.outcome is Status.TIMED_OUT
    assert scenario.clock.now - NOW == retry_policy.CANCEL_LIMIT_S == 600
    assert 10 <= len(scenario.upstream.cancelled) <= 15
    assert result.error is not None
    assert "may still be running" in result.error["message"]


def test_an_execution_ends_though_every_cancel_and_status_request_fails() -> None:
    result = CancelScenario([FAULTS["500"]], [FAULTS["500"]]).run()
    assert result.outcome is Status.TIMED_OUT


@pytest.mark.parametrize("state", ["overdue", "a step failed"])
def test_a_refused_cancel_of_a_running_job_is_tried_three_times(state: str) -> None:
    scenario = CancelScenario([TOO_LATE], [RUNNING])
    result = scenario.run(CRASHED if state == "a step failed" else None)
    assert result.outcome is (Status.ERROR if state == "a step failed" else Status.TIMED_OUT)
    assert (len(scenario.upstream.cancelled), scenario.clock.now - NOW) == (3, 10)
    assert result.error is not None
    assert "may still be running: Waterflai did not cancel it" in result.error["message"]


def test_failures_between_refusals_do_not_count_as_refusals() -> None:
    scenario = CancelScenario([TOO_LATE, *[FAULTS["500"]] * 5, TOO_LATE, TOO_LATE], [RUNNING])
    assert scenario.run().outcome is Status.TIMED_OUT
    assert len(scenario.upstream.cancelled) == 8


def test_a_job_that_completes_between_two_cancels_is_completed() -> None:
    result = CancelScenario([FAULTS["500"]], [COMPLETED]).run()
    assert result.outcome is Status.COMPLETED


def test_a_job_that_was_cancelled_after_a_lost_answer_is_timed_out() -> None:
    """The upstream reports CANCELLED because of our own cancel at the deadline."""
    scenario = CancelScenario(
        [FAULTS["500"], TOO_LATE], [StatusDocument(status="CANCELLED", completed_at=NOW)]
    )
    result = scenario.run()
    assert (result.outcome, result.next) == (Status.TIMED_OUT, NextStep.NOTIFY)
    assert result.error == {"code": "deadline", "message": "cancelled at its deadline"}
    assert result.result == {"completed_at": "2026-01-01T00:00:00.000Z"}


def test_a_failed_cancel_leaves_the_rest_of_the_state_unchanged() -> None:
    state = running_state(deadline=OVERDUE, unsaved=True, history=history(status_requests=7, errors=2))
    result = CancelScenario([FAULTS["500"]], []).cancel(state)
    assert (result.unsaved, result.history.status_requests, result.history.errors) == (True, 7, 2)


def event(state: LoopState) -> dict[str, Any]:
    return {"state": state.to_dict(), "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def test_the_function_cancels_over_http(invoke: Invoke) -> None:
    with ScriptedServer([reply(200, {"cancelled": True, "previous_status": "RUNNING"})]) as server:
        state = invoke(app, event(running_state()), WATERFLAI_BASE_URL=server.url)
    (sent,) = server.requests
    assert (sent.method, sent.target, sent.headers["x-api-key"]) == (
        "DELETE",
        f"/v1/executions/{UPSTREAM_ID}",
        KEY,
    )
    assert (state["outcome"], state["next"]) == ("TIMED_OUT", "notify")
    assert json.loads(json.dumps(state)) == state


def test_the_function_stores_the_large_output_of_a_job_that_completed_before_its_cancel(
    invoke: Invoke, bucket: Bucket
) -> None:
    output = '"' + "x" * 40_000 + '"'
    document = '{"status":"COMPLETED","final_output":' + output + "}"
    with ScriptedServer([reply(400, {"detail": "too late"}), reply(200, document)]) as server:
        state = invoke(app, event(running_state()), WATERFLAI_BASE_URL=server.url)
    assert bucket.text(state["result"]["output_ref"]) == output


def test_a_callers_cancel_is_tried_for_ten_minutes_from_now() -> None:
    scenario = CancelScenario([FAULTS["500"]], [RUNNING])
    result = scenario.run(running_state(cancel_requested=True, next=NextStep.CANCEL))
    assert result.outcome is Status.CANCELLED
    assert scenario.clock.now - NOW == 600
    assert result.error is not None
    assert "may still be running" in result.error["message"]


def test_a_job_that_its_caller_cancelled_is_cancelled() -> None:
    result = CancelScenario([DONE], []).cancel(running_state(cancel_requested=True))
    assert (result.outcome, result.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert result.error == {"code": "cancelled", "message": "cancelled by its caller"}


# Faults of Waterhook


UNREADABLE = KeyUnavailableError("the secret: AccessDeniedException")


def test_a_job_whose_step_failed_is_cancelled_with_that_as_its_error() -> None:
    scenario = CancelScenario([DONE], [])
    result = scenario.cancel(CRASHED)
    assert (result.outcome, result.next, result.fault) == (Status.ERROR, NextStep.NOTIFY, None)
    assert result.error == {"code": "fault", "message": f"{CRASH}; the job at Waterflai was cancelled"}
    assert scenario.upstream.cancelled == [UPSTREAM_ID]


@pytest.mark.parametrize("fault", [*FAULTS.values(), UNREADABLE], ids=[*FAULTS, "no key"])
def test_the_cancel_of_a_job_whose_step_failed_is_repeated_for_ten_minutes(fault: Any) -> None:
    scenario = CancelScenario([fault], [RUNNING])
    result = scenario.run(CRASHED)
    assert result.outcome is Status.ERROR
    assert scenario.clock.now - NOW == 600
    assert result.error is not None
    assert result.error["message"].startswith(f"{CRASH}; the job at Waterflai may still be running: ")
    assert str(fault) in result.error["message"]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED])
def test_a_job_whose_step_failed_keeps_its_real_outcome_where_it_has_one(status: Status) -> None:
    result = CancelScenario([TOO_LATE], [StatusDocument(status)]).cancel(CRASHED)
    assert (result.outcome, result.next) == (status, NextStep.NOTIFY)


def test_a_job_whose_step_failed_was_cancelled_also_after_a_lost_answer() -> None:
    scenario = CancelScenario([FAULTS["500"], TOO_LATE], [FAULTS["500"], StatusDocument(status="CANCELLED")])
    result = scenario.run(CRASHED)
    assert (result.outcome, result.error and result.error["message"]) == (
        Status.ERROR,
        f"{CRASH}; the job at Waterflai was cancelled",
    )


def test_a_later_fault_does_not_replace_the_first_reason_for_a_cancel() -> None:
    given_up = {"code": "fault", "message": "the API key could not be read for 6 h"}
    result = CancelScenario([DONE], []).cancel(running_state(error=given_up, fault="RuntimeError"))
    assert result.error is not None
    assert result.error["message"] == f"{given_up['message']}; the job at Waterflai was cancelled"


def test_the_error_of_an_overdue_job_names_an_unreadable_api_key() -> None:
    result = CancelScenario([UNREADABLE], [UNREADABLE]).run()
    assert result.outcome is Status.TIMED_OUT
    assert result.error is not None
    assert (
        "the API key could not be read (KeyUnavailableError: the secret: AccessDenied"
        in result.error["message"]
    )


def test_the_error_of_an_overdue_job_names_its_unknown_status() -> None:
    overdue = running_state(deadline=OVERDUE, history=history(unknown_status="ARCHIVING"))
    result = CancelScenario([DONE], []).cancel(overdue)
    assert result.error is not None
    assert (
        result.error["message"]
        == "cancelled at its deadline; Waterflai's last status was unknown: 'ARCHIVING'"
    )


def test_a_state_of_an_older_version_with_two_cancels_leads_to_an_outcome() -> None:
    result = CancelScenario([FAULTS["500"]], [RUNNING]).run(
        running_state(deadline=OVERDUE, next=NextStep.CANCEL, history=history(cancels=2))
    )
    assert result.outcome is Status.TIMED_OUT


def test_the_function_counts_an_unreadable_secret_as_a_failed_cancel(invoke: Invoke, secret: Secret) -> None:
    secret.rotate('{"apiKey": "in the wrong field"}')
    state = invoke(app, event(running_state()))
    assert (state["next"], state["wait_seconds"], state["history"]["cancels"]) == ("wait", 5, 1)
