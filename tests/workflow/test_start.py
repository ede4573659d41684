"""One key, one job: what a start that meets trouble comes to."""

import json

import pytest

from tests.workflow.functions_in_process import Fault
from tests.workflow.waterflai import NO_ANSWER, Answer, completed, refused
from tests.workflow.world import World, request
from waterhook.errors import RecordUnavailable
from waterhook.records import Records

AGAIN = ["Start execution", "What next?", "Wait to start", "Start execution", "What next?"]


@pytest.mark.parametrize("code", [429, 503])
def test_an_upstream_too_busy_to_start_is_asked_again_after_as_long_as_it_says(
    world: World, code: int
) -> None:
    started = Answer(202, '{"execution_id": "job-1"}')
    world.upstream.says("start", refused(code, Retry_After="37"), started)
    world.upstream.says("status", completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path[:5] == AGAIN
    assert 37 <= world.clock.waits[0] <= 37 + 37 / 2 + 1
    assert world.upstream.count("start") == 2


def test_a_refused_connection_is_tried_again_until_there_is_one(world: World) -> None:
    world.upstream.says("status", completed("{}"))
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
    world.upstream.says("start", refused(429))
    run = world.run(request())
    assert run.error == "Waterhook.Rejected"
    assert world.clock.elapsed_s == 900
    [said] = world.notifications()
    assert said.event["data"]["error"]["code"] == "start_deadline"
    assert "Poll" not in run.path


def test_no_wait_for_a_start_outlasts_its_deadline(world: World) -> None:
    world.upstream.says("start", refused(429, Retry_After="800"))
    world.run(request())
    assert world.clock.waits[0] >= 800
    assert sum(world.clock.waits) == 900


def test_a_request_whose_own_deadline_comes_first_is_rejected_by_then(world: World) -> None:
    world.upstream.says("start", refused(503))
    run = world.run(request(timeout_seconds=20))
    assert run.error == "Waterhook.Rejected"
    assert world.clock.elapsed_s == 20
    [said] = world.notifications()
    assert said.event["data"]["error"]["code"] == "start_deadline"


def test_where_a_lost_answer_is_posted_again_the_deadline_leaves_it_open(world: World) -> None:
    world.upstream.says("start", refused(504))
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
    "answer", [NO_ANSWER, refused(500), refused(504), refused(408), Answer(202, "<html>")]
)
@pytest.mark.parametrize("semantics", ["AT_MOST_ONCE", "AT_LEAST_ONCE"])
def test_a_lost_answer_is_posted_again_only_where_that_is_wanted(
    world: World, answer: Answer, semantics: str
) -> None:
    world.upstream.says("start", answer, Answer(202, '{"execution_id": "job-2"}'))
    world.upstream.says("status", completed("{}"))
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
    world.upstream.says("start", refused(503), Answer(202, '{"execution_id": "job-3"}'))
    world.upstream.says("status", completed("{}"))
    with world.deployed_with(ON_503_AT_START=on_503):
        assert world.run(request()).error == error


@pytest.mark.parametrize(
    "name", ["States.Timeout", "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"]
)
def test_a_start_whose_answer_to_the_machine_is_lost_goes_on_with_the_same_job(
    world: World, name: str
) -> None:
    world.upstream.says("status", completed("{}"))
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

    monkeypatch.setattr(Records, "save_start", die)
    run = world.run(request())
    assert run.error == "Waterhook.Uncertain"
    assert world.functions.count("start") == 2
    assert world.upstream.count("start") == 1


def test_an_id_that_could_not_be_saved_travels_with_the_state_until_a_poll_saves_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2
    save = Records.save_start

    def unavailable(*given: object) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            message = "throttled"
            raise RecordUnavailable(message)
        save(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "save_start", unavailable)
    world.upstream.says("status", refused(500), refused(500), completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert [state.get("unsaved", False) for state in run.inputs("What next?")] == [True, True, False, False]
    started = world.record(run.result["execution_id"])
    assert started.waterflai_execution_id == run.result["waterflai_execution_id"]
    assert world.upstream.count("start") == 1


def test_a_request_is_handed_to_start_only(world: World) -> None:
    world.upstream.says("status", completed("{}"))
    run = world.run(request(input_data={"secret": "a-word-of-the-customer"}))
    for _, event in [call for call in world.functions.calls if call[0] != "start"]:
        assert "a-word-of-the-customer" not in json.dumps(event)
    assert all("a-word-of-the-customer" not in json.dumps(state) for state in run.inputs("What next?"))


def test_the_policy_of_starts_is_the_settings_own(world: World) -> None:
    world.upstream.says("start", refused(429))
    with world.deployed_with(START_DEADLINE_S="60", SHORTEST_WAIT_S="1", LONGEST_WAIT_S="5"):
        world.run(request())
    assert world.clock.elapsed_s == 60
    assert max(world.clock.waits) <= 5 + 8
