"""A cap on running jobs: whoever is beyond it waits in the machine, visibly, and is started when there is room."""

import uuid
from collections.abc import Iterator

import pytest

from tests.workflow.waterflai import completed, refused
from tests.workflow.world import World, request
from waterhook.capacity import Capacity, Caps
from waterhook.intake import derived_id
from waterhook.models import Status

OTHER = "f" * 32


@pytest.fixture
def full(world: World) -> Iterator[World]:
    """The world with one slot, which another execution holds."""
    slots().take(OTHER, "other")
    with world.deployed_with(MAX_RUNNING="1"):
        yield world
    slots().give_back(OTHER, "other")


def slots() -> Capacity:
    return Capacity("executions", Caps(stack=1))


def test_a_request_beyond_the_cap_is_started_once_there_is_room(full: World) -> None:
    given = request(idempotency_key=str(uuid.uuid4()))
    execution_id = derived_id("api/caller", given["idempotency_key"])
    seen: list[Status] = []

    def meanwhile() -> None:
        seen.append(full.record(execution_id).status)
        if len(full.clock.waits) == 3:
            slots().give_back(OTHER, "other")

    full.clock.while_waiting = meanwhile
    full.upstream.says("status", completed("{}"))
    assert full.accept(given) == execution_id
    run = full.finished(full.record(execution_id).owner_execution_arn)
    assert run.status == "SUCCEEDED"
    assert (
        run.path[:8]
        == ["Start execution", "What next?"] + ["Wait to start", "Start execution", "What next?"] * 2
    )
    assert run.path.count("Wait to start") == 3
    assert full.upstream.count("start") == 1
    assert seen == [Status.ACCEPTED] * 3 + [Status.RUNNING]
    # It gave its own slot back.
    assert slots().take(OTHER, "other")


def test_a_request_for_which_there_is_never_room_is_rejected_at_its_deadline(full: World) -> None:
    run = full.run(request(timeout_seconds=600))
    assert run.error == "Waterhook.Rejected"
    assert full.clock.elapsed_s == 600
    assert full.upstream.requests == []
    assert len(full.notifications()) == 1


@pytest.mark.parametrize("code", [404, 422])
def test_a_refused_start_gives_its_slot_back(full: World, code: int) -> None:
    slots().give_back(OTHER, "other")
    full.upstream.says("start", refused(code))
    assert full.run(request()).error == "Waterhook.Rejected"
    assert slots().take(OTHER, "other")


def test_a_fault_of_start_gives_its_slot_back(full: World) -> None:
    slots().give_back(OTHER, "other")
    full.functions.fail("start", "MemoryError")
    assert full.run(request()).error == "Waterhook.Error"
    assert slots().take(OTHER, "other")
