"""The simulated Waterflai over HTTP: a real server on a free port, and raw requests."""

import json
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.simulator.http_json import MAX_BODY_BYTES
from local.simulator.server import HOST
from tests.support.waiting import until
from tests.unit.local.simulator.simulator_client import (
    KEY,
    UNKNOWN_ID,
    Upstream,
    assert_is_detail,
    running,
    start_body,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream) -> Upstream:
    server.reset()
    return server


# The four calls


def test_a_start_returns_an_id_and_three_addresses(upstream: Upstream) -> None:
    response = upstream.call("POST", "/v1/executions/support-chat/async", start_body())
    assert (response.status, response.headers["content-type"]) == (202, "application/json")
    url = f"http://{HOST}:{upstream.port}/v1/executions/{response.json['execution_id']}"
    assert response.json == {
        "execution_id": response.json["execution_id"],
        "status_url": url,
        "stream_url": f"{url}/stream",
        "cancel_url": url,
    }


def test_an_execution_is_followed_from_pending_to_its_output(upstream: Upstream) -> None:
    execution_id = upstream.start("support-chat", queue_seconds=10, seconds=10, output={"ünï": [1.0, "😀"]})
    assert upstream.status(execution_id)["status"] == "PENDING"
    upstream.set_speed(100)
    document = upstream.until_final(execution_id)
    assert (document["status"], document["progress"], document["completed_nodes"]) == ("COMPLETED", 100.0, 3)
    assert document["final_output"] == {"ünï": [1.0, "😀"]}
    assert document["created_at"] < document["started_at"] < document["completed_at"]


@pytest.mark.parametrize("queue_seconds", [600, 0])
@pytest.mark.parametrize(
    ("chatbot_id", "status"),
    [("support-chat", "COMPLETED"), ("endless", "COMPLETED"), ("always-fails", "FAILED")],
)
def test_finish_ends_a_job_immediately_with_its_outcome(
    upstream: Upstream, chatbot_id: str, status: str, queue_seconds: int
) -> None:
    execution_id = upstream.start(chatbot_id, queue_seconds=queue_seconds, seconds=600)
    body = json.dumps({"execution_id": execution_id}).encode()
    assert upstream.call("POST", "/_control/finish", body).json == {"finished": True}
    document = upstream.status(execution_id)
    assert document["status"] == status
    assert document["completed_at"] >= document["started_at"]
    assert upstream.call("POST", "/_control/finish", body).json == {"finished": False}


@pytest.mark.parametrize("queue_seconds", [60, 0])
def test_a_job_is_cancelled_once(upstream: Upstream, queue_seconds: int) -> None:
    execution_id = upstream.start("endless", queue_seconds=queue_seconds)
    previous = "PENDING" if queue_seconds else "RUNNING"
    for cancelled, before in ((True, previous), (False, "CANCELLED")):
        response = upstream.call("DELETE", f"/v1/executions/{execution_id}")
        assert response.status == 200
        assert response.json == {
            "execution_id": execution_id,
            "cancelled": cancelled,
            "message": response.json["message"],
            "previous_status": before,
        }
    assert upstream.status(execution_id)["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("chatbot_id", "status"),
    [("support-chat", "COMPLETED"), ("always-fails", "FAILED"), ("cancelled-upstream", "CANCELLED")],
)
def test_a_stream_has_the_events_of_the_job_and_ends_with_its_outcome(
    upstream: Upstream, chatbot_id: str, status: str
) -> None:
    upstream.set_speed(50)
    execution_id = upstream.start(chatbot_id, queue_seconds=5)
    response = upstream.call("GET", f"/v1/executions/{execution_id}/stream")
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, end = response.body.decode().split("\n\n")
    assert end == ""
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert {event["type"] for event in events[:-1]} == {"node_started", "node_completed", "progress_update"}
    assert events[-1] == {"type": "execution_completed", "status": status}
    assert upstream.status(execution_id)["status"] == status


def test_events_arrive_immediately_and_a_cancellation_ends_the_stream(upstream: Upstream) -> None:
    execution_id = upstream.start("endless", queue_seconds=0.5, seconds=600)
    with socket.create_connection((HOST, upstream.port), timeout=30) as connection:
        path = f"/v1/executions/{execution_id}/stream"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        received = b""
        while b"node_started" not in received:
            received += connection.recv(4096)
        assert upstream.call("DELETE", f"/v1/executions/{execution_id}").status == 200
        while not received.endswith(b"\r\n0\r\n\r\n"):  # the last chunk
            received += connection.recv(4096)
    assert b'"status":"CANCELLED"' in received


def test_answer_lost_creates_a_job_and_answers_504(upstream: Upstream) -> None:
    response = upstream.call("POST", "/v1/executions/answer-lost/async", start_body())
    assert (response.status, response.headers["content-type"]) == (504, "text/html; charset=utf-8")
    (start,) = upstream.requests()["starts"]
    assert (start["chatbot_id"], start["status_code"]) == ("answer-lost", 504)
    assert upstream.status(start["execution_id"])["status"] == "PENDING"


# Refusals

ROUTES = [
    ("POST", "/v1/executions/support-chat/async"),
    ("GET", f"/v1/executions/{UNKNOWN_ID}"),
    ("DELETE", f"/v1/executions/{UNKNOWN_ID}"),
    ("GET", f"/v1/executions/{UNKNOWN_ID}/stream"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wf-kéy"}])
def test_a_request_without_the_key_gets_401(
    upstream: Upstream, method: str, path: str, headers: dict[str, str]
) -> None:
    response = upstream.call(method, path, b"not even JSON" if method == "POST" else None, headers)
    assert response.status == 401
    assert_is_detail(response)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/executions/unpublished/async"), *ROUTES[1:]])
def test_an_unknown_execution_or_chatbot_gets_404(upstream: Upstream, method: str, path: str) -> None:
    response = upstream.call(method, path, start_body() if method == "POST" else None)
    assert response.status == 404
    assert_is_detail(response)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"input_data": {"query": "\xff"}}', 400),
        (b"{}", 422),
        (b'{"input_data": {"simulate": {"outcome": "DONE"}}}', 422),
        (b'{"input_data": {"q": "' + b"x" * MAX_BODY_BYTES + b'"}}', 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_invalid_body_is_refused(upstream: Upstream, body: bytes, status: int) -> None:
    response = upstream.call("POST", "/v1/executions/support-chat/async", body)
    assert response.status == status
    assert_is_detail(response)
    assert upstream.requests()["starts"] == []


# Control


def test_requests_are_counted_by_operation_and_status_code(upstream: Upstream) -> None:
    execution_id = upstream.start("endless")
    upstream.status(execution_id)
    upstream.status(execution_id)
    upstream.call("GET", f"/v1/executions/{execution_id}", headers={})
    upstream.call("DELETE", f"/v1/executions/{execution_id}")
    upstream.call("GET", f"/v1/executions/{execution_id}/stream")
    upstream.call("POST", "/v1/executions/unpublished/async", start_body())
    upstream.call("GET", "/elsewhere")
    seen = upstream.requests()
    assert seen["responses"] == {
        "start": {"202": 1, "404": 1},
        "status": {"200": 2, "401": 1},
        "cancel": {"200": 1},
        "stream": {"200": 1},
        "unknown": {"404": 1},
    }
    assert [(start["execution_id"], start["status_code"]) for start in seen["starts"]] == [
        (execution_id, 202)
    ]
    assert seen["starts"][0]["input_data"]["query"] == "What is Waterflai?"


def test_executions_are_listed_without_their_output(upstream: Upstream) -> None:
    ids = [upstream.start("instant"), upstream.start("always-fails")]
    listed = upstream.call("GET", "/_control/executions", headers={}).json["executions"]
    assert [each["execution_id"] for each in listed] == ids
    assert [each["chatbot_id"] for each in listed] == ["instant", "always-fails"]
    assert [each["status"] for each in listed] == ["COMPLETED", "PENDING"]
    assert not any("final_output" in each for each in listed)


def test_a_reset_deletes_executions_and_counts(upstream: Upstream) -> None:
    execution_id = upstream.start("endless")
    assert upstream.call("POST", "/_control/reset", headers={}).json == {"deleted": 1}
    assert upstream.requests()["starts"] == []
    assert upstream.call("GET", f"/v1/executions/{execution_id}").status == 404


# The command


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_writes_the_ready_file_and_ends_at_a_signal(
    tmp_path: Path, ending: signal.Signals
) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text('{"pid": "of an earlier run"}')
    command = [sys.executable, "-m", "local.simulator", "--port", "0", "--api-key", KEY]
    with subprocess.Popen(
        [*command, "--ready-file", str(ready_file)], stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            until(lambda: ready_file.exists() and str(child.pid) in ready_file.read_text(), 10, pause_s=0.02)
            ready = json.loads(ready_file.read_text())
            assert ready["pid"] == child.pid
            upstream = Upstream(urllib.parse.urlsplit(ready["base_url"]).port or 0)
            path = f"/v1/executions/{upstream.start('endless')}"
            with socket.create_connection((HOST, upstream.port), timeout=30) as stream:
                stream.sendall(f"GET {path}/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
                assert stream.recv(4096).startswith(b"HTTP/1.1 200")
                child.send_signal(ending)
                assert child.wait(60) == 0
        finally:
            child.kill()
        log = (child.stderr or pytest.fail("no log")).read()
    assert log.splitlines() == ["POST /v1/executions/endless/async 202", f"GET {path}/stream 200"]
    assert [file.name for file in tmp_path.iterdir()] == ["ready.json"]
