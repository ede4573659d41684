"""One key, one job: what a start that meets trouble comes to."""

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


@pytest.mark.parametrize("code", [429, 503])
def test_a_start_that_is_refused_for_now_is_repeated_after_its_retry_after(world: World, code: int) -> None:
    world.upstream.respond_with("start", http_error(code, Retry_After="37"), started("job-1"))
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path[:5] == AGAIN
    assert 37 <= world.clock.waits[0] <= 37 + 37 / 2 + 1
    assert world.upstream.count("start") == 2


def test_a_refused_connection_is_tried_again_until_there_is_one(world: World) -> None:
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


def test_no_wait_for_a_start_outlasts_its_deadline(world: World) -> None:
    world.upstream.respond_with("start", http_error(429, Retry_After="800"))
    world.run(request())
    assert world.clock.waits[0] >= 800
    assert sum(world.clock.waits) == 900


@pytest.mark.parametrize(("timeout_s", "last_s"), [(3600, 900), (60, 59)])
def test_a_start_that_is_to_be_tried_after_its_deadline_has_one_last_attempt_before(
    world: World, timeout_s: int, last_s: int
) -> None:
    world.upstream.respond_with("start", http_error(429, Retry_After="7200"), started("at-the-end"))
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request(timeout_seconds=timeout_s))
    assert world.clock.waits[0] == last_s
    assert world.upstream.count("start") == 2
    # A second is enough for this job.
    assert run.status == "SUCCEEDED"


@pytest.mark.parametrize("timeout_s", [60, 3600])
def test_the_error_of_a_refused_connection_is_that_of_the_connection(world: World, timeout_s: int) -> None:
    world.upstream.close()
    try:
        run = world.run(request(timeout_seconds=timeout_s))
    finally:
        world.upstream.open()
    assert run.error == "Waterhook.Rejected"
    message = error_of(world)["message"]
    assert message.startswith("the job could not be started in " + ("59 s" if timeout_s == 60 else "15 min"))
    assert "last failure: no connection: " in message


def test_a_start_that_waited_shows_why_until_it_is_tried_again(world: World) -> None:
    seen: list[dict[str, str]] = []

    def look() -> None:
        there = world.record(execution_id)
        seen.append(dict(there.waiting or {}))

    world.clock.while_waiting = look
    world.upstream.respond_with("start", http_error(503, "maintenance", Retry_After="60"), started("job"))
    world.upstream.respond_with("status", completed("{}"))
    execution_id = world.accept(request(idempotency_key="shows-why"))
    run = world.finished(world.record(execution_id).owner_execution_arn)
    assert run.status == "SUCCEEDED"
    assert (seen[0]["reason"], seen[0]["detail"]) == ("upstream_busy", "HTTP 503: maintenance")
    assert seen[0]["since"] == "2026-01-01T00:00:00.000Z"
    assert seen[1] == {}


def error_of(world: World) -> dict[str, str]:
    """Return the error of the only notification."""
    [notification] = world.notifications()
    error: dict[str, str] = notification.event["data"]["error"]
    return error


SIX_HOURS_S = 6 * 3600
MONTH = request(timeout_seconds=30 * 24 * 3600)


def _down_until(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float, *methods: str) -> None:
    """Let the table refuse these operations of records for so long."""
    start, midnight = StartStep.start, to_rfc3339(MIDNIGHT) or ""
    # The interpreter's own clock is not the virtual one.
    monkeypatch.setattr(
        StartStep,
        "start",
        lambda starter, given, *, owner, started_at: start(starter, given, owner=owner, started_at=midnight),
    )

    def unless_down(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if world.clock.elapsed_s < seconds:
                message = "0f: the table failed: ProvisionedThroughputExceededException"
                raise RecordUnavailableError(message)
            return method(*given, **named)

        return call

    for name in methods:
        monkeypatch.setattr(ExecutionsTable, name, unless_down(getattr(ExecutionsTable, name)))


@pytest.mark.parametrize("methods", [("get", "accept"), ("begin_start",)], ids="+".join)
@pytest.mark.parametrize("down_s", [60, 5 * 3600])
def test_a_table_that_fails_before_the_start_delays_it_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...], down_s: int
) -> None:
    _down_until(world, monkeypatch, down_s, *methods)
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(MONTH)
    assert run.status == "SUCCEEDED"
    assert (world.upstream.count("start"), world.clock.pauses) == (1, [])
    assert down_s <= world.clock.elapsed_s <= down_s + 450 + 10
    assert len(world.notifications()) == 1


def test_a_table_that_fails_for_more_than_six_hours_before_the_start_is_notified_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _down_until(world, monkeypatch, SIX_HOURS_S + 1, "get", "accept")
    run = world.run(MONTH)
    assert run.error == "Waterhook.Error"
    assert SIX_HOURS_S <= world.clock.elapsed_s <= SIX_HOURS_S + 10
    assert "ProvisionedThroughputExceededException, for 6 h" in error_of(world)["message"]
    assert not world.upstream.requests
    assert len(run.events) < 1200


def test_a_secret_that_is_malformed_for_hours_delays_the_start_and_no_more(world: World) -> None:
    boto3.client("secretsmanager").put_secret_value(
        SecretId=world.secret_arn, SecretString='{"apiKey": "misspelt"}'
    )
    world.rewire()

    def repair() -> None:
        if world.clock.elapsed_s > 3 * 3600:
            world.rotate_key(API_KEY)

    world.clock.while_waiting = repair
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(MONTH)
    assert run.status == "SUCCEEDED"
    assert world.upstream.count("start") == 1
    assert 3 * 3600 <= world.clock.elapsed_s <= 3 * 3600 + 1000


def test_a_secret_that_stays_malformed_ends_the_request_after_six_hours_with_the_reason(world: World) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=world.secret_arn, SecretString="{}")
    world.rewire()
    try:
        run = world.run(MONTH)
    finally:
        world.rotate_key(API_KEY)
        world.rewire()
    assert run.error == "Waterhook.Rejected"
    assert world.clock.elapsed_s == SIX_HOURS_S
    error = error_of(world)
    assert error["code"] == "fault"
    assert error["message"].startswith("Waterhook could not start the job for 6 h: ")
    assert "expected the API key" in error["message"]
    assert not world.upstream.requests


def test_a_start_whose_answer_came_when_the_table_failed_is_not_posted_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _down_until(world, monkeypatch, 600, "undo_start")
    world.upstream.respond_with("start", http_error(429, "slow down"))
    run = world.run(request())
    assert run.error == "Waterhook.Rejected"
    message = error_of(world)["message"]
    assert message.startswith("HTTP 429: slow down; the start can't be repeated: ")
    assert world.upstream.count("start") == 1


def test_a_request_whose_own_deadline_comes_first_is_rejected_by_then(world: World) -> None:
    world.upstream.respond_with("start", http_error(503))
    run = world.run(request(timeout_seconds=20))
    assert run.error == "Waterhook.Rejected"
    # One second is the least that is left for a job.
    assert world.clock.elapsed_s == 19
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "start_deadline"


def test_where_a_lost_answer_is_posted_again_the_deadline_leaves_it_open(world: World) -> None:
    world.upstream.respond_with("start", http_error(504))
    with world.deployed_with(START_SEMANTICS="AT_LEAST_ONCE"):
        assert world.run(request(timeout_seconds=20)).error == "Waterhook.Uncertain"


def test_a_start_throttled_until_its_deadline_never_posts(world: World) -> None:
    # Through the API the request was accepted, and its deadline set, before the machine came to run.
    world.functions.fail("start", "Lambda.TooManyRequestsException", times=60)
    execution_id = world.accept(request(timeout_seconds=60))
    run = world.finished(world.record(execution_id).owner_execution_arn)
    assert run.error == "Waterhook.Rejected"
    assert run.result["execution_id"] == execution_id
    assert not world.upstream.requests


@pytest.mark.parametrize(
    "answer", [NO_RESPONSE, http_error(500), http_error(504), http_error(408), response(202, "<html>")]
)
@pytest.mark.parametrize("semantics", ["AT_MOST_ONCE", "AT_LEAST_ONCE"])
def test_a_lost_answer_is_posted_again_only_where_that_is_wanted(
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
def test_whether_a_503_may_have_started_a_job_is_a_setting(
    world: World, on_503: str, error: str | None
) -> None:
    world.upstream.respond_with("start", http_error(503), started("job-3"))
    world.upstream.respond_with("status", completed("{}"))
    with world.deployed_with(ON_503_AT_START=on_503):
        assert world.run(request()).error == error


@pytest.mark.parametrize(
    "name", ["States.Timeout", "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"]
)
def test_a_start_whose_answer_to_the_machine_is_lost_goes_on_with_the_same_job(
    world: World, name: str
) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("start", Fault(name, after=True), times=1)
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.functions.count("start") == 2
    assert world.upstream.count("start") == 1


def test_a_start_that_ends_between_its_post_and_its_save_is_uncertain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(ExecutionsTable, "save_start", die)
    run = world.run(request())
    assert run.error == "Waterhook.Uncertain"
    assert world.functions.count("start") == 2
    assert world.upstream.count("start") == 1


def test_an_id_that_could_not_be_saved_travels_with_the_state_until_a_poll_saves_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2
    save = ExecutionsTable.save_start

    def unavailable(*given: object) -> object:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            message = "throttled"
            raise RecordUnavailableError(message)
        return save(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(ExecutionsTable, "save_start", unavailable)
    world.upstream.respond_with("status", http_error(500), http_error(500), completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert [state.get("unsaved", False) for state in run.inputs("What next?")] == [True, True, False, False]
    started = world.record(run.result["execution_id"])
    assert started.waterflai_execution_id == run.result["waterflai_execution_id"]
    assert world.upstream.count("start") == 1


def test_a_request_is_handed_to_start_only(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request(input_data={"secret": "a-word-of-the-customer"}))
    for _, event in [call for call in world.functions.calls if call[0] != "start"]:
        assert "a-word-of-the-customer" not in json.dumps(event)
    assert all("a-word-of-the-customer" not in json.dumps(state) for state in run.inputs("What next?"))


def test_the_policy_of_starts_is_the_settings_own(world: World) -> None:
    world.upstream.respond_with("start", http_error(429))
    with world.deployed_with(START_DEADLINE_S="60", SHORTEST_WAIT_S="1", LONGEST_WAIT_S="5"):
        world.run(request())
    assert world.clock.elapsed_s == 60
    assert max(world.clock.waits) <= 5 + 8
