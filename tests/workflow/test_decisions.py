"""The machine obeys, but not everything: a decision that makes no sense ends in a notification, not in a crash."""

from typing import Any

import pytest

from tests.fakes.scripted_waterflai import completed
from tests.workflow.world import World, definition, request

NONSENSE: dict[str, dict[str, Any]] = {
    "an unknown step": {"next": "party"},
    "an empty step": {"next": ""},
    "no name of a step": {"next": None},
    "a step in capitals": {"next": "WAIT"},
    "a list of steps": {"next": ["wait", "poll"]},
    "an object for a step": {"next": {"wait": 5}},
    "a number for a step": {"next": 1},
    "a wait of nothing": {"next": "wait", "wait_seconds": 0},
    "a wait of a second and a half": {"next": "wait", "wait_seconds": 1.5},
    "a wait into the past": {"next": "wait", "wait_seconds": -1},
    "a wait in words": {"next": "wait", "wait_seconds": "5"},
    "a wait beyond the limit": {"next": "wait", "wait_seconds": 3601},
    "a wait without end": {"next": "wait", "wait_seconds": 1e300},
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


@pytest.mark.parametrize("decision", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_ends_in_an_error_that_is_notified(world: World, decision: dict[str, Any]) -> None:
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
def test_a_decision_that_is_missing_is_nonsense_too(world: World, step: str, missing: str) -> None:
    world.functions.alter(step, lambda state: {name: state[name] for name in state if name != missing})
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    assert len(world.notifications()) == 1


GARBAGE: dict[str, Any] = {
    "null": None,
    "an empty object": {},
    "a list": [],
    "a list of nonsense": [{"next": "party"}],
    "a text": "notify",
    "a number": 5,
    "false": False,
    "a decision about nothing": {"next": "party"},
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("step", ["start", "poll"])
def test_an_answer_that_is_no_state_at_all_is_notified_under_the_id_of_its_request(
    world: World, step: str, answer: object
) -> None:
    world.functions.alter(step, lambda _: answer)
    given = request(idempotency_key=f"{step}-{answer}")
    run = world.run(given)
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["chatbot_id"] == "support-chat"
    assert world.record(notification.event["subject"]).request_sha256 is not None


@pytest.mark.parametrize("seconds", [1, 2, 3599, 3600])
def test_the_bounds_of_a_wait_are_waited(world: World, seconds: int) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.alter("start", lambda state: state | {"wait_seconds": seconds})
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert world.clock.waits == [seconds]


@pytest.mark.parametrize("step", ["poll", "notify", "done"])
def test_a_step_that_needs_no_wait_is_not_kept_from_it_by_one(world: World, step: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.alter("start", lambda state: state | {"next": step, "wait_seconds": "nonsense"})
    assert "Report the fault" not in world.run(request()).path


def test_no_way_leads_from_a_catch_to_a_success_but_through_notify() -> None:
    states = definition()["States"]
    # Follow is an accelerator: without it, polling goes on. The job of a poll that fails is cancelled first.
    for name, target in (("Follow", "What next?"), ("Poll", "Cancel")):
        assert [catch["Next"] for catch in states.pop(name)["Catch"]] == [target]
    assert {catch["Next"] for state in states.values() for catch in state.get("Catch", [])} == {
        "Report the fault"
    }
    assert states["Report the fault"]["Next"] == "Notify"
