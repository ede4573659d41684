"""Faults of our own: every task is tried again as often as it says, and no fault ends without a notification."""

from typing import TYPE_CHECKING

import pytest

from tests.fakes.scripted_waterflai import API_KEY, TOO_LATE, Response, completed, http_error, on_request
from tests.workflow.functions_in_process import Fault
from tests.workflow.world import World, request
from waterhook.notifications.notifier import Notifier
from waterhook.storage.executions_table import ExecutionsTable

if TYPE_CHECKING:
    from tests.workflow.run import Run

HOUR_S = 3600
STATE = {"start": "Start execution", "poll": "Poll", "cancel": "Cancel", "notify": "Notify"}
# What the service does to us is waited out for hours. What may be our own doing is not: the job has a deadline.
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
each_task = pytest.mark.parametrize("task", ["start", "poll", "cancel"])
each_fault = pytest.mark.parametrize("fault", RETRIES)
OVERDUE = request(timeout_seconds=5)


@each_task
@each_fault
def test_a_task_that_never_works_is_tried_as_often_as_defined_and_then_notified(
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


@pytest.mark.parametrize("fault", ["RuntimeError", "States.Timeout"])
def test_the_job_of_a_poll_that_never_works_is_cancelled_as_the_error_states(
    world: World, fault: str
) -> None:
    world.functions.fail("poll", fault)
    run = world.run(request())
    assert world.upstream.count("cancel") == 1
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["message"].endswith("; the job at Waterflai was cancelled")
    assert f"({fault})" in notification.event["data"]["error"]["message"]


def test_a_cancel_after_a_fault_is_repeated_for_ten_minutes_though_no_poll_works(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(503))
    world.functions.fail("poll", "RuntimeError")
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    assert 10 <= world.upstream.count("cancel") <= 15
    assert 600 <= world.clock.elapsed_s <= 1000
    assert "(RuntimeError)" in run.result["message"]
    assert "; the job at Waterflai may still be running: HTTP 503" in run.result["message"]


def test_a_job_that_has_completed_when_its_poll_never_works_keeps_its_outcome(world: World) -> None:
    world.functions.fail("poll", "RuntimeError")
    world.upstream.respond_with("cancel", TOO_LATE)
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.result["final_output_json"] == '{"answer": 42}'


def test_the_job_of_a_cancel_that_never_works_may_go_on_as_the_error_states(world: World) -> None:
    world.functions.fail("poll", "RuntimeError")
    world.functions.fail("cancel", "MemoryError")
    run = world.run(request())
    assert run.path[-5:-1] == ["Cancel", "Report the fault", "Notify", "Completed?"]
    assert run.result["message"].endswith("; the job at Waterflai may still be running")


def test_a_job_whose_secret_is_malformed_for_an_hour_keeps_its_outcome(world: World) -> None:
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    world.functions.before("poll", lambda: world.new_containers("poll"))
    world.put_secret('{"apiKey": "in the wrong field"}', after="start")

    def repair() -> None:
        if world.clock.elapsed_s > HOUR_S:
            world.put_secret(API_KEY)

    world.functions.before("poll", repair)
    run = world.run(request(timeout_seconds=24 * HOUR_S))
    assert run.result["final_output_json"] == '{"answer": 42}'
    assert HOUR_S < world.clock.elapsed_s < 2 * HOUR_S
    assert run.path.count("Poll") < 15


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


@each_task
@pytest.mark.parametrize("fault", ONE_OF_EACH_KIND)
def test_a_task_that_works_at_its_last_attempt_goes_on_as_if_nothing_had_been(
    world: World, task: str, fault: str
) -> None:
    if task != "cancel":
        world.upstream.respond_with("status", completed("{}"))
    world.functions.fail(task, fault, times=RETRIES[fault])
    run = world.run(OVERDUE)
    assert run.error == ("Waterhook.TimedOut" if task == "cancel" else None)
    assert "Report the fault" not in run.path
    assert world.functions.count(task) == 1 + RETRIES[fault]


@each_task
def test_a_throttle_does_not_use_up_the_attempts_of_a_crash(world: World, task: str) -> None:
    for fault in RETRIES:
        if fault.startswith("Lambda."):
            world.functions.fail(task, fault, times=2)
    world.functions.fail(task, "RuntimeError", times=2)
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.functions.count(task) == 1 + 5 * 2 + 2


@pytest.mark.parametrize("task", ["start", "poll", "cancel", "notify"])
def test_throttles_are_waited_out_for_hours(world: World, task: str) -> None:
    world.functions.fail(task, "Lambda.TooManyRequestsException")
    world.run(OVERDUE)
    delays = world.clock.pauses if task == "notify" else world.clock.pauses[:60]
    assert sum(delays) > 4 * HOUR_S
    assert delays == sorted(delays)
    assert delays[:3] == ([2, 4, 8] if task == "notify" else [1, 2, 4])
    assert delays[-1] == (900 if task == "notify" else 300)


@each_task
def test_a_crash_is_reported_within_seconds(world: World, task: str) -> None:
    world.functions.fail(task, "RuntimeError")
    world.run(OVERDUE)
    assert world.clock.pauses == [2, 4]


@pytest.mark.parametrize("fault", ["Lambda.TooManyRequestsException", "States.Timeout", "RuntimeError"])
def test_a_notify_that_fails_39_times_still_publishes(world: World, fault: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", fault, times=39)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("notify") == 40
    assert len(world.notifications()) == 1


def test_a_notify_that_never_works_leaves_the_execution_failed_where_a_redrive_enters_it_again(
    world: World,
) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", "RuntimeError")
    run = world.run(request(), "redriven")
    assert (run.status, run.error, run.path[-1]) == ("FAILED", "RuntimeError", "Notify")
    assert world.functions.count("notify") == 41
    assert not world.notifications()


def test_an_answer_of_notify_that_is_lost_publishes_nothing_twice(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", Fault("States.Timeout", after=True), times=3)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("notify") == 4
    assert len(world.notifications()) == 1


def test_a_notify_that_dies_after_its_publish_repeats_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(ExecutionsTable, "mark_notified", die)
    world.upstream.respond_with("status", completed('{"a": 1.0}'))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    first, second = world.notifications()
    assert first == second


def test_a_notify_that_dies_before_its_publish_publishes_the_outcome_it_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Notifier, "_deliver", die)
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    [notification] = world.notifications()
    assert notification.event["time"] == "2026-01-01T00:00:04.000Z"
    assert world.clock.elapsed_s == 6
    assert run.result["timing"]["finished_at"] == notification.event["time"]


def test_a_poll_whose_result_is_lost_is_repeated_and_loses_nothing(world: World) -> None:
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    world.functions.fail("poll", Fault("States.Timeout", after=True), times=2)
    run = world.run(request())
    assert run.result["final_output_json"] == '{"answer": 42}'


def test_a_cancel_whose_answer_is_lost_is_still_a_timeout(world: World) -> None:
    world.functions.fail("cancel", Fault("States.Timeout", after=True), times=2)
    assert world.run(OVERDUE).error == "Waterhook.TimedOut"


@pytest.mark.parametrize(
    "given",
    [
        request(idempotency_key="start-fails"),
        {"event_id": "start-fails", "request": request()},
        {"event_id": "no-good", "request": {"chatbot_id": 7}},
        None,
        ["not", "an", "object"],
    ],
)
def test_a_start_that_never_works_is_notified_under_the_id_its_request_would_have_had(
    world: World, given: object
) -> None:
    world.functions.fail("start", "RuntimeError", times=3)
    run = world.run(given)
    assert run.error == "Waterhook.Error"
    again = world.run(given)
    keyed = isinstance(given, dict)
    assert (again.result["execution_id"] == run.result["execution_id"]) == keyed
    assert world.notifications()[0].event["subject"] == run.result["execution_id"]


def test_a_fault_after_the_outcome_changes_nothing(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    first = world.run(request(idempotency_key="ended-well"))
    world.functions.fail("start", "RuntimeError")
    second = world.run(request(idempotency_key="ended-well"))
    assert second.status == "SUCCEEDED"
    assert second.result == first.result
    assert len(world.notifications()) == 1


def test_a_record_erased_while_its_job_runs_fails_the_execution_and_is_not_notified(world: World) -> None:
    given = request(idempotency_key="erase-me")
    accepted: list[str] = []

    @on_request
    def erase() -> Response:
        accepted.append(world.functions.calls[-1][1]["state"]["execution_id"])
        world.erase(accepted[0])
        return completed("{}")

    world.upstream.respond_with("status", erase)
    run = world.run(given)
    assert run.error == "Waterhook.Error"
    assert (
        run.result["message"] == f"the record of {accepted[0]} does not exist; it was erased or has expired"
    )
    assert not world.notifications()


@pytest.mark.parametrize("outcome", ["COMPLETED", "RUNNING"])
def test_a_key_used_for_another_request_is_a_conflict_even_when_the_start_fails(
    world: World, outcome: str
) -> None:
    key = f"conflict-of-a-{outcome}-one"
    other = request(idempotency_key=key, input_data={"question": "why not?"})
    seen: list[Run] = []

    @on_request
    def meanwhile() -> Response:
        world.functions.fail("start", "RuntimeError", times=3)
        if outcome == "RUNNING":
            seen.append(world.run(other))
        return completed('"of the first"')

    world.upstream.respond_with("status", meanwhile)
    world.run(request(idempotency_key=key))
    if outcome == "COMPLETED":
        seen.append(world.run(other))
    [second] = seen
    assert second.error == "Waterhook.IdempotencyConflict"
    assert len(world.notifications()) == 1
