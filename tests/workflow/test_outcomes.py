"""The eight outcomes: notification, record and end of the state machine execution."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.scripted_waterflai import NO_RESPONSE, completed, http_error, status
from tests.support.builders import SOURCE
from tests.workflow.world import World, request


@dataclass(frozen=True, slots=True)
class OutcomeCase:
    """The preparation that leads to an outcome, and the expected errors."""

    outcome: str
    error: str | None
    prepare: Callable[[World], object]
    code: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


OUTCOMES = [
    OutcomeCase(
        "COMPLETED", None, lambda world: world.upstream.respond_with("status", completed('{"answer": 42}'))
    ),
    OutcomeCase(
        "FAILED",
        "Waterhook.Failed",
        lambda world: world.upstream.respond_with("status", status("FAILED", error_message="node 3 broke")),
        "failed",
    ),
    OutcomeCase(
        "CANCELLED",
        "Waterhook.Cancelled",
        lambda world: world.upstream.respond_with("status", status("CANCELLED")),
        "cancelled",
    ),
    OutcomeCase("TIMED_OUT", "Waterhook.TimedOut", lambda world: None, "deadline", {"timeout_seconds": 10}),
    OutcomeCase(
        "LOST",
        "Waterhook.Lost",
        lambda world: world.upstream.respond_with("status", http_error(404)),
        "not_found",
    ),
    OutcomeCase(
        "REJECTED",
        "Waterhook.Rejected",
        lambda world: world.upstream.respond_with("start", http_error(422)),
        "refused",
    ),
    OutcomeCase(
        "UNCERTAIN",
        "Waterhook.Uncertain",
        lambda world: world.upstream.respond_with("start", NO_RESPONSE),
        "start_uncertain",
    ),
    OutcomeCase(
        "ERROR", "Waterhook.Error", lambda world: world.functions.fail("poll", "RuntimeError"), "fault"
    ),
]
each_outcome = pytest.mark.parametrize("case", OUTCOMES, ids=[case.outcome for case in OUTCOMES])


@each_outcome
def test_each_outcome_is_notified_once_and_written_to_the_record(world: World, case: OutcomeCase) -> None:
    case.prepare(world)
    run = world.run(request(metadata={"order": 4711}, **case.fields))
    execution_id = run.result["execution_id"]
    assert run.result["metadata"] == {"order": 4711}
    assert run.path.count("Notify") == 1
    assert run.path[-3:-1] == ["Notify", "Completed?"]

    [notification] = world.notifications()
    event, data = notification.event, notification.event["data"]
    assert event["id"] == f"{execution_id}/1767225600000/{case.outcome}"
    assert (event["subject"], data["execution_id"], event["source"]) == (execution_id, execution_id, SOURCE)
    assert data["status"] == case.outcome
    assert notification.attributes == {
        "type": event["type"],
        "status": case.outcome,
        "chatbot_id": "support-chat",
    }
    assert event["type"] == f"waterhook.execution.{case.outcome.lower()}"

    record = world.record(execution_id)
    assert (record.status, record.owner_execution_arn) == (case.outcome, run.arn)
    assert record.notified_at is not None
    assert record.finished_at == event["time"] == data["timing"]["finished_at"]
    assert data["error"] == record.error
    assert (record.error or {}).get("code") == case.code

    if case.error is None:
        assert (run.status, run.path[-1]) == ("SUCCEEDED", "Completed")
        assert run.result["final_output_json"] == '{"answer": 42}'
    else:
        assert (run.status, run.error, run.path[-1]) == ("FAILED", case.error, "Fail with the outcome")
        message = f"execution {execution_id} ended {case.outcome}: "
        assert (run.cause or "").startswith(f'{{"message":"{message}')
        assert run.result["status"] == case.outcome


def test_a_job_whose_api_key_is_rotated_keeps_its_outcome(world: World) -> None:
    def rotate() -> None:
        if len(world.clock.waits) == 2:
            world.rotate_key("a-new-key")

    world.clock.while_waiting = rotate
    world.upstream.respond_with("status", status("RUNNING"), completed("{}"))
    run = world.run(request())
    world.rotate_key("a-key-of-the-scripted-upstream")
    assert run.status == "SUCCEEDED"
    assert run.path.count("Poll") == 2
