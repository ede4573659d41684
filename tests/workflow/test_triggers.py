"""However a request comes in, it becomes one job; whatever comes with it changes nothing else."""

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
    """Return an event that the documentation shows too."""
    return json.loads((EVENTS / name).read_text())


def call(event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return status and body of what the API answers."""
    answer = handler_of("api")(event, context_of("api"))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.mark.parametrize("name", ["request.json", "eventbridge.json"])
def test_the_samples_of_the_documentation_are_run(world: World, name: str) -> None:
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(sample(name) | ({"idempotency_key": name} if name == "request.json" else {}))
    assert run.status == "SUCCEEDED"
    [start] = world.upstream.requests[:1]
    assert start.target == "/v1/executions/support-chat/async"
    assert start.json == {"input_data": {"query": "What is Waterflai?", "user_id": "user-123"}}


def test_a_nested_execution_carries_a_field_of_step_functions_own(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    given = request() | {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:of:the:parent"}
    assert world.run(given).status == "SUCCEEDED"


def test_an_event_delivered_twice_is_one_job_with_one_notification(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    given = {"event_id": "delivered-twice", "request": request()}
    first, second = world.run(given), world.run(given)
    assert first.result == second.result
    assert world.upstream.count("start") == len(world.notifications()) == 1


def test_a_request_through_the_api_is_found_immediately_and_read_when_it_has_ended(world: World) -> None:
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


def test_a_request_repeated_at_the_api_while_it_starts_is_the_same_execution(world: World) -> None:
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
    given = request(idempotency_key="twice-at-once")
    seen: list[Run] = []

    @on_request
    def meanwhile() -> Response:
        seen.append(world.run(given))
        return completed("{}")

    world.upstream.respond_with("status", meanwhile)
    first = world.run(given)
    [second] = seen
    assert (second.status, second.error) == ("FAILED", "Waterhook.Duplicate")
    assert first.arn in second.result["message"]
    assert (second.cause or "").startswith('{"message":"the same request is already running as ')
    assert second.result["owner_execution_arn"] == first.arn
    assert second.path == ["Start execution", "What next?", "Completed?", "Fail with the outcome"]
    assert first.status == "SUCCEEDED"


def test_a_duplicate_never_posts_nor_notifies_nor_cancels(world: World) -> None:
    given = request(idempotency_key="hands-off", timeout_seconds=30)
    seen: list[Run] = []

    @on_request
    def meanwhile() -> Response:
        if not seen:
            seen.append(world.run(given))
            assert world.upstream.count("start") == 1
            assert world.upstream.count("cancel") == 0
            assert not world.notifications()
        return status("RUNNING")

    world.upstream.respond_with("status", meanwhile)
    assert world.run(given).error == "Waterhook.TimedOut"
    assert len(world.notifications()) == 1


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED"])
def test_a_duplicate_of_an_ended_execution_ends_as_the_first_did(world: World, outcome: str) -> None:
    world.upstream.respond_with(
        "status", completed('{"a": 1.0}') if outcome == "COMPLETED" else status(outcome)
    )
    given = request(idempotency_key=f"again-{outcome}")
    first, second = world.run(given), world.run(given)
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


def test_a_key_is_free_again_once_its_record_has_expired(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    given = request(idempotency_key="once-a-month")
    world.run(given)
    world.clock.now += 31 * 24 * 3600
    assert world.run(given).status == "SUCCEEDED"
    assert world.upstream.count("start") == 2


INVALID = {
    "nothing": None,
    "a list": [],
    "a list of one request": [request()],
    "a text": "support-chat",
    "a number": 7,
    "an empty object": {},
    "no input_data": {"chatbot_id": "support-chat"},
    "an unknown field": request(chatbot="support-chat"),
    "an envelope without a request": {"event_id": "e", "request": None},
}


@pytest.mark.parametrize("given", INVALID.values(), ids=INVALID)
def test_an_invalid_request_is_rejected_notified_and_never_posted(world: World, given: object) -> None:
    run = world.run(given)
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


def test_an_input_that_pretends_to_be_the_state_of_the_loop_is_an_invalid_request(world: World) -> None:
    run = world.run(LOOP_STATE)
    assert run.error == "Waterhook.Rejected"
    run = world.run(LOOP_STATE | request())
    assert run.error == "Waterhook.Rejected"
    assert run.result["execution_id"] != "another-execution"
    assert not world.upstream.requests


def test_loop_state_beside_a_valid_request_changes_nothing(world: World) -> None:
    world.upstream.respond_with("status", completed('"its own"'))
    run = world.run(LOOP_STATE | {"request": request()})
    assert run.status == "SUCCEEDED"
    assert run.result["final_output_json"] == '"its own"'
    assert run.result["execution_id"] != "another-execution"
    assert world.upstream.count("start") == 1


def test_loop_state_in_the_input_changes_nothing_when_the_start_fails_either(world: World) -> None:
    world.functions.fail("start", "RuntimeError")
    run = world.run(LOOP_STATE | {"request": request()})
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert notification.event["data"]["error"]["code"] == "fault"
    assert notification.event["data"]["final_output"] is None
    assert notification.event["subject"] == run.result["execution_id"] != "another-execution"


def test_claiming_the_record_of_another_execution_leaves_it_alone(world: World) -> None:
    world.upstream.respond_with("status", completed('"the first"'))
    first = world.run(request())
    before = world.record(first.result["execution_id"])
    second = world.run({"execution_id": first.result["execution_id"], "request": request()})
    assert second.result["execution_id"] != first.result["execution_id"]
    assert world.record(first.result["execution_id"]) == before
