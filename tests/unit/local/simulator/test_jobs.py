"""The jobs of the simulated Waterflai: their progress over time, their events and their documents."""

import asyncio
import itertools
import json
import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from local.simulator.chatbots import CHATBOTS, job_script
from local.simulator.clock import SimulatedClock
from local.simulator.executions import Execution, Executions
from local.simulator.jobs import JobEvent, JobScript, JobSnapshot, Outcome, Status, snapshot, timeline
from local.simulator.strict_json import InvalidJsonError, InvalidValueError, read_object, write_json
from tests.fakes.clock import Clock

EPOCH_S = 1_757_824_428.102  # 2025-09-14T04:33:48.102Z

seconds = st.one_of(st.just(0.0), st.floats(0.001, 86_400))
scripts = st.builds(
    JobScript,
    nodes=st.integers(1, 40),
    queue_seconds=seconds,
    seconds=seconds,
    outcome=st.sampled_from(Outcome),
)
in_bounds = settings(max_examples=50, deadline=None, derandomize=True)


@pytest.fixture
def time() -> Clock:
    """Real time: epoch seconds are EPOCH_S when it shows 1,000 s."""
    return Clock(1_000.0)


@pytest.fixture
def clock(time: Clock) -> SimulatedClock:
    return SimulatedClock(time, lambda: EPOCH_S - 1_000.0 + time.now)


@pytest.fixture
def executions(clock: SimulatedClock) -> Executions:
    return Executions(clock)


def events_of(script: JobScript, after_s: float = 0.0, most: int = 300) -> list[JobEvent]:
    return list(itertools.islice(timeline(script, after_s), most))


# Jobs


@pytest.mark.parametrize(
    ("elapsed_s", "status", "progress", "current_node", "completed_nodes"),
    [
        (0.0, Status.PENDING, 0.0, None, 0),
        (0.5, Status.RUNNING, 0.0, "node-1", 0),
        (1.0, Status.RUNNING, 16.66, "node-1", 0),
        (2.75, Status.RUNNING, 75.0, "node-3", 2),
        (3.5, Status.COMPLETED, 100.0, None, 3),
    ],
)
def test_a_job_is_queued_then_runs_its_nodes_in_order_and_completes(
    elapsed_s: float, status: Status, progress: float, current_node: str | None, completed_nodes: int
) -> None:
    assert snapshot(JobScript(nodes=3, queue_seconds=0.5, seconds=3.0), elapsed_s) == JobSnapshot(
        status=status,
        progress=progress,
        current_node=current_node,
        completed_nodes=completed_nodes,
        started_s=None if status is Status.PENDING else 0.5,
        finished_s=3.5 if status is Status.COMPLETED else None,
    )


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_a_job_that_does_not_complete_stops_in_the_middle_of_its_nodes(outcome: Outcome) -> None:
    end = snapshot(JobScript(nodes=4, seconds=5.0, outcome=outcome), 5.5)
    assert (end.status.value, end.completed_nodes, end.progress) == (outcome.value, 2, 62.5)
    assert end.current_node is None


def test_a_job_that_is_cancelled_in_the_queue_has_no_start_time() -> None:
    end = snapshot(JobScript(queue_seconds=10), 60.0, cancelled_s=4.0)
    assert (end.status, end.started_s, end.finished_s, end.progress) == (Status.CANCELLED, None, 4.0, 0.0)


@in_bounds
@given(scripts, st.lists(st.floats(0, 200_000), min_size=2, max_size=10).map(sorted))
def test_the_progress_of_a_job_never_decreases(script: JobScript, moments: list[float]) -> None:
    seen = [snapshot(script, moment) for moment in moments]
    for before, after in itertools.pairwise(seen):
        assert after.progress >= before.progress
        assert after.completed_nodes >= before.completed_nodes
        assert not before.status.is_final or after == before
        assert (after.status, before.status) != (Status.PENDING, Status.RUNNING)
    for each in seen:
        assert 0 <= each.progress <= 100
        assert (each.progress == 100) == (each.status is Status.COMPLETED)
        assert (each.current_node is None) == (each.status is not Status.RUNNING)
        assert 0 <= each.completed_nodes <= script.nodes


@in_bounds
@given(scripts.filter(lambda script: 0 < script.finish_s < math.inf))
def test_a_job_is_not_final_just_before_its_end(script: JobScript) -> None:
    almost = snapshot(script, math.nextafter(script.finish_s, 0))
    assert not almost.status.is_final
    assert almost.progress < 100


@in_bounds
@given(scripts)
@example(JobScript(nodes=25, seconds=7.0))  # 25 times a 25th of 7 is more than 7
@example(JobScript(nodes=3, seconds=0.9, queue_seconds=0.0))  # three thirds of 0.9 are less than 0.9
def test_the_stream_and_the_status_agree(script: JobScript) -> None:
    started = completed = 0
    events = events_of(script)
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)
    for event in events:
        now = snapshot(script, event.at_s)
        match event.body["type"]:
            case "node_started":
                started += 1
            case "node_completed":
                completed += 1
                assert now.completed_nodes >= completed
            case "progress_update":
                assert event.body["progress"] == now.progress
            case last:
                assert last == "execution_completed"
                assert event is events[-1]
                assert event.body["status"] == now.status
                assert now.status.is_final
                assert completed == now.completed_nodes
    assert started - completed in {0, 1}


@in_bounds
@given(scripts, st.floats(0, 100_000))
def test_a_stream_that_is_opened_late_has_the_remaining_events(script: JobScript, after_s: float) -> None:
    everything = events_of(script, most=1_000)
    late = events_of(script, after_s, most=50)
    expected = [event for event in everything if event.at_s >= after_s] or everything[-1:]
    if script.outcome is Outcome.ENDLESS:
        assert [event.at_s >= after_s for event in late] == [True] * 50
    else:
        assert late == expected[:50]


# Chatbots


def test_the_input_can_replace_the_script_of_a_chatbot() -> None:
    simulate = {"seconds": 7, "nodes": 2, "outcome": "FAILED", "queue_seconds": 0, "output": {"a": 1}}
    script = job_script(CHATBOTS["support-chat"], {"query": "hello", "simulate": simulate})
    assert (script.seconds, script.nodes, script.outcome) == (7.0, 2, Outcome.FAILED)
    assert (script.queue_seconds, script.output) == (0.0, {"a": 1})
    assert script.error_message


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        ([], "input_data.simulate: expected object, got list"),
        ({"seconds": "1"}, "input_data.simulate.seconds: expected number, got string"),
        ({"seconds": -1}, "input_data.simulate.seconds: expected 0 to 86400"),
        ({"outcome": "DONE"}, "input_data.simulate.outcome: expected one of COMPLETED"),
    ],
)
def test_an_invalid_script_is_refused_with_the_name_of_the_field(simulate: Any, message: str) -> None:
    with pytest.raises(InvalidValueError) as raised:
        job_script(CHATBOTS["support-chat"], {"simulate": simulate})
    assert str(raised.value).startswith(message)


# JSON


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"a":' * 201 + b"1" + b"}" * 201,
        b'{"a":' + b"1" * 5_000 + b"}",
    ],
    ids=lambda body: body[:12],
)
def test_json_that_cannot_be_written_again_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJsonError):
        read_object(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":12345678901234567890,"b":1.0,"c":0.1}',
        '{"half":"\\ud800"}',
        '{"é":"😀"}',
        '{"a":' * 200 + "1" + "}" * 200,
    ],
    ids=["numbers", "half a surrogate pair", "beyond ASCII", "deep"],
)
def test_json_is_written_as_it_was_read(text: str) -> None:
    assert write_json(read_object(text.encode())) == text.encode()


# Time


def test_timestamps_follow_the_wall_clock_at_each_speed(time: Clock, clock: SimulatedClock) -> None:
    time.advance(10)
    clock.set_factor(10.0)
    time.advance(10)
    clock.set_factor(1.0)
    stamps = [clock.wall_time(moment).timestamp() - EPOCH_S for moment in (5.0, 60.0, 115.0)]
    assert stamps == pytest.approx([5.0, 15.0, 25.0])


def test_a_document_with_lag_shows_the_state_of_that_time_at_each_speed(
    time: Clock, executions: Executions
) -> None:
    time.advance(5)
    executions.set_speed(10.0)
    execution = executions.start("instant", JobScript(queue_seconds=0, seconds=20, output={"answer": 1}))
    instant = executions.start("instant", JobScript(queue_seconds=0, seconds=0))
    assert executions.document(instant)["status"] == "COMPLETED"
    assert executions.document(instant, lag_s=0.1)["status"] == "PENDING"
    time.advance(1)
    assert executions.document(execution)["progress"] == 50.0
    assert executions.document(execution, lag_s=2.0)["progress"] == 0.0
    assert [executions.is_younger(execution, seconds) for seconds in (0.9, 1.1)] == [False, True]
    time.advance(1)
    assert executions.document(execution)["final_output"] == {"answer": 1}
    late = executions.document(execution, lag_s=1.0)
    assert (late["status"], late["progress"], "final_output" in late) == ("RUNNING", 50.0, False)


# Executions


def test_the_document_of_a_new_execution_has_every_field(executions: Executions) -> None:
    execution = executions.start("support-chat", CHATBOTS["support-chat"])
    assert executions.document(execution) == {
        "execution_id": execution.execution_id,
        "status": "PENDING",
        "progress": 0.0,
        "current_node": None,
        "completed_nodes": 0,
        "total_nodes": 3,
        "error_message": None,
        "created_at": "2025-09-14T04:33:48.102Z",
        "started_at": None,
        "completed_at": None,
        "retry_count": 0,
        "execution_source": "CHATBOT",
        "is_temporary": True,
        "cleanup_after": "2025-09-21T04:33:48.102Z",
    }


@pytest.mark.parametrize(
    ("chatbot_id", "status"),
    [
        ("support-chat", "COMPLETED"),
        ("always-fails", "FAILED"),
        ("cancelled-upstream", "CANCELLED"),
        ("endless", "RUNNING"),
    ],
)
def test_only_a_completed_execution_has_output_and_only_a_failed_one_an_error(
    time: Clock, executions: Executions, chatbot_id: str, status: str
) -> None:
    execution = executions.start(chatbot_id, CHATBOTS[chatbot_id])
    time.advance(60)
    document = json.loads(write_json(executions.document(execution)))
    assert document["status"] == status
    assert ("final_output" in document) == (status == "COMPLETED")
    assert (document["error_message"] is not None) == (status == "FAILED")
    assert (document["completed_at"] is None) == (status == "RUNNING")


def test_a_cancelled_execution_keeps_its_progress(time: Clock, executions: Executions) -> None:
    execution = executions.start("support-chat", CHATBOTS["support-chat"])
    time.advance(2)
    assert executions.cancel(execution) == (True, Status.RUNNING)
    time.advance(60)
    assert executions.cancel(execution) == (False, Status.CANCELLED)
    document = executions.document(execution)
    assert (document["status"], document["progress"], document["completed_nodes"]) == ("CANCELLED", 50.0, 1)
    assert datetime.fromisoformat(document["completed_at"]).timestamp() == pytest.approx(EPOCH_S + 2)


def test_an_execution_is_deleted_when_its_cleanup_is_due(time: Clock, executions: Executions) -> None:
    script = JobScript(cleanup_seconds=100)
    execution = executions.start("support-chat", script)
    time.advance(99.9)
    assert executions.find(execution.execution_id) is execution
    time.advance(0.2)
    assert executions.find(execution.execution_id) is None
    assert executions.all() == []


# Streams


async def streamed_events(executions: Executions, execution: Execution) -> list[str]:
    return [event["type"] async for event in executions.follow(execution)]


def test_a_stream_delivers_each_event_when_it_is_due_and_ends() -> None:
    executions = Executions(SimulatedClock())
    executions.set_speed(100)
    execution = executions.start("support-chat", JobScript(nodes=3, queue_seconds=20, seconds=3))
    events = asyncio.run(streamed_events(executions, execution))
    assert [event for event in events if event != "progress_update"] == [
        *["node_started", "node_completed"] * 3,
        "execution_completed",
    ]
    assert asyncio.run(streamed_events(executions, execution)) == ["execution_completed"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda executions, execution: executions.cancel(execution), ["execution_completed"]),
        (lambda executions, execution: executions.finish(execution), ["execution_completed"]),
        (lambda executions, _: executions.reset(), []),
        (
            lambda executions, _: executions.set_speed(1_000),
            ["node_started", "node_completed", "execution_completed"],
        ),
    ],
    ids=["cancel", "finish", "reset", "speed"],
)
def test_a_sleeping_stream_reacts_to_a_change_immediately(change: Any, expected: list[str]) -> None:
    async def read_stream() -> list[str]:
        executions = Executions(SimulatedClock())
        execution = executions.start("instant", JobScript(nodes=1, queue_seconds=50, seconds=0))
        stream = asyncio.create_task(streamed_events(executions, execution))
        await asyncio.sleep(0.05)
        change(executions, execution)
        return await asyncio.wait_for(stream, timeout=30)

    assert asyncio.run(read_stream()) == expected
