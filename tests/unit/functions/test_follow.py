"""The follow function over real sockets: the stream is read in a thread, and polls use a second connection."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from functions.follow import app
from tests.fakes.aws import Bucket
from tests.fakes.lambda_context import Context
from tests.fakes.scripted_server import (
    ScriptedServer,
    Step,
    hang_up,
    raw,
    reply,
    sequence,
    sse,
    sse_event,
    stall,
)
from tests.support.builders import KEY, OWNER, STARTED_AT, UPSTREAM_ID, running_state
from tests.support.invoke import Invoke
from waterhook.domain import polling_policy, stream_history
from waterhook.domain.poll_history import PollHistory
from waterhook.steps import follow_session
from waterhook.steps.follow import MAX_STATUS_BYTES

DONE = {"type": "execution_completed"}
NODE = {"type": "node_started", "node_id": "a"}
STREAM_PATH = f"/v1/executions/{UPSTREAM_ID}/stream"
STATUS_PATH = f"/v1/executions/{UPSTREAM_ID}"
DOCUMENT = reply(200, '{"status":"COMPLETED","final_output":{ "n":1.0 }}')
RUNNING = reply(200, {"status": "RUNNING"})


class LongContext(Context):
    """A context with a minute left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


@pytest.fixture
def follow(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that invokes follow, with a poll every 0.1 s and an idle timeout of 0.3 s."""
    monkeypatch.setattr(polling_policy, "CADENCE_MIN_S", 0.1)
    monkeypatch.setattr(polling_policy, "CADENCE_PER_AGE", 0.0)
    monkeypatch.setattr(polling_policy, "ERROR_JITTER_S", 0.0)
    monkeypatch.setattr(follow_session, "IDLE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("tests.support.invoke.CONTEXT", LongContext())

    def call(server: ScriptedServer, **changes: str) -> dict[str, Any]:
        young = running_state(deadline=time.time() + 3600, history=PollHistory(time.time()))
        event = {
            "state": young.to_dict(),
            "execution": {"arn": OWNER, "started_at": STARTED_AT},
        }
        changes = {"WATERHOOK_FOLLOW_CONCURRENCY": "50", "WATERHOOK_FOLLOW_S": "30"} | changes
        before = set(threading.enumerate())
        state = invoke(app, event, WATERFLAI_BASE_URL=server.url, **changes)
        left = set(threading.enumerate()) - before
        assert not [thread for thread in left if thread.name == "event-stream"], (
            "a thread outlives the invocation"
        )
        assert json.loads(json.dumps(state)) == state
        return state

    return call


def test_a_final_event_leads_to_one_poll_for_the_output(follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a slow machine a poll after 0.1 s would come before the event.
    monkeypatch.setattr(polling_policy, "CADENCE_MIN_S", 4.5)
    with ScriptedServer([DOCUMENT], streams=[sse(NODE, DONE)]) as server:
        state = follow(server)
    assert [one.target for one in server.requests] == [STREAM_PATH, STATUS_PATH]
    assert {one.headers["x-api-key"] for one in server.requests} == {KEY}
    assert (state["outcome"], state["next"]) == ("COMPLETED", "notify")
    assert state["result"]["final_output_json"] == '{ "n":1.0 }'
    assert state["stream"]["final_event_at"]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
STREAMS: dict[str, Step] = {
    "ends early": sse(NODE),
    "empty": sse(),
    "404": reply(404, {"detail": "no such execution"}),
    "401": reply(401, {"detail": "no"}),
    "500": reply(500),
    "HTML": reply(200, "<html>hello</html>", {"Content-Type": "text/html"}),
    "nothing": hang_up,
    "open without events": sequence(HEAD, b": hello\n\n", stall(30)),
    "held back by a proxy": stall(30),
    "floods": raw(HEAD + b"data: " + b"x" * 300_000, close=True),
    "a long comment": sequence(HEAD, b":" + b"x" * 1024 * 1024 + b"\n\n", stall(30)),
    "garbage": raw(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"\xff\xfe\0data: {\n\n"),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_polls_find_the_outcome_of_a_job_with_a_bad_stream(follow: Any, stream: Step) -> None:
    with ScriptedServer([RUNNING, RUNNING, DOCUMENT], streams=[stream]) as server:
        assert follow(server)["outcome"] == "COMPLETED"
    assert sum(one.target == STATUS_PATH for one in server.requests) == 3


def test_the_stream_has_a_connection_of_its_own_and_the_polls_share_another(follow: Any) -> None:
    with ScriptedServer([RUNNING] * 5 + [DOCUMENT], streams=[sequence(HEAD, stall(30))]) as server:
        follow(server)
    polls = {one.connection for one in server.requests if one.target == STATUS_PATH}
    streams = {one.connection for one in server.requests if one.target == STREAM_PATH}
    assert (len(polls), polls & streams) == (1, set())


def test_an_open_stream_ends_with_the_invocation_and_leaves_no_thread(follow: Any) -> None:
    stream = sequence(HEAD, sse_event(NODE), stall(30))
    with ScriptedServer([reply(503)], streams=[stream]) as server:
        state = follow(server)
    assert (state["outcome"], state["next"], state["history"]["errors"]) == ("RUNNING", "wait", 3)


def test_a_rotated_key_is_read_by_a_poll_and_used_by_the_next_stream(
    follow: Any, secret: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_history, "REOPEN_S", 0.2)

    reopened = threading.Event()

    def refuse_and_rotate(connection: Any) -> None:
        secret.rotate("wf-the-new-key")
        reply(401, {"detail": "no"})(connection)

    def stream(connection: Any) -> None:
        reopened.set()
        sse(NODE, DONE)(connection)

    def status(connection: Any) -> None:
        (DOCUMENT if reopened.is_set() else RUNNING)(connection)

    with ScriptedServer([refuse_and_rotate, status], streams=[reply(401), stream]) as server:
        state = follow(server)
    assert state["outcome"] == "COMPLETED"
    used = [one.headers["x-api-key"] for one in server.requests if one.target == STREAM_PATH]
    assert used == [KEY, "wf-the-new-key"]


@pytest.mark.parametrize("size", [MAX_STATUS_BYTES - 60, MAX_STATUS_BYTES + 1])
def test_a_status_document_above_the_limit_is_left_to_the_poll_function(
    follow: Any, bucket: Bucket, size: int
) -> None:
    document = '{"status":"COMPLETED","final_output":"' + "x" * size + '"}'
    with ScriptedServer([reply(200, document)], streams=[sse(DONE)]) as server:
        state = follow(server)
    if size < MAX_STATUS_BYTES:
        assert (state["outcome"], len(bucket.keys())) == ("COMPLETED", 1)
    else:
        assert (state["outcome"], state["next"], bucket.keys()) == ("RUNNING", "poll", [])


def test_with_following_disabled_the_status_is_polled_once_and_a_wait_follows(
    follow: Any,
) -> None:
    with ScriptedServer([RUNNING], streams=[sequence(HEAD, stall(30))]) as server:
        state = follow(server, WATERHOOK_FOLLOW_CONCURRENCY="0")
    assert (state["next"], [one.target for one in server.requests]) == ("wait", [STATUS_PATH])
