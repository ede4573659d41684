"""What travels: small where it is carried round and round, within the limits of the service at its largest."""

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
    """Yield where each payload of a history is, and its size in bytes."""
    for event in run.events:
        for kind, details in event.items():
            for name in PAYLOADS if isinstance(details, dict) else ():
                if details.get(name):
                    text = details[name]
                    yield f"{event['id']} {kind} {name}", size_bytes(json.loads(text))


def largest_request(**fields: object) -> dict[str, Any]:
    """Return a request of exactly the size that is allowed."""
    empty = request(input_data={"text": ""}, metadata={"text": "m" * (MAX_METADATA_BYTES - 12)}, **fields)
    return empty | {"input_data": {"text": "x" * (MAX_REQUEST_BYTES - size_bytes(empty))}}


def largest_inline_output() -> str:
    """Return an output of exactly the size that travels inline; every quote in it is written as two characters."""
    text = json.dumps({"text": '"' * ((MAX_INLINE_BYTES - 12) // 2)}, separators=(",", ":"))
    return text + " " * (MAX_INLINE_BYTES - len(text))


@pytest.mark.parametrize("door", ["bare", "event"])
def test_no_payload_comes_near_the_limit_with_the_largest_request_and_output(world: World, door: str) -> None:
    world.upstream.respond_with("status", status("RUNNING"), completed(largest_inline_output()))
    given: object = largest_request(idempotency_key=door)
    run = world.run(given if door == "bare" else {"event_id": "e" * 200, "request": given})
    assert run.status == "SUCCEEDED"
    assert len(run.result["final_output_json"]) >= MAX_INLINE_BYTES - 1
    sizes = dict(payloads(run))
    assert max(sizes.values()) < PAYLOAD_BYTES
    [notification] = world.notifications()
    assert len(notification.text.encode()) < PAYLOAD_BYTES
    assert json.loads(notification.text)["data"]["final_output"] == json.loads(largest_inline_output())


@pytest.mark.parametrize("step", ["start", "poll"])
def test_a_fault_with_the_largest_request_is_notified_all_the_same(world: World, step: str) -> None:
    world.functions.fail(step, "RuntimeError")
    run = world.run(largest_request())
    assert run.error == "Waterhook.Error"
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES
    assert len(world.notifications()) == 1


def test_a_request_is_as_large_as_its_bytes_in_whatever_script(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    ducks = "🦆" * ((MAX_REQUEST_BYTES - 200) // 4)
    run = world.run(request(input_data={"text": ducks}))
    assert run.status == "SUCCEEDED"
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES
    assert world.upstream.requests[0].json == {"input_data": {"text": ducks}}


def test_an_invalid_request_as_large_as_an_input_may_be_is_rejected(world: World) -> None:
    run = world.run(request(input_data={"text": "x" * (MAX_REQUEST_BYTES + 10_000)}))
    assert run.error == "Waterhook.Rejected"
    assert "at most 245760 are allowed" in run.result["message"]
    assert max(size for _, size in payloads(run)) < PAYLOAD_BYTES


def test_the_state_of_the_loop_stays_small_whatever_the_upstream_sends(world: World) -> None:
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


def test_the_longest_cause_fits_into_a_failure(world: World) -> None:
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


@pytest.mark.parametrize(
    "output", [EXACT, '"a text"', "[]", "0", "false", "null", "12345678901234567890", "1.0", '""']
)
def test_an_output_arrives_character_by_character_as_it_was_sent(world: World, output: str) -> None:
    world.upstream.respond_with("status", completed(output))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    record = world.record(run.result["execution_id"])
    expected = None if output == "null" else output
    assert run.result.get("final_output_json") == record.final_output_json == expected
    [notification] = world.notifications()
    assert f'"final_output":{output},"error"' in notification.text


def test_an_output_that_does_not_fit_waits_in_the_bucket_character_by_character(world: World) -> None:
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


def test_times_and_numbers_of_the_loop_survive_an_engine_of_doubles(world: World) -> None:
    world.clock.now += 0.123
    world.upstream.respond_with(
        "status", status("RUNNING", progress=33.3), status("RUNNING", progress=66.0), completed("{}")
    )
    run = world.run(request(timeout_seconds=60.0))
    states = run.inputs("What next?")
    assert {state["history"]["started_at"] for state in states} == {world.clock.now - sum(world.clock.waits)}
    assert {state["deadline"] for state in states} == {1_767_225_660}


def from_the_future(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as a newer version may have written it, which an older one meets after a rollback."""
    history = state["history"] | {"follows": 3, "stream": {"last_event": "9"}}
    return state | {"v": 2, "history": history, "heart_beat": [1, 2], "sequence": 17}


def from_the_past(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as the first version wrote it: only what has no default."""
    kept = ("v", "execution_id", "deadline", "waterflai_execution_id", "outcome", "next", "wait_seconds")
    return {name: state[name] for name in kept} | {"history": {"started_at": state["history"]["started_at"]}}


@pytest.mark.parametrize("version", [from_the_future, from_the_past])
@pytest.mark.parametrize("how", ["COMPLETED", "TIMED_OUT", "ERROR"])
def test_a_state_of_another_version_is_still_understood(world: World, version: Any, how: str) -> None:
    for step in ("start", "poll", "cancel"):
        world.functions.alter(
            step,
            lambda state: (
                version(state) | {name: state[name] for name in ("error", "result") if name in state}
            ),
        )
    world.upstream.respond_with(
        "status", status("RUNNING"), completed('"fine"') if how == "COMPLETED" else status("RUNNING")
    )
    if how == "ERROR":
        world.functions.fail("poll", "RuntimeError")
    run = world.run(request(timeout_seconds=60))
    assert run.result["outcome" if how == "COMPLETED" else "status"] == how
    assert run.path[1] == "What next?"
    assert len(world.notifications()) == 1


@pytest.mark.parametrize(
    "unreadable", [{"history": {"began": 0}}, {"history": []}, {"next": "wait", "outcome": "PAUSED"}], ids=str
)
def test_a_state_that_no_step_can_read_ends_in_a_notification_of_the_fault(
    world: World, unreadable: Any
) -> None:
    world.functions.alter("start", lambda state: state | {"v": 9, "next": "poll"} | unreadable)
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    [notification] = world.notifications()
    assert json.loads(notification.text)["data"]["status"] == "ERROR"
    assert json.loads(notification.text)["data"]["waterflai_execution_id"]


def test_a_state_contains_its_version(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    assert {state["v"] for state in world.run(request()).inputs("What next?")} == {1}
