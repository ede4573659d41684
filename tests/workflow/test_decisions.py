"""The Choice state: an invalid decision of a function becomes an error that is notified."""

from typing import Any

import pytest

from tests.fakes.scripted_waterflai import completed
from tests.workflow.world import World, definition, request

INVALID: dict[str, dict[str, Any]] = {
    "an unknown step": {"next": "party"},
    "no name of a step": {"next": None},
    "a list of steps": {"next": ["wait", "poll"]},
    "an object for a step": {"next": {"wait": 5}},
    "a wait of nothing": {"next": "wait", "wait_seconds": 0},
    "a wait of a second and a half": {"next": "wait", "wait_seconds": 1.5},
    "a wait in words": {"next": "wait", "wait_seconds": "5"},
    "a wait beyond the limit": {"next": "wait", "wait_seconds": 3601},
    "a wait that is null": {"next": "wait", "wait_seconds": None},
    "a wait that is true": {"next": "wait", "wait_seconds": True},
    "a list of waits": {"next": "wait", "wait_seconds": [5]},
    "an object for a wait": {"next": "wait", "wait_seconds": {"seconds": 5}},
    "a start after nothing": {"next": "start", "wait_seconds": 0},
    "a start after a second and a half": {"next": "start", "wait_seconds": 1.5},
    "a start after words": {"next": "start", "wait_seconds": "5"},
    "a start beyond the limit": {"next": "start", "wait_seconds": 3601},
    "a start after null": {"next": "start", "wait_seconds": None},
}


@pytest.mark.parametrize("decision", INVALID.values(), ids=INVALID)
def test_an_invalid_decision_is_an_error_that_is_notified(world: World, decision: dict[str, Any]) -> None:
    world.functions.alter("poll", lambda state: state | decision)
    run = world.run(request(idempotency_key=f"{decision}"))
    assert run.error == "Waterhook.Error"
    assert run.path[-5:-1] == ["What next?", "Report the fault", "Notify", "Completed?"]
    assert world.clock.waits == [4]
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "fault"
    assert "(Waterhook.NoSuchStep)" in notification.event["data"]["error"]["message"]
    assert notification.event["data"]["waterflai_execution_id"]
    assert world.record(run.result["execution_id"]).status == "ERROR"


@pytest.mark.parametrize("missing", ["next", "wait_seconds"])
@pytest.mark.parametrize("step", ["start", "poll"])
def test_a_missing_decision_is_an_error_that_is_notified(world: World, step: str, missing: str) -> None:
    world.functions.alter(step, lambda state: {name: state[name] for name in state if name != missing})
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    assert len(world.notifications()) == 1


NO_STATE: dict[str, Any] = {
    "null": None,
    "an empty object": {},
    "a list": [],
    "a list of nonsense": [{"next": "party"}],
    "a text": "notify",
    "false": False,
    "a decision about nothing": {"next": "party"},
}


@pytest.mark.parametrize("answer", NO_STATE.values(), ids=NO_STATE)
@pytest.mark.parametrize("step", ["start", "poll"])
def test_a_result_that_is_not_a_state_is_notified_with_the_id_of_its_request(
    world: World, step: str, answer: object
) -> None:
    world.functions.alter(step, lambda _: answer)
    execution_input = request(idempotency_key=f"{step}-{answer}")
    run = world.run(execution_input)
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["chatbot_id"] == "support-chat"
    assert world.record(notification.event["subject"]).request_sha256 is not None


@pytest.mark.parametrize("seconds", [1, 3600])
def test_waits_at_the_limits_are_waited(world: World, seconds: int) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.alter("start", lambda state: state | {"wait_seconds": seconds})
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.clock.waits == [seconds]


@pytest.mark.parametrize("step", ["poll", "notify", "done"])
def test_wait_seconds_is_not_checked_for_a_step_without_a_wait(world: World, step: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.alter("start", lambda state: state | {"next": step, "wait_seconds": "nonsense"})
    assert "Report the fault" not in world.run(request()).path


def test_every_catch_leads_to_notify() -> None:
    states = definition()["States"]
    # Without Follow the execution polls. The job of a failed poll is cancelled before the notification.
    for name, target in (("Follow", "What next?"), ("Poll", "Cancel")):
        assert [catch["Next"] for catch in states.pop(name)["Catch"]] == [target]
    assert {catch["Next"] for state in states.values() for catch in state.get("Catch", [])} == {
        "Report the fault"
    }
    assert states["Report the fault"]["Next"] == "Notify"
