"""Limits of running jobs: the state machine waits for a slot, and every end of an execution releases it."""

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
    """The world with a limit of one job, whose slot another execution holds."""
    slots().acquire(OTHER, "other")
    with world.deployed_with(MAX_RUNNING="1"):
        yield world
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))


def slots() -> ConcurrencyLimiter:
    return ConcurrencyLimiter("executions", ConcurrencyLimits(stack=1), boto3.client("dynamodb"))


def test_a_request_beyond_the_limit_is_started_once_a_slot_is_free(full: World) -> None:
    accepted = request(idempotency_key=str(uuid.uuid4()))
    execution_id = derive_execution_id("api/caller", accepted["idempotency_key"])
    statuses: list[Status] = []

    def meanwhile() -> None:
        statuses.append(full.record(execution_id).status)
        if len(full.clock.waits) == 3:
            slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))

    full.clock.while_waiting = meanwhile
    full.upstream.respond_with("status", completed("{}"))
    assert full.accept(accepted) == execution_id
    run = full.finished(full.record(execution_id).owner_execution_arn)
    assert run.status == "SUCCEEDED"
    assert (
        run.path[:8]
        == ["Start execution", "What next?"] + ["Wait to start", "Start execution", "What next?"] * 2
    )
    assert run.path.count("Wait to start") == 3
    assert full.upstream.count("start") == 1
    assert statuses == [Status.ACCEPTED] * 3 + [Status.RUNNING]
    # The execution has released its own slot.
    assert slots().acquire(OTHER, "other")


def test_a_request_that_gets_no_slot_is_rejected_at_its_deadline(full: World) -> None:
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


@pytest.mark.parametrize(
    ("before", "after"), [(("1", "0"), ("0", "2")), (("0", "1"), ("0", "0")), (("0", "0"), ("1", "1"))]
)
def test_a_slot_is_released_after_the_limits_were_changed(
    world: World, before: tuple[str, str], after: tuple[str, str]
) -> None:
    names = ("WATERHOOK_MAX_RUNNING", "WATERHOOK_MAX_RUNNING_PER_CHATBOT")
    with pytest.MonkeyPatch.context() as patch:

        def deploy(values: tuple[str, str]) -> None:
            for name, value in zip(names, values, strict=True):
                patch.setenv(name, value)
            world.rewire()

        deploy(before)
        world.clock.while_waiting = lambda: deploy(after)
        world.upstream.respond_with("status", completed("{}"))
        assert world.run(request()).status == "SUCCEEDED"
    world.rewire()
    both = ConcurrencyLimits(stack=1, chatbot=1)
    everything = ConcurrencyLimiter("executions", both, boto3.client("dynamodb"))
    assert everything.acquire(OTHER, "support-chat")
    everything.release(OTHER, ConcurrencyLimiter.slots_of("support-chat"))


def test_a_refused_start_releases_its_slot(full: World) -> None:
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))
    full.upstream.respond_with("start", http_error(404))
    assert full.run(request()).error == "Waterhook.Rejected"
    assert slots().acquire(OTHER, "other")


def test_a_fault_of_start_releases_its_slot(full: World) -> None:
    slots().release(OTHER, ConcurrencyLimiter.slots_of("other"))
    full.functions.fail("start", "MemoryError")
    assert full.run(request()).error == "Waterhook.Error"
    assert slots().acquire(OTHER, "other")
