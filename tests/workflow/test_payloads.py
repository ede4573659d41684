"""Payloads of the state machine: sizes below the limits of the service, and unchanged outputs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.scripted_waterflai import completed, http_error, started, status
from tests.workflow.run import Run
from tests.workflow.world import World, request
from waterhook.domain.request import MAX_METADATA_BYTES, MAX_REQUEST_BYTES
from waterhook.domain.status_document import MAX_INLINE_BYTES

LOOP_STATE_BYTES = 8 * 1024
PAYLOAD_BYTES = 256 * 1024
CAUSE_CHARS = 32_768
EXACT = '{"id": 12345678901234567890, "one": 1.0, "tiny": 1e-400, "deep": [[[[1.10]]]], "twice":  "a\\u00e9"}'
PAYLOADS = ("input", "output", "parameters", "cause")


def size_bytes(value: object) -> int:
    """Return the size of JSON as the service counts it: UTF-8, without spaces."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def payloads(run: Run) -> Iterator[tuple[str, int]]:
    """Yield the place of each payload of a history, and its size in bytes."""
    for event in run.events:
        for kind, details in event.items():
            for name in PAYLOADS if isinstance(details, dict) else ():
                if details.get(name):
                    text = details[name]
                    yield f"{event['id']} {kind} {name}", size_bytes(json.loads(text))


def largest_request(**fields: object) -> dict[str, Any]:
    """Return a request of the maximum size."""
    empty = request(input_data={"text": ""}, metadata={"text": "m" * (MAX_METADATA_BYTES - 12)}, **fields)
    return empty | {"input_data": {"text": "x" * (MAX_REQUEST_BYTES - size_bytes(empty))}}


def largest_inline_output() -> str:
    """Return an inline output of the maximum size, whose quotes are written as two characters each."""
    text = json.dumps({"text": '"' * ((MAX_INLINE_BYTES - 12) // 2)}, separators=(",", ":"))
    return text + " " * (MAX_INLINE_BYTES - len(text))


@pytest.mark.parametrize("trigger", ["bare", "event"])
def test_no_payload_exceeds_the_limit_with_the_largest_request_and_output(world: World, trigger: str) -> None:
    world.upstream.respond_with("status", status("RUNNING"), completed(largest_inline_output()))
    largest: object = largest_request(idempotency_key=trigger)
    run = world.run(largest if trigger == "bare" else {"event_id": "e" * 200, "request": largest})
    assert run.status == "SUCCEEDED"
    assert len(run.result["final_output_json"]) >= MAX_INLINE_BYTES - 1
    sizes = dict(payloads(run))
    assert max(sizes.values()) < PAYLOAD_BYTES
    [notification] = world.notifications()
    assert len(notification.text.encode()) < PAYLOAD_BYTES
    assert json.loads(notification.text)["data"]["final_output"] == json.loads(largest_inline_output())


def test_a_fault_with_the_largest_request_is_notified(world: World) -> None:
    world.functions.fail("start", "RuntimeError")
    run = world.run(largest_request())
    assert run.error == "Waterhook.Error"
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES
    assert len(world.notifications()) == 1


def test_the_size_of_a_request_counts_utf_8_bytes(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    ducks = "🦆" * ((MAX_REQUEST_BYTES - 200) // 4)
    run = world.run(request(input_data={"text": ducks}))
    assert run.status == "SUCCEEDED"
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES
    assert world.upstream.requests[0].json == {"input_data": {"text": ducks}}


def test_a_request_above_the_limit_is_rejected(world: World) -> None:
    run = world.run(request(input_data={"text": "x" * (MAX_REQUEST_BYTES + 10_000)}))
    assert run.error == "Waterhook.Rejected"
    assert "at most 245760 are allowed" in run.result["message"]
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES


def test_the_state_of_the_loop_stays_small_with_long_texts_of_the_upstream(world: World) -> None:
    long_id = "🦆" * 200
    world.upstream.respond_with("start", started(long_id))
    documents = [
        status(
            "🦆" * 5000,
            progress=1e-300 * n,
            current_node="🦆" * 5000,
            cleanup_after="2026-01-01T12:00:00.123456789+00:00",
            error_message="🦆" * 50_000,
            execution_id="🦆" * 5000,
            unknown={"deep": ["x" * 50_000]},
        )
        for n in range(4)
    ]
    world.upstream.respond_with("status", *documents, http_error(404, "🦆" * 5000), status("FAILED"))
    run = world.run(largest_request())
    assert run.error == "Waterhook.Failed"
    states = run.inputs("What next?")
    assert len(states) == 7
    assert all(size_bytes(state) < LOOP_STATE_BYTES for state in states)
    assert all(state["waterflai_execution_id"] == long_id for state in states)


def test_the_state_of_the_loop_does_not_grow_with_the_poll_cycles(world: World) -> None:
    world.upstream.respond_with(
        "status", *[status("RUNNING", progress=n) for n in range(20)], completed("{}")
    )
    sizes = [size_bytes(state) for state in world.run(request()).inputs("Wait")]
    assert max(sizes) < 600
    assert sizes[-1] - sizes[2] < 10


def test_the_longest_cause_is_below_the_limit_of_a_failure(world: World) -> None:
    world.upstream.respond_with("start", started("🦆" * 200))
    world.upstream.respond_with("status", status("FAILED", error_message="🦆" * 5000))
    run = world.run(
        request(
            chatbot_id="🦆" * 200,
            metadata={"text": "m" * (MAX_METADATA_BYTES - 12)},
            idempotency_key="🦆" * 200,
        )
    )
    assert run.error == "Waterhook.Failed"
    assert len(run.cause or "") < CAUSE_CHARS
    assert run.result["status"] == "FAILED"


@pytest.mark.parametrize("output", [EXACT, "[]", "false", "null", "1.0", '""'])
def test_an_output_is_notified_and_recorded_as_unchanged_text(world: World, output: str) -> None:
    world.upstream.respond_with("status", completed(output))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    record = world.record(run.result["execution_id"])
    expected = None if output == "null" else output
    assert run.result.get("final_output_json") == record.final_output_json == expected
    [notification] = world.notifications()
    assert f'"final_output":{output},"error"' in notification.text


def test_a_large_output_is_stored_as_unchanged_text(world: World) -> None:
    output = '{"text": "' + "x" * MAX_INLINE_BYTES + '", "id": 12345678901234567890, "one": 1.0}'
    world.upstream.respond_with("status", completed(output))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert "final_output_json" not in run.result
    [notification] = world.notifications()
    assert notification.event["dataref"] == run.result["output_ref"]
    assert notification.event["data"]["final_output"] is None
    assert world.stored(run.result["output_ref"]) == output
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES


def test_the_engine_does_not_change_times_and_numbers_of_the_loop(world: World) -> None:
    world.clock.now += 0.123
    world.upstream.respond_with(
        "status", status("RUNNING", progress=33.3), status("RUNNING", progress=66.0), completed("{}")
    )
    run = world.run(request(timeout_seconds=60.0))
    states = run.inputs("What next?")
    assert {state["history"]["started_at"] for state in states} == {world.clock.now - sum(world.clock.waits)}
    assert {state["deadline"] for state in states} == {1_767_225_660}


def from_the_future(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as a newer version may have written it, for an older version after a rollback."""
    history = state["history"] | {"follows": 3, "stream": {"last_event": "9"}}
    return state | {"v": 2, "history": history, "heart_beat": [1, 2], "sequence": 17}


def from_the_past(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as the first version wrote it: only fields without a default."""
    names = ("v", "execution_id", "deadline", "waterflai_execution_id", "outcome", "next", "wait_seconds")
    return {name: state[name] for name in names} | {"history": {"started_at": state["history"]["started_at"]}}


@pytest.mark.parametrize("version", [from_the_future, from_the_past])
@pytest.mark.parametrize("outcome", ["COMPLETED", "TIMED_OUT", "ERROR"])
def test_a_state_of_another_version_leads_to_an_outcome(world: World, version: Any, outcome: str) -> None:
    for step in ("start", "poll", "cancel"):
        world.functions.alter(
            step,
            lambda state: (
                version(state) | {name: state[name] for name in ("error", "result") if name in state}
            ),
        )
    world.upstream.respond_with(
        "status", status("RUNNING"), completed('"fine"') if outcome == "COMPLETED" else status("RUNNING")
    )
    if outcome == "ERROR":
        world.functions.fail("poll", "RuntimeError")
    run = world.run(request(timeout_seconds=60))
    assert run.result["outcome" if outcome == "COMPLETED" else "status"] == outcome
    assert run.path[1] == "What next?"
    assert len(world.notifications()) == 1


@pytest.mark.parametrize(
    "unreadable", [{"history": {"began": 0}}, {"history": []}, {"next": "wait", "outcome": "PAUSED"}], ids=str
)
def test_a_state_that_no_step_can_read_is_an_error_that_is_notified(world: World, unreadable: Any) -> None:
    world.functions.alter("start", lambda state: state | {"v": 9, "next": "poll"} | unreadable)
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert json.loads(notification.text)["data"]["status"] == "ERROR"
    assert json.loads(notification.text)["data"]["waterflai_execution_id"]
