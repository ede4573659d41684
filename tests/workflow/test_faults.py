"""Faults of Waterhook: retries of each task, and the notification after the last attempt."""

from typing import TYPE_CHECKING

import pytest

from tests.fakes.scripted_waterflai import API_KEY, TOO_LATE, Response, completed, http_error, on_request
from tests.workflow.functions_in_process import Fault
from tests.workflow.world import World, definition, request
from waterhook.notifications.notifier import Notifier
from waterhook.storage.executions_table import ExecutionsTable

if TYPE_CHECKING:
    from tests.workflow.run import Run

HOUR_S = 3600
STATE = {"start": "Start execution", "poll": "Poll", "cancel": "Cancel", "notify": "Notify"}
# Faults of the Lambda service are retried for hours, exceptions of a function for seconds.
RETRIES = {
    "Lambda.TooManyRequestsException": 60,
    "Lambda.ServiceException": 60,
    "Lambda.AWSLambdaException": 60,
    "Lambda.SdkClientException": 60,
    "Lambda.Unknown": 8,
    "States.Timeout": 2,
    "Sandbox.Timedout": 2,
    "Runtime.ExitError": 2,
    "RuntimeError": 2,
}
ONE_OF_EACH_KIND = ["Lambda.TooManyRequestsException", "Lambda.Unknown", "States.Timeout", "RuntimeError"]
OVERDUE = request(timeout_seconds=5)


def test_start_poll_and_cancel_have_the_same_retries() -> None:
    """So one of the three is enough for the tests of each fault."""
    states = definition()["States"]
    assert states["Start execution"]["Retry"] == states["Poll"]["Retry"] == states["Cancel"]["Retry"]


@pytest.mark.parametrize(
    ("task", "fault"),
    [*(("start", fault) for fault in RETRIES), ("poll", "RuntimeError"), ("cancel", "RuntimeError")],
)
def test_a_task_that_always_fails_is_retried_as_often_as_defined_and_then_notified(
    world: World, task: str, fault: str
) -> None:
    world.functions.fail(task, fault)
    run = world.run(OVERDUE)
    assert world.functions.count(task) == 1 + RETRIES[fault]
    # The job of a poll is cancelled first.
    between = ["Cancel", "What next?"] if task == "poll" else ["Report the fault"]
    end = [STATE[task], *between, "Notify", "Completed?", "Fail with the outcome"]
    assert run.path[-len(end) :] == end
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    execution_id, data = notification.event["subject"], notification.event["data"]
    assert (data["status"], data["error"]["code"]) == ("ERROR", "fault")
    assert f"({fault})" in data["error"]["message"]
    assert run.result["execution_id"] == execution_id
    assert (run.cause or "").startswith(f'{{"message":"execution {execution_id} ended ERROR: Waterhook')
    assert world.record(execution_id).status == "ERROR"


def test_the_job_of_a_poll_that_always_fails_is_cancelled_and_the_error_names_both(world: World) -> None:
    world.functions.fail("poll", "States.Timeout")
    run = world.run(request())
    assert world.upstream.count("cancel") == 1
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["message"].endswith("; the job at Waterflai was cancelled")
    assert "(States.Timeout)" in notification.event["data"]["error"]["message"]


def test_a_cancel_after_a_fault_is_repeated_for_ten_minutes_while_polls_fail(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(503))
    world.functions.fail("poll", "RuntimeError")
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    assert 10 <= world.upstream.count("cancel") <= 15
    assert 600 <= world.clock.elapsed_s <= 1000
    assert "(RuntimeError)" in run.result["message"]
    assert "; the job at Waterflai may still be running: HTTP 503" in run.result["message"]


def test_a_job_that_has_completed_keeps_its_outcome_though_its_polls_fail(world: World) -> None:
    world.functions.fail("poll", "RuntimeError")
    world.upstream.respond_with("cancel", TOO_LATE)
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.result["final_output_json"] == '{"answer": 42}'


def test_the_error_after_failed_polls_and_cancels_states_that_the_job_may_go_on(world: World) -> None:
    world.functions.fail("poll", "RuntimeError")
    world.functions.fail("cancel", "MemoryError")
    run = world.run(request())
    assert run.path[-5:-1] == ["Cancel", "Report the fault", "Notify", "Completed?"]
    assert run.result["message"].endswith("; the job at Waterflai may still be running")


def test_a_job_whose_secret_is_malformed_for_longer_than_six_hours_ends_in_an_error_that_names_it(
    world: World,
) -> None:
    world.functions.before("poll", lambda: world.new_containers("poll", "cancel"))
    world.put_secret('{"apiKey": "in the wrong field"}', after="start")
    run = world.run(request(timeout_seconds=24 * HOUR_S))
    world.put_secret(API_KEY)
    assert run.error == "Waterhook.Error"
    message = run.result["message"]
    assert "the API key could not be read for 6 h (KeyUnavailableError: " in message
    assert (
        "; the job at Waterflai may still be running: the API key could not be read (KeyUnavailableError: "
        in message
    )
    assert "wrong field" not in message
    assert 6 * HOUR_S <= world.clock.elapsed_s <= 6 * HOUR_S + 700


@pytest.mark.parametrize("fault", ONE_OF_EACH_KIND)
def test_a_task_that_succeeds_at_its_last_attempt_has_no_fault(world: World, fault: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("start", fault, times=RETRIES[fault])
    run = world.run(OVERDUE)
    assert run.status == "SUCCEEDED"
    assert "Report the fault" not in run.path
    assert world.functions.count("start") == 1 + RETRIES[fault]


def test_throttles_and_exceptions_have_separate_numbers_of_attempts(world: World) -> None:
    for fault in RETRIES:
        if fault.startswith("Lambda."):
            world.functions.fail("poll", fault, times=2)
    world.functions.fail("poll", "RuntimeError", times=2)
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.functions.count("poll") == 1 + 5 * 2 + 2


@pytest.mark.parametrize("task", ["start", "notify"])
def test_throttles_are_retried_for_hours(world: World, task: str) -> None:
    world.functions.fail(task, "Lambda.TooManyRequestsException")
    world.run(OVERDUE)
    delays = world.clock.pauses if task == "notify" else world.clock.pauses[:60]
    assert sum(delays) > 4 * HOUR_S
    assert delays == sorted(delays)
    assert delays[:3] == ([2, 4, 8] if task == "notify" else [1, 2, 4])
    assert delays[-1] == (900 if task == "notify" else 300)


def test_an_exception_is_reported_within_seconds(world: World) -> None:
    world.functions.fail("start", "RuntimeError")
    world.run(OVERDUE)
    assert world.clock.pauses == [2, 4]


@pytest.mark.parametrize("fault", ["Lambda.TooManyRequestsException", "RuntimeError"])
def test_a_notify_that_fails_39_times_publishes_at_the_next_attempt(world: World, fault: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", fault, times=39)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("notify") == 40
    assert len(world.notifications()) == 1


def test_after_a_notify_that_always_fails_a_redrive_starts_at_notify(
    world: World,
) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", "RuntimeError")
    run = world.run(request(), "redriven")
    assert (run.status, run.error, run.path[-1]) == ("FAILED", "RuntimeError", "Notify")
    assert world.functions.count("notify") == 41
    assert not world.notifications()


def test_a_notify_whose_result_is_lost_publishes_once(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", Fault("States.Timeout", after=True), times=3)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("notify") == 4
    assert len(world.notifications()) == 1


def test_a_notify_that_fails_after_its_publish_publishes_the_same_bytes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(ExecutionsTable, "mark_notified", fail)
    world.upstream.respond_with("status", completed('{"a": 1.0}'))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    first, second = world.notifications()
    assert first == second


def test_a_notify_that_fails_before_its_publish_publishes_the_recorded_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Notifier, "_deliver", fail)
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    [notification] = world.notifications()
    assert notification.event["time"] == "2026-01-01T00:00:04.000Z"
    assert world.clock.elapsed_s == 6
    assert run.result["timing"]["finished_at"] == notification.event["time"]


def test_a_poll_whose_result_is_lost_is_repeated(world: World) -> None:
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    world.functions.fail("poll", Fault("States.Timeout", after=True), times=2)
    run = world.run(request())
    assert run.result["final_output_json"] == '{"answer": 42}'


def test_a_job_whose_cancel_loses_its_result_is_timed_out(world: World) -> None:
    world.functions.fail("cancel", Fault("States.Timeout", after=True), times=2)
    assert world.run(OVERDUE).error == "Waterhook.TimedOut"


@pytest.mark.parametrize(
    "execution_input",
    [
        request(idempotency_key="start-fails"),
        {"event_id": "start-fails", "request": request()},
        {"event_id": "no-good", "request": {"chatbot_id": 7}},
        None,
        ["not", "an", "object"],
    ],
)
def test_a_start_that_always_fails_is_notified_with_the_id_of_its_request(
    world: World, execution_input: object
) -> None:
    world.functions.fail("start", "RuntimeError", times=3)
    run = world.run(execution_input)
    assert run.error == "Waterhook.Error"
    again = world.run(execution_input)
    keyed = isinstance(execution_input, dict)
    assert (again.result["execution_id"] == run.result["execution_id"]) == keyed
    assert world.notifications()[0].event["subject"] == run.result["execution_id"]


def test_a_fault_of_a_duplicate_does_not_change_the_outcome(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    first = world.run(request(idempotency_key="ended-well"))
    world.functions.fail("start", "RuntimeError")
    second = world.run(request(idempotency_key="ended-well"))
    assert second.status == "SUCCEEDED"
    assert second.result == first.result
    assert len(world.notifications()) == 1


def test_a_record_erased_while_its_job_runs_fails_the_execution_and_is_not_notified(world: World) -> None:
    execution_input = request(idempotency_key="erase-me")
    accepted: list[str] = []

    @on_request
    def erase() -> Response:
        accepted.append(world.functions.calls[-1][1]["state"]["execution_id"])
        world.erase(accepted[0])
        return completed("{}")

    world.upstream.respond_with("status", erase)
    run = world.run(execution_input)
    assert run.error == "Waterhook.Error"
    assert (
        run.result["message"] == f"the record of {accepted[0]} does not exist; it was erased or has expired"
    )
    assert not world.notifications()


@pytest.mark.parametrize("outcome", ["COMPLETED", "RUNNING"])
def test_a_key_of_another_request_is_a_conflict_though_the_start_fails(world: World, outcome: str) -> None:
    key = f"conflict-of-a-{outcome}-one"
    other = request(idempotency_key=key, input_data={"question": "why not?"})
    runs: list[Run] = []

    @on_request
    def meanwhile() -> Response:
        world.functions.fail("start", "RuntimeError", times=3)
        if outcome == "RUNNING":
            runs.append(world.run(other))
        return completed('"of the first"')

    world.upstream.respond_with("status", meanwhile)
    world.run(request(idempotency_key=key))
    if outcome == "COMPLETED":
        runs.append(world.run(other))
    [second] = runs
    assert second.error == "Waterhook.IdempotencyConflict"
    assert len(world.notifications()) == 1
