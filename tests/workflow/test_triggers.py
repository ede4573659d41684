"""Triggers: one job for each request, duplicates, conflicts, invalid and forged inputs."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.scripted_waterflai import Response, completed, on_request, started, status
from tests.workflow.functions_in_process import context_of, handler_of
from tests.workflow.world import ASL, World, request

if TYPE_CHECKING:
    from tests.workflow.run import Run

EVENTS = ASL.parents[1] / "events"


def sample(name: str) -> Any:
    """Return an event from events/, which the documentation shows."""
    return json.loads((EVENTS / name).read_text())


def call(event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return status code and body of the answer of the API."""
    answer = handler_of("api")(event, context_of("api"))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize("name", ["request.json", "eventbridge.json"])
def test_the_sample_events_of_the_documentation_start_a_job(world: World, name: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(sample(name) | ({"idempotency_key": name} if name == "request.json" else {}))
    assert run.status == "SUCCEEDED"
    [start] = world.upstream.requests[:1]
    assert start.target == "/v1/executions/support-chat/async"
    assert start.json == {"input_data": {"query": "What is Waterflai?", "user_id": "user-123"}}


def test_a_nested_execution_may_have_the_field_of_step_functions(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    execution_input = request() | {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:of:the:parent"}
    assert world.run(execution_input).status == "SUCCEEDED"


def test_an_event_delivered_twice_is_one_job_with_one_notification(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    execution_input = {"event_id": "delivered-twice", "request": request()}
    first, second = world.run(execution_input), world.run(execution_input)
    assert first.result == second.result
    assert world.upstream.count("start") == len(world.notifications()) == 1


def test_an_execution_of_the_api_can_be_read_before_and_after_its_end(world: World) -> None:
    event = sample("api-start.json")
    code, accepted = call(event)
    assert code == 202
    read = sample("api-read.json")
    read["pathParameters"] = {"id": accepted["execution_id"]}
    assert call(read)[0] == 200
    world.upstream.respond_with("status", completed('{"answer": 42}'))
    run = world.finished(world.record(accepted["execution_id"]).owner_execution_arn)
    assert (run.status, run.result["execution_id"]) == ("SUCCEEDED", accepted["execution_id"])
    code, document = call(read)
    assert (code, document["status"], document["final_output"]) == (200, "COMPLETED", {"answer": 42})
    assert document["metadata"] == {"order": 4711}
    assert call(event) == (202, accepted | {"status": "COMPLETED"})
    assert world.upstream.count("start") == 1


def test_a_request_repeated_at_the_api_during_its_start_is_the_same_execution(world: World) -> None:
    event = sample("api-start.json")
    event["headers"]["Idempotency-Key"] = "impatient"
    repeated: list[tuple[int, dict[str, Any]]] = []

    @on_request
    def meanwhile() -> Response:
        repeated.append(call(event))
        return started("job")

    world.upstream.respond_with("start", meanwhile)
    world.upstream.respond_with("status", completed("{}"))
    code, accepted = call(event)
    run = world.finished(world.record(accepted["execution_id"]).owner_execution_arn)
    assert run.status == "SUCCEEDED"
    assert repeated == [(code, accepted | {"status": "STARTING"})]
    assert world.upstream.count("start") == len(world.notifications()) == 1


def test_a_duplicate_of_a_running_execution_fails_and_names_its_owner(world: World) -> None:
    execution_input = request(idempotency_key="twice")
    runs: list[Run] = []

    @on_request
    def meanwhile() -> Response:
        runs.append(world.run(execution_input))
        return completed("{}")

    world.upstream.respond_with("status", meanwhile)
    first = world.run(execution_input)
    [second] = runs
    assert (second.status, second.error) == ("FAILED", "Waterhook.Duplicate")
    assert first.arn in second.result["message"]
    assert (second.cause or "").startswith('{"message":"the same request is already running as ')
    assert second.result["owner_execution_arn"] == first.arn
    assert second.path == ["Start execution", "What next?", "Completed?", "Fail with the outcome"]
    assert first.status == "SUCCEEDED"
    assert world.upstream.count("start") == len(world.notifications()) == 1
    assert world.upstream.count("cancel") == 0


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED"])
def test_a_duplicate_of_a_finished_execution_has_the_same_outcome(world: World, outcome: str) -> None:
    world.upstream.respond_with(
        "status", completed('{"a": 1.0}') if outcome == "COMPLETED" else status(outcome)
    )
    execution_input = request(idempotency_key=f"again-{outcome}")
    first, second = world.run(execution_input), world.run(execution_input)
    assert (second.status, second.error, second.cause) == (first.status, first.error, first.cause)
    assert second.output == first.output
    assert world.upstream.count("start") == len(world.notifications()) == 1


def test_a_key_used_for_another_request_is_a_conflict(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    first = world.run(request(idempotency_key="mine"))
    second = world.run(request(idempotency_key="mine", input_data={"question": "why not?"}))
    assert (second.status, second.error) == ("FAILED", "Waterhook.IdempotencyConflict")
    assert (second.cause or "").startswith('{"message":"the idempotency key was used for another request')
    assert second.result["execution_id"] == first.result["execution_id"]
    assert world.upstream.count("start") == len(world.notifications()) == 1


INVALID: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "a list of one request": [request()],
    "a text": "support-chat",
    "an empty object": {},
}


@pytest.mark.parametrize("execution_input", INVALID.values(), ids=INVALID)
def test_an_invalid_request_is_rejected_notified_and_never_posted(
    world: World, execution_input: object
) -> None:
    run = world.run(execution_input)
    assert (run.status, run.error) == ("FAILED", "Waterhook.Rejected")
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "invalid_request"
    assert not world.upstream.requests


LOOP_STATE: dict[str, Any] = {
    "v": 1,
    "execution_id": "another-execution",
    "waterflai_execution_id": "a-job",
    "deadline": 99999999999,
    "history": {"started_at": 0},
    "outcome": "COMPLETED",
    "next": "notify",
    "wait_seconds": 0,
    "result": {"final_output_json": '"mine now"'},
    "fault": "Waterhook.Fault",
}


def test_an_input_that_is_a_forged_loop_state_is_an_invalid_request(world: World) -> None:
    run = world.run(LOOP_STATE)
    assert run.error == "Waterhook.Rejected"
    run = world.run(LOOP_STATE | request())
    assert run.error == "Waterhook.Rejected"
    assert run.result["execution_id"] != "another-execution"
    assert not world.upstream.requests


def test_a_forged_loop_state_beside_a_valid_request_is_ignored(world: World) -> None:
    world.upstream.respond_with("status", completed('"its own"'))
    run = world.run(LOOP_STATE | {"request": request()})
    assert run.status == "SUCCEEDED"
    assert run.result["final_output_json"] == '"its own"'
    assert run.result["execution_id"] != "another-execution"
    assert world.upstream.count("start") == 1


def test_a_forged_loop_state_is_ignored_when_the_start_fails(world: World) -> None:
    world.functions.fail("start", "RuntimeError")
    run = world.run(LOOP_STATE | {"request": request()})
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "fault"
    assert notification.event["data"]["final_output"] is None
    assert notification.event["subject"] == run.result["execution_id"] != "another-execution"


def test_an_execution_with_a_forged_id_does_not_change_that_record(world: World) -> None:
    world.upstream.respond_with("status", completed('"the first"'))
    first = world.run(request())
    before = world.record(first.result["execution_id"])
    second = world.run({"execution_id": first.result["execution_id"], "request": request()})
    assert second.result["execution_id"] != first.result["execution_id"]
    assert world.record(first.result["execution_id"]) == before
