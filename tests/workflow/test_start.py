"""Start execution and Wait to start: faults, deadlines and lost answers at the start of a job."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.fakes.scripted_waterflai import (
    API_KEY,
    NO_RESPONSE,
    Response,
    completed,
    http_error,
    response,
    started,
)
from tests.workflow.clock import MIDNIGHT
from tests.workflow.functions_in_process import Fault
from tests.workflow.world import World, request
from waterhook.errors import RecordUnavailableError
from waterhook.steps.start import StartStep
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339

AGAIN = ["Start execution", "What next?", "Wait to start", "Start execution", "What next?"]


def test_a_start_that_is_refused_with_retry_after_is_repeated_after_that_time(world: World) -> None:
    world.upstream.respond_with("start", http_error(429, Retry_After="37"), started("job-1"))
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path[:5] == AGAIN
    assert 37 <= world.clock.waits[0] <= 37 + 37 / 2 + 1
    assert world.upstream.count("start") == 2


def test_a_refused_connection_is_repeated_until_it_succeeds(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.upstream.close()

    def come_back() -> None:
        if len(world.clock.waits) == 2:
            world.upstream.open()

    world.clock.while_waiting = come_back
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path.count("Start execution") == 3
    assert 4 <= world.clock.waits[0] <= 12
    assert 8 <= world.clock.waits[1] <= 16
    assert world.upstream.count("start") == 1


def test_a_start_that_never_succeeds_is_rejected_at_the_start_deadline(world: World) -> None:
    world.upstream.respond_with("start", http_error(429))
    run = world.run(request())
    assert run.error == "Waterhook.Rejected"
    assert world.clock.elapsed_s == 900
    assert error_of(world) == {
        "code": "start_deadline",
        "message": f"the job could not be started in 15 min ({world.upstream.count('start')} attempts);"
        " last failure: HTTP 429: no",
    }
    assert "Poll" not in run.path


def test_the_error_of_a_request_without_a_connection_names_the_connection(world: World) -> None:
    world.upstream.close()
    try:
        run = world.run(request(timeout_seconds=60))
    finally:
        world.upstream.open()
    assert run.error == "Waterhook.Rejected"
    message = error_of(world)["message"]
    assert message.startswith("the job could not be started in 59 s")
    assert "last failure: no connection: " in message


def error_of(world: World) -> dict[str, str]:
    """Return the error of the only notification."""
    [notification] = world.notifications()
    error: dict[str, str] = notification.event["data"]["error"]
    return error


SIX_HOURS_S = 6 * 3600
MONTH = request(timeout_seconds=30 * 24 * 3600)


def _down_until(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float, *methods: str) -> None:
    """Let these methods of the table fail for `seconds`."""
    start, midnight = StartStep.start, to_rfc3339(MIDNIGHT) or ""
    # moto sets the start time of an execution from the real clock.
    monkeypatch.setattr(
        StartStep,
        "start",
        lambda starter, arguments, *, owner, started_at: start(
            starter, arguments, owner=owner, started_at=midnight
        ),
    )

    def unless_down(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if world.clock.elapsed_s < seconds:
                message = "0f: the table failed: ProvisionedThroughputExceededException"
                raise RecordUnavailableError(message)
            return method(*arguments, **named)

        return call

    for name in methods:
        monkeypatch.setattr(ExecutionsTable, name, unless_down(getattr(ExecutionsTable, name)))


@pytest.mark.parametrize("methods", [("get", "accept"), ("begin_start",)], ids="+".join)
def test_a_table_that_fails_before_the_start_only_delays_it(
    world: World, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...]
) -> None:
    down_s = 3600
    _down_until(world, monkeypatch, down_s, *methods)
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(MONTH)
    assert run.status == "SUCCEEDED"
    assert (world.upstream.count("start"), world.clock.pauses) == (1, [])
    assert down_s <= world.clock.elapsed_s <= down_s + 450 + 10
    assert len(world.notifications()) == 1


def test_a_table_that_fails_for_six_hours_before_the_start_is_an_error_that_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _down_until(world, monkeypatch, SIX_HOURS_S + 1, "get", "accept")
    run = world.run(MONTH)
    assert run.error == "Waterhook.Error"
    assert SIX_HOURS_S <= world.clock.elapsed_s <= SIX_HOURS_S + 10
    assert "ProvisionedThroughputExceededException, for 6 h" in error_of(world)["message"]
    assert not world.upstream.requests
    assert len(run.events) < 1200


def test_a_malformed_secret_only_delays_the_start(world: World) -> None:
    boto3.client("secretsmanager").put_secret_value(
        SecretId=world.secret_arn, SecretString='{"apiKey": "misspelt"}'
    )
    world.rewire()

    def repair() -> None:
        if world.clock.elapsed_s > 3600:
            world.rotate_key(API_KEY)

    world.clock.while_waiting = repair
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(MONTH)
    assert run.status == "SUCCEEDED"
    assert world.upstream.count("start") == 1
    assert 3600 <= world.clock.elapsed_s <= 3600 + 1000


def test_a_request_is_rejected_at_its_own_deadline_if_that_is_first(world: World) -> None:
    world.upstream.respond_with("start", http_error(503))
    run = world.run(request(timeout_seconds=20))
    assert run.error == "Waterhook.Rejected"
    # One second is the least that is left for a job.
    assert world.clock.elapsed_s == 19
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "start_deadline"


def test_at_least_once_a_request_past_its_deadline_is_uncertain_after_a_lost_answer(world: World) -> None:
    world.upstream.respond_with("start", http_error(504))
    with world.deployed_with(START_SEMANTICS="AT_LEAST_ONCE"):
        assert world.run(request(timeout_seconds=20)).error == "Waterhook.Uncertain"


def test_a_start_that_is_throttled_until_its_deadline_posts_nothing(world: World) -> None:
    # The API sets the deadline before the state machine execution starts.
    world.functions.fail("start", "Lambda.TooManyRequestsException", times=60)
    execution_id = world.accept(request(timeout_seconds=60))
    run = world.finished(world.record(execution_id).owner_execution_arn)
    assert run.error == "Waterhook.Rejected"
    assert run.result["execution_id"] == execution_id
    assert not world.upstream.requests


@pytest.mark.parametrize("answer", [NO_RESPONSE, http_error(408), response(202, "<html>")])
@pytest.mark.parametrize("semantics", ["AT_MOST_ONCE", "AT_LEAST_ONCE"])
def test_only_at_least_once_a_start_is_repeated_after_a_lost_answer(
    world: World, answer: Response, semantics: str
) -> None:
    world.upstream.respond_with("start", answer, started("job-2"))
    world.upstream.respond_with("status", completed("{}"))
    with world.deployed_with(START_SEMANTICS=semantics):
        run = world.run(request())
    at_most_once = semantics == "AT_MOST_ONCE"
    assert run.error == ("Waterhook.Uncertain" if at_most_once else None)
    assert world.upstream.count("start") == (1 if at_most_once else 2)
    assert len(world.notifications()) == 1


@pytest.mark.parametrize(("on_503", "error"), [("RETRY", None), ("UNCERTAIN", "Waterhook.Uncertain")])
def test_a_setting_decides_whether_a_start_is_repeated_after_a_503(
    world: World, on_503: str, error: str | None
) -> None:
    world.upstream.respond_with("start", http_error(503), started("job-3"))
    world.upstream.respond_with("status", completed("{}"))
    with world.deployed_with(ON_503_AT_START=on_503):
        assert world.run(request()).error == error


def test_a_start_whose_result_is_lost_continues_with_the_same_job(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("start", Fault("States.Timeout", after=True), times=1)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("start") == 2
    assert world.upstream.count("start") == 1


def test_a_start_that_fails_between_post_and_save_is_uncertain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(ExecutionsTable, "save_start", fail)
    run = world.run(request())
    assert run.error == "Waterhook.Uncertain"
    assert world.functions.count("start") == 2
    assert world.upstream.count("start") == 1


def test_an_id_that_could_not_be_saved_is_kept_in_the_state_until_a_poll_saves_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2
    save = ExecutionsTable.save_start

    def unavailable(*arguments: object) -> object:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            message = "throttled"
            raise RecordUnavailableError(message)
        return save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ExecutionsTable, "save_start", unavailable)
    world.upstream.respond_with("status", http_error(500), http_error(500), completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert [state.get("unsaved", False) for state in run.inputs("What next?")] == [True, True, False, False]
    started = world.record(run.result["execution_id"])
    assert started.waterflai_execution_id == run.result["waterflai_execution_id"]
    assert world.upstream.count("start") == 1


def test_only_start_gets_the_request(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request(input_data={"secret": "a-word-of-the-customer"}))
    for _, event in [call for call in world.functions.calls if call[0] != "start"]:
        assert "a-word-of-the-customer" not in json.dumps(event)
    assert all("a-word-of-the-customer" not in json.dumps(state) for state in run.inputs("What next?"))
