"""The eight ways an execution ends, from the request to what a subscriber receives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from tests.fakes.scripted_waterflai import NO_RESPONSE, Response, completed, http_error, on_request, status
from tests.support.builders import SOURCE, final_attributes
from tests.workflow.world import World, request
from waterhook.domain.status import Status
from waterhook.storage.executions_table import ExecutionsTable


@dataclass(frozen=True, slots=True)
class Way:
    """What leads to an outcome, and what is then published."""

    outcome: str
    error: str | None
    prepare: Callable[[World], object]
    code: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


WAYS = [
    Way("COMPLETED", None, lambda world: world.upstream.respond_with("status", completed('{"answer": 42}'))),
    Way(
        "FAILED",
        "Waterhook.Failed",
        lambda world: world.upstream.respond_with("status", status("FAILED", error_message="node 3 broke")),
        "failed",
    ),
    Way(
        "CANCELLED",
        "Waterhook.Cancelled",
        lambda world: world.upstream.respond_with("status", status("CANCELLED")),
        "cancelled",
    ),
    Way("TIMED_OUT", "Waterhook.TimedOut", lambda world: None, "deadline", {"timeout_seconds": 10}),
    Way(
        "LOST",
        "Waterhook.Lost",
        lambda world: world.upstream.respond_with("status", http_error(404)),
        "not_found",
    ),
    Way(
        "REJECTED",
        "Waterhook.Rejected",
        lambda world: world.upstream.respond_with("start", http_error(422)),
        "refused",
    ),
    Way(
        "UNCERTAIN",
        "Waterhook.Uncertain",
        lambda world: world.upstream.respond_with("start", NO_RESPONSE),
        "start_uncertain",
    ),
    Way("ERROR", "Waterhook.Error", lambda world: world.functions.fail("poll", "RuntimeError"), "fault"),
]
each_way = pytest.mark.parametrize("way", WAYS, ids=[way.outcome for way in WAYS])
each_failure = pytest.mark.parametrize("way", WAYS[1:], ids=[way.outcome for way in WAYS[1:]])


@each_way
def test_each_outcome_is_notified_exactly_once_with_an_id_of_its_own(world: World, way: Way) -> None:
    way.prepare(world)
    run = world.run(request(**way.fields))
    [notification] = world.notifications()
    assert notification.event["id"] == f"{run.result['execution_id']}/1767225600000/{way.outcome}"
    assert notification.event["type"] == f"waterhook.execution.{way.outcome.lower()}"
    assert (
        notification.event["subject"]
        == notification.event["data"]["execution_id"]
        == run.result["execution_id"]
    )
    assert notification.event["source"] == SOURCE
    assert notification.event["data"]["status"] == way.outcome
    assert notification.attributes == {
        "type": f"waterhook.execution.{way.outcome.lower()}",
        "status": way.outcome,
        "chatbot_id": "support-chat",
    }


def test_only_a_completed_job_ends_green(world: World) -> None:
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    run = world.run(request(metadata={"order": 4711}))
    assert (run.status, run.path[-1]) == ("SUCCEEDED", "Completed")
    assert run.result["final_output_json"] == '{"answer": 42}'
    assert run.result["metadata"] == {"order": 4711}


@each_failure
def test_any_other_outcome_fails_under_its_own_name_with_a_sentence_as_its_message(
    world: World, way: Way
) -> None:
    way.prepare(world)
    run = world.run(request(metadata={"order": 4711}, **way.fields))
    assert (run.status, run.error, run.path[-1]) == ("FAILED", way.error, "Fail with the outcome")
    execution_id = run.result["execution_id"]
    assert (run.cause or "").startswith(f'{{"message":"execution {execution_id} ended {way.outcome}: ')
    assert run.result["status"] == way.outcome
    assert run.result["metadata"] == {"order": 4711}


@each_way
def test_the_record_has_the_same_outcome_as_the_notification(world: World, way: Way) -> None:
    way.prepare(world)
    run = world.run(request(**way.fields))
    record = world.record(run.result["execution_id"])
    [notification] = world.notifications()
    data = notification.event["data"]
    assert (record.status, record.owner_execution_arn) == (way.outcome, run.arn)
    assert record.notified_at is not None
    assert record.finished_at == notification.event["time"] == data["timing"]["finished_at"]
    assert data["error"] == record.error
    assert (record.error or {}).get("code") == way.code


@each_way
def test_every_outcome_passes_through_notify_once(world: World, way: Way) -> None:
    way.prepare(world)
    run = world.run(request(**way.fields))
    assert run.path.count("Notify") == 1
    assert run.path[-3:-1] == ["Notify", "Completed?"]


def test_a_job_that_completes_while_polls_fail_is_not_lost(world: World) -> None:
    world.upstream.respond_with(
        "status", http_error(404), http_error(404), http_error(500), http_error(404), completed("{}")
    )
    assert world.run(request()).status == "SUCCEEDED"


def test_the_error_message_of_a_failed_job_is_passed_on(world: World) -> None:
    world.upstream.respond_with("status", status("FAILED", error_message="node 3 broke"))
    run = world.run(request())
    assert run.result["message"].endswith("ended FAILED: node 3 broke")
    assert world.notifications()[0].event["data"]["error"] == {"code": "failed", "message": "node 3 broke"}


def test_a_job_with_an_unknown_status_is_polled_until_its_status_is_known(world: World) -> None:
    world.upstream.respond_with("status", status("HIBERNATING"), status(""), completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path.count("Poll") == 3


def test_a_key_rotated_while_a_job_runs_does_not_end_it(world: World) -> None:
    def rotate() -> None:
        if len(world.clock.waits) == 2:
            world.rotate_key("a-new-key")

    world.clock.while_waiting = rotate
    world.upstream.respond_with("status", status("RUNNING"), completed("{}"))
    run = world.run(request())
    world.rotate_key("a-key-of-the-scripted-upstream")
    assert run.status == "SUCCEEDED"
    assert run.path.count("Poll") == 2


def test_a_loop_whose_record_is_final_ends_at_its_next_poll_though_the_job_runs_on(world: World) -> None:
    """As after a caller's DELETE that was answered CANCELLED, while the upstream returns RUNNING for ever."""

    table = ExecutionsTable("executions", boto3.client("dynamodb"))

    @on_request
    def concluded() -> Response:
        if world.functions.count("poll") == 3:
            execution_id = world.functions.calls[-1][1]["state"]["execution_id"]
            table.conclude(world.record(execution_id), final_attributes(Status.CANCELLED))
        return status("RUNNING")

    world.upstream.respond_with("status", concluded)
    run = world.run(request())
    assert run.error == "Waterhook.Cancelled"
    assert run.path.count("Poll") == 3
    assert world.upstream.count("cancel") == 0
    assert len(world.notifications()) == 1
