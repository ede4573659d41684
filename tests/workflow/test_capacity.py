"""A cap on running jobs: an execution beyond it waits visibly in the machine, and is started when a slot is free."""

import uuid
from collections.abc import Iterator

import boto3
import pytest

from tests.fakes.scripted_waterflai import completed, http_error
from tests.workflow.world import World, request
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter

OTHER = "f" * 32


@pytest.fixture
def full(world: World) -> Iterator[World]:
    """The world with one slot, which another execution holds."""
    slots().acquire(OTHER, "other")
    with world.deployed_with(MAX_RUNNING="1"):
        yield world
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))


def slots() -> ConcurrencyLimiter:
    return ConcurrencyLimiter("executions", ConcurrencyLimits(stack=1), boto3.client("dynamodb"))


def test_a_request_beyond_the_cap_is_started_once_there_is_room(full: World) -> None:
    given = request(idempotency_key=str(uuid.uuid4()))
    execution_id = derive_execution_id("api/caller", given["idempotency_key"])
    seen: list[Status] = []

    def meanwhile() -> None:
        seen.append(full.record(execution_id).status)
        if len(full.clock.waits) == 3:
            slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))

    full.clock.while_waiting = meanwhile
    full.upstream.respond_with("status", completed("{}"))
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
    assert slots().acquire(OTHER, "other")


def test_a_request_for_which_there_is_never_room_is_rejected_at_its_deadline(full: World) -> None:
    with full.deployed_with(SHORTEST_WAIT_S="30"):
        run = full.run(request(timeout_seconds=600))
    assert run.error == "Waterhook.Rejected"
    assert full.clock.elapsed_s == 600
    [notification] = full.notifications()
    assert notification.event["data"]["error"] == {
        "code": "no_capacity",
        "message": "waited 600 s for a free slot (MaxRunning 1); the job was not started",
    }
    assert full.upstream.requests == []


def test_the_start_deadline_counts_from_when_there_was_room(full: World) -> None:
    def meanwhile() -> None:
        if full.clock.elapsed_s >= 1800:
            slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))

    full.clock.while_waiting = meanwhile
    full.upstream.respond_with("start", http_error(429, "slow down"))
    with full.deployed_with(SHORTEST_WAIT_S="30"):
        run = full.run(request(timeout_seconds=7200))
    assert run.error == "Waterhook.Rejected"
    # Checks are up to a minute apart; 900 s from the one that found room.
    assert 2700 < full.clock.elapsed_s <= 1800 + 60 + 60 + 900
    assert "the job could not be started in 15 min" in run.result["message"]
    assert run.result["message"].endswith("last failure: HTTP 429: slow down")


@pytest.mark.parametrize("caps", [("2", "0"), ("0", "2"), ("0", "0"), ("1", "1")])
@pytest.mark.parametrize("before", [("1", "0"), ("0", "1"), ("0", "0")])
def test_a_slot_is_released_whatever_the_caps_were_changed_to_meanwhile(
    world: World, before: tuple[str, str], caps: tuple[str, str]
) -> None:
    names = ("WATERHOOK_MAX_RUNNING", "WATERHOOK_MAX_RUNNING_PER_CHATBOT")
    with pytest.MonkeyPatch.context() as patch:

        def deploy(values: tuple[str, str]) -> None:
            for name, value in zip(names, values, strict=True):
                patch.setenv(name, value)
            world.rewire()

        deploy(before)
        world.clock.while_waiting = lambda: deploy(caps)
        world.upstream.respond_with("status", completed("{}"))
        assert world.run(request()).status == "SUCCEEDED"
    world.rewire()
    both = ConcurrencyLimits(stack=1, chatbot=1)
    everything = ConcurrencyLimiter("executions", both, boto3.client("dynamodb"))
    assert everything.acquire(OTHER, "support-chat")
    everything.release(OTHER, ConcurrencyLimiter.slots_of("support-chat"))


@pytest.mark.parametrize("code", [404, 422])
def test_a_refused_start_gives_its_slot_back(full: World, code: int) -> None:
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))
    full.upstream.respond_with("start", http_error(code))
    assert full.run(request()).error == "Waterhook.Rejected"
    assert slots().acquire(OTHER, "other")


def test_a_fault_of_start_gives_its_slot_back(full: World) -> None:
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))
    full.functions.fail("start", "MemoryError")
    assert full.run(request()).error == "Waterhook.Error"
    assert slots().acquire(OTHER, "other")
