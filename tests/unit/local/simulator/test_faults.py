"""Each fault of the simulated Waterflai behaves as its row in the simulator's README describes."""

import contextlib
import email.utils
import http.client
import json
import logging
import math
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import pytest

from local.simulator.executions import FOREIGN_ID, FOREIGN_OUTPUT
from local.simulator.fault_rules import FAULT_TYPES, CallCounts, Operation, find_active_fault, parse_faults
from local.simulator.server import HOST
from tests.contract.markdown import table
from tests.contract.template import ROOT
from tests.support.waiting import until
from tests.unit.local.simulator.simulator_client import KEY, Response, Upstream, running, start_body

START = "/v1/executions/instant/async"
OTHER_SERVER = "http://other.example:8080"
OPERATIONS = ["start", "status", "cancel", "stream"]


class End(Enum):
    CLOSED = auto()
    RESET = auto()
    OPEN = auto()  # the connection is open, but no more bytes arrive


@dataclass(frozen=True, slots=True)
class Received:
    data: bytes
    end: End

    @property
    def chunks(self) -> list[bytes]:
        rest = self.data.partition(b"\r\n\r\n")[2]
        chunks = []
        while rest and not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            chunks.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return chunks

    @property
    def body(self) -> bytes:
        head, _, rest = self.data.partition(b"\r\n\r\n")
        return b"".join(self.chunks) if b"chunked" in head else rest


type Request = tuple[str, str, bytes]


def send(upstream: Upstream, request: Request, *, keep_alive: bool = False) -> socket.socket:
    method, path, body = request
    connection = socket.create_connection((HOST, upstream.port), timeout=30)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
    head += "" if keep_alive else "Connection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def read(connection: socket.socket, timeout_s: float = 30, max_bytes: int = 10**9) -> Received:
    """Read until the server closes or resets the connection, or sends nothing for `timeout_s`."""
    connection.settimeout(timeout_s)
    data = b""
    try:
        while len(data) < max_bytes and (piece := connection.recv(65_536)):
            data += piece
    except TimeoutError:
        return Received(data, End.OPEN)
    except ConnectionResetError:
        return Received(data, End.RESET)
    return Received(data, End.CLOSED)


def exchange(upstream: Upstream, request: Request, timeout_s: float = 30) -> Received:
    with send(upstream, request) as connection:
        return read(connection, timeout_s)


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream, caplog: pytest.LogCaptureFixture) -> Iterator[Upstream]:
    """Reset the server first. Afterwards, fail the test if the server logged an error of its own."""
    server.reset()
    yield server
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def on(operation: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"on": operation, "kind": kind, **fields}


def prepare(upstream: Upstream, operation: str, *faults: dict[str, Any], **simulate: Any) -> Request:
    """Return a request of this operation, for an execution that has these faults."""
    simulate = {"outcome": "ENDLESS", "queue_seconds": 0, "faults": list(faults), **simulate}
    if operation == "start":
        return "POST", START, start_body(**simulate)
    path = f"/v1/executions/{upstream.start('instant', **simulate)}"
    method = "DELETE" if operation == "cancel" else "GET"
    return method, f"{path}/stream" if operation == "stream" else path, b""


def row_id(value: Any) -> str | None:
    """Leave functions to pytest: their text contains an address, which differs between workers."""
    return None if callable(value) else str(value)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Parse a stream by https://html.spec.whatwg.org/#event-stream-interpretation."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    events, data = [], []
    for line in re.split(r"\r\n|\n|\r", text):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            events.append(json.loads("\n".join(data)))
            data = []
    return events


def types_of(received: Received) -> list[str]:
    return [event["type"] for event in events_of(received.body)]


# Connections


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("operation", ["start", "cancel"])
def test_a_reset_comes_before_or_after_the_request_is_processed(
    upstream: Upstream, operation: str, *, processed: bool
) -> None:
    request = prepare(upstream, operation, on(operation, "reset", processed=processed))
    assert exchange(upstream, request) == Received(b"", End.RESET)
    seen = upstream.requests()
    assert seen["responses"][operation] == {"unanswered": 1}
    (start,) = seen["starts"]
    if operation == "start":
        assert (start["fault"], start["status_code"]) == ("reset", None)
        assert (start["execution_id"] is not None) == processed
    else:
        assert (upstream.status(start["execution_id"])["status"] == "CANCELLED") == processed


def test_a_stall_delays_the_response(upstream: Upstream) -> None:
    began_s = time.monotonic()
    received = exchange(upstream, prepare(upstream, "status", on("status", "stall", seconds=0.2)))
    assert time.monotonic() - began_s >= 0.2
    assert (received.data[:12], received.end) == (b"HTTP/1.1 200", End.CLOSED)


@pytest.mark.parametrize("processed", [False, True])
def test_a_client_that_leaves_a_stalled_start_leaves_a_job_only_if_it_was_processed(
    upstream: Upstream, *, processed: bool
) -> None:
    request = prepare(upstream, "start", on("start", "stall", processed=processed))
    assert exchange(upstream, request, timeout_s=0.2) == Received(b"", End.OPEN)
    until(lambda: upstream.requests()["responses"]["start"] == {"unanswered": 1}, 5)
    executions = upstream.call("GET", "/_control/executions", headers={}).json["executions"]
    assert len(executions) == processed


def test_a_drip_sends_the_whole_body_slowly(upstream: Upstream) -> None:
    fault = on("status", "drip", chunk_bytes=100, pause_seconds=0.03)
    began_s = time.monotonic()
    received = exchange(upstream, prepare(upstream, "status", fault))
    assert time.monotonic() - began_s >= 0.03 * (len(received.body) // 100)
    assert json.loads(received.body)["status"] == "RUNNING"


def test_cut_off_sends_half_of_the_body_and_resets(upstream: Upstream) -> None:
    received = exchange(upstream, prepare(upstream, "status", on("status", "cut_off")))
    length = int(re.search(rb"content-length: (\d+)", received.data)[1])  # type: ignore[index]
    assert (len(received.body), received.end) == (length // 2, End.RESET)


@pytest.mark.parametrize("operation", ["status", "stream"])
def test_interim_responses_precede_the_real_response(upstream: Upstream, operation: str) -> None:
    fault = on(operation, "interim", codes=[102, 103])
    received = exchange(upstream, prepare(upstream, operation, fault, outcome="COMPLETED"))
    codes = re.findall(rb"^HTTP/1.1 (\d+)", received.data, re.MULTILINE)
    assert codes == [b"102", b"103", b"200"]
    assert received.data.count(b"\r\nLink: </>; rel=preconnect\r\n\r\n") == 2


@pytest.mark.parametrize(("reset", "end"), [(False, End.CLOSED), (True, End.RESET)])
def test_an_idle_connection_is_closed_although_keep_alive_was_promised(
    upstream: Upstream, end: End, *, reset: bool
) -> None:
    fault = on("status", "closes_idle", after_seconds=0.2, reset=reset)
    method, path, _ = prepare(upstream, "status", fault)
    connection = http.client.HTTPConnection(HOST, upstream.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"X-API-Key": KEY})
        response = connection.getresponse()
        assert response.getheader("keep-alive") == "timeout=75"
        assert json.loads(response.read())["status"] == "RUNNING"
        assert read(connection.sock) == Received(b"", end)


@pytest.mark.parametrize("operation", ["status", "cancel"])
def test_a_pipelined_document_follows_the_real_one_on_the_connection(
    upstream: Upstream, operation: str
) -> None:
    request = prepare(upstream, operation, on(operation, "pipelined_document", times=1))
    with send(upstream, request, keep_alive=True) as connection:
        data = b""
        until(lambda: upstream.requests()["responses"][operation] == {"200": 1}, 10)
        while FOREIGN_ID.encode() not in data or not data.endswith(b"}"):
            data += connection.recv(65_536)
    _, own, foreign = (part.partition(b"\r\n\r\n")[2] for part in data.split(b"HTTP/1.1 200"))
    assert json.loads(own)["execution_id"] == request[1].rpartition("/")[2]
    assert json.loads(foreign)["final_output"] == FOREIGN_OUTPUT


def test_a_reset_of_the_simulator_ends_a_stalled_response(upstream: Upstream) -> None:
    with send(upstream, prepare(upstream, "start", on("start", "stall", seconds=60))) as connection:
        until(lambda: upstream.requests()["received"]["start"] == 1, 5)
        upstream.reset()
        assert read(connection).end is End.RESET


# Content codings


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
def test_a_document_is_encoded(upstream: Upstream, encoding: str, window: int) -> None:
    response = upstream.call(*prepare(upstream, "status", on("status", "encoded", encoding=encoding)))
    assert response.headers["content-encoding"] == encoding
    assert json.loads(zlib.decompress(response.body, window))["execution_id"]


def test_each_event_of_an_encoded_stream_can_be_decoded_when_it_arrives(upstream: Upstream) -> None:
    received = follow(upstream, on("stream", "encoded", encoding="gzip"))
    decoder = zlib.decompressobj(31)
    pieces = [decoder.decompress(chunk) for chunk in received.chunks]
    assert [event["type"] for piece in pieces for event in events_of(piece)] == ALL_EVENTS


def test_a_body_with_the_encoding_br_cannot_be_decoded(upstream: Upstream) -> None:
    response = upstream.call(*prepare(upstream, "status", on("status", "encoded", encoding="br")))
    assert response.headers["content-encoding"] == "br"
    with pytest.raises(UnicodeDecodeError):
        response.body.decode()


@pytest.mark.parametrize("operation", ["status", "stream"])
def test_a_bomb_is_small_on_the_wire_and_large_when_decoded(upstream: Upstream, operation: str) -> None:
    fault = on(operation, "bomb", mib=3)
    response = upstream.call(*prepare(upstream, operation, fault, outcome="COMPLETED"))
    assert len(response.body) < 30_000
    body = zlib.decompress(response.body, 31)
    assert len(body) > 3 * 2**20
    last = events_of(body)[-1] if operation == "stream" else json.loads(body)
    assert last["status"] == "COMPLETED"


# Other responses


def is_html_page(response: Response) -> bool:
    return response.headers["content-type"].startswith("text/html") and b"<html>" in response.body


def seconds_until_retry(response: Response) -> float:
    moment = email.utils.parsedate_to_datetime(response.headers["retry-after"])
    return (moment - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize(
    ("fields", "is_as_described"),
    [
        ({"code": 401}, lambda response: response.json == {"detail": "Unauthorized"}),
        ({"code": 404, "detail": "gone"}, lambda response: response.json == {"detail": "gone"}),
        ({"code": 429, "retry_after": 2}, lambda response: response.headers["retry-after"] == "2"),
        ({"code": 503, "retry_after_date": 5}, lambda response: 4 < seconds_until_retry(response) <= 6),
        ({"code": 502, "html": True}, is_html_page),
        ({"code": 200, "body": '{"odd": 1}'}, lambda response: response.json == {"odd": 1}),
        ({"code": 204}, lambda response: response.body == b""),
    ],
    ids=row_id,
)
def test_a_status_code_replaces_the_response(
    upstream: Upstream, fields: dict[str, Any], is_as_described: Callable[[Response], bool]
) -> None:
    response = upstream.call(*prepare(upstream, "status", on("status", "status_code", **fields)))
    assert response.status == fields["code"]
    assert is_as_described(response), response


@pytest.mark.parametrize("processed", [False, True])
def test_a_start_with_an_error_status_was_processed_or_not(upstream: Upstream, *, processed: bool) -> None:
    fault = on("start", "status_code", code=520, html=True, processed=processed)
    received = exchange(upstream, prepare(upstream, "start", fault))
    assert received.data.startswith(b"HTTP/1.1 520 Web Server Returned an Unknown Error\r\n")
    (start,) = upstream.requests()["starts"]
    assert (start["status_code"], start["fault"]) == (520, "status_code")
    assert (start["execution_id"] is not None) == processed


def test_a_redirect_leads_to_the_same_path_on_the_other_server(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "redirect", to=OTHER_SERVER, code=307))
    response = upstream.call(method, path)
    assert (response.status, response.headers["location"]) == (307, OTHER_SERVER + path)


# Documents


def has_foreign_urls(accepted: dict[str, str]) -> bool:
    url = f"{OTHER_SERVER}/v1/executions/{accepted['execution_id']}"
    return list(accepted.values())[1:] == [url, f"{url}/stream", url]


@pytest.mark.parametrize(
    ("fault", "is_as_described"),
    [
        (on("status", "wrong_types"), lambda document: document["status"] == ["COMPLETED"]),
        (on("status", "wrong_types", fields=["progress"]), lambda document: document["progress"] == "many"),
        (on("status", "nulls"), lambda document: len(document) > 10 and set(document.values()) == {None}),
        (on("cancel", "missing", fields=["cancelled"]), lambda document: "cancelled" not in document),
        (on("status", "huge", mib=2), lambda document: len(document["final_output"]["padding"]) == 2**21),
        (on("start", "foreign_urls", to=OTHER_SERVER), has_foreign_urls),
        (on("status", "unknown_status"), lambda document: document["status"] == "ARCHIVING"),
        (on("status", "no_output"), lambda document: "final_output" not in document),
        (
            on("status", "invalid_output"),
            lambda document: math.isnan(document["final_output"]["invalid"]),
        ),
        (on("status", "echo_key"), lambda document: document["final_output"]["echo"] == KEY),
        (on("status", "echo_key", form="escaped"), lambda document: document["execution_source"] == KEY),
    ],
    ids=row_id,
)
def test_a_document_breaks_the_contract(
    upstream: Upstream, fault: dict[str, Any], is_as_described: Callable[[Any], bool]
) -> None:
    request = prepare(upstream, fault["on"], fault, outcome="COMPLETED", output={"answer": 1})
    response = upstream.call(*request)
    assert response.status == (202 if fault["on"] == "start" else 200)
    assert is_as_described(response.json), response.json


def test_an_invalid_output_can_have_a_byte_that_is_not_utf_8(upstream: Upstream) -> None:
    fault = on("status", "invalid_output", how="bad_byte")
    response = upstream.call(*prepare(upstream, "status", fault, outcome="COMPLETED"))
    with pytest.raises(UnicodeDecodeError):
        response.body.decode()


def test_a_truncated_document_has_the_length_of_its_half(upstream: Upstream) -> None:
    response = upstream.call(*prepare(upstream, "status", on("status", "truncated")))
    assert int(response.headers["content-length"]) == len(response.body) > 0
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        assert response.json


def test_progress_goes_back_until_the_job_ends(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "progress_back"))
    documents = [upstream.call(method, path).json for _ in range(2)]
    assert [(each["progress"], each["retry_count"]) for each in documents] == [(90.0, 0), (80.0, 1)]
    upstream.call("DELETE", path)
    assert upstream.call(method, path).json["retry_count"] == 0


def test_cleanup_soon_deletes_the_execution_when_its_cleanup_is_due(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "cleanup_soon", seconds=0.3))
    due = datetime.fromisoformat(upstream.call(method, path).json["cleanup_after"])
    until(lambda: upstream.call(method, path).status == 404, 10)
    assert datetime.now(UTC) >= due


def test_a_status_with_lag_is_out_of_date_and_a_cancel_is_not(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "lag", seconds=0.6))
    began_s = time.monotonic()
    upstream.call("DELETE", path)
    assert upstream.call("DELETE", path).json["previous_status"] == "CANCELLED"
    until(lambda: upstream.call(method, path).json["status"] == "CANCELLED", 10)
    assert time.monotonic() - began_s >= 0.6


@pytest.mark.parametrize("operation", ["status", "stream"])
def test_a_young_job_is_not_found(upstream: Upstream, operation: str) -> None:
    began_s = time.monotonic()
    fault = on(operation, "not_found_for", seconds=0.4)
    request = prepare(upstream, operation, fault, outcome="COMPLETED")
    until(lambda: upstream.call(*request).status == 200, 10)
    assert time.monotonic() - began_s >= 0.4


def test_slow_down_sends_retry_after_until_the_job_ends(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "slow_down", retry_after=3))
    response = upstream.call(method, path)
    assert (response.json["status"], response.headers["retry-after"]) == ("RUNNING", "3")
    upstream.call("DELETE", path)
    assert "retry-after" not in upstream.call(method, path).headers


def test_the_progress_of_a_running_job_is_tiny(upstream: Upstream) -> None:
    method, path, _ = prepare(upstream, "status", on("status", "tiny_progress"))
    assert upstream.call(method, path).json["progress"] == 1e-200
    upstream.call("DELETE", path)
    assert upstream.call(method, path).json["progress"] != 1e-200


@pytest.mark.parametrize("code", [200, 204])
def test_an_empty_answer_cancels_the_job(upstream: Upstream, code: int) -> None:
    method, path, _ = prepare(upstream, "cancel", on("cancel", "empty_answer", code=code))
    response = upstream.call(method, path)
    assert (response.status, response.body) == (code, b"")
    assert upstream.status(path.rpartition("/")[2])["status"] == "CANCELLED"


@pytest.mark.parametrize("operation", ["status", "cancel"])
def test_a_foreign_document_replaces_the_response_but_the_request_is_processed(
    upstream: Upstream, operation: str
) -> None:
    method, path, _ = prepare(upstream, operation, on(operation, "foreign_document", times=1))
    foreign = upstream.call(method, path).json
    own = upstream.status(path.rpartition("/")[2])
    assert own["status"] == ("CANCELLED" if operation == "cancel" else "RUNNING")
    assert (foreign["execution_id"], foreign["status"]) == (FOREIGN_ID, "COMPLETED")
    assert foreign["final_output"] == FOREIGN_OUTPUT
    assert foreign.keys() == own.keys() | {"final_output"}


# Streams

ALL_EVENTS = ["node_started", "node_completed", "execution_completed"]


def follow(
    upstream: Upstream,
    *faults: dict[str, Any],
    end: End = End.CLOSED,
    max_bytes: int = 10**9,
    seconds: float = 0.5,
) -> Received:
    """Follow a job that starts only once its stream is open. Read until the expected end."""
    request = prepare(upstream, "stream", *faults, outcome="COMPLETED", queue_seconds=20, seconds=seconds)
    with send(upstream, request) as connection:
        until(lambda: upstream.requests()["received"]["stream"] == 1, 10)
        upstream.set_speed(50)
        if end is End.OPEN:
            upstream.until_final(request[1].split("/")[3])
        return read(connection, 0.3 if end is End.OPEN else 30, max_bytes)


@pytest.mark.parametrize(
    ("kind", "fields", "event_types", "end"),
    [
        ("ends", {"after_events": 1}, ALL_EVENTS[:1], End.CLOSED),
        ("ends", {"after_events": 2, "reset": True}, ALL_EVENTS[:2], End.RESET),
        ("falls_silent", {"after_events": 1}, ALL_EVENTS[:1], End.OPEN),
        ("false_end", {}, ["execution_completed", *ALL_EVENTS], End.CLOSED),
        ("false_end", {"closes": True}, ["execution_completed"], End.CLOSED),
        ("no_end", {}, ALL_EVENTS[:2], End.OPEN),
        ("no_end", {"closes": True}, ALL_EVENTS[:2], End.CLOSED),
        ("buffered", {"released": False}, [], End.OPEN),
        ("buffered", {"head": False}, ALL_EVENTS, End.CLOSED),
    ],
    ids=str,
)
def test_a_stream_ends_as_its_fault_describes(
    upstream: Upstream, kind: str, fields: dict[str, Any], event_types: list[str], end: End
) -> None:
    received = follow(upstream, on("stream", kind, **fields), end=end)
    assert (types_of(received), received.end) == (event_types, end)
    assert received.data.startswith(b"HTTP/1.1 200")


def test_a_stream_ends_after_some_seconds(upstream: Upstream) -> None:
    received = follow(upstream, on("stream", "ends", after_seconds=0.8), seconds=500)
    assert (set(types_of(received)) - {"progress_update"}, received.end) == ({"node_started"}, End.CLOSED)


@pytest.mark.parametrize(("newline", "line_end"), [("lf", b"\n"), ("crlf", b"\r\n"), ("cr", b"\r")])
def test_the_format_of_a_stream_is_unusual_but_valid(
    upstream: Upstream, newline: str, line_end: bytes
) -> None:
    options = {"bom": True, "comments": True, "multiline": True, "event_fields": True}
    received = follow(upstream, on("stream", "format", newline=newline, chunk_bytes=1, **options))
    assert types_of(received) == ALL_EVENTS
    assert {len(chunk) for chunk in received.chunks} == {1}
    assert received.body.startswith(b"\xef\xbb\xbf: ping")
    assert set(re.findall(rb"\r\n|\n|\r", received.body)) == {line_end}


def test_junk_comes_before_each_event(upstream: Upstream) -> None:
    body = follow(upstream, on("stream", "junk")).body
    assert body.count(b"data: not JSON\n\n") == body.count(b"data:\n\n") == len(ALL_EVENTS)
    for event in ALL_EVENTS:
        assert f'\n\ndata: {{"type":"{event}"'.encode() in body


@pytest.mark.parametrize(
    ("as_events", "heartbeat"), [(False, b": ping\n\n"), (True, b"event: ping\ndata: {}\n\n")]
)
def test_a_stream_has_heartbeats_but_no_event(
    upstream: Upstream, heartbeat: bytes, *, as_events: bool
) -> None:
    fault = on("stream", "heartbeats", every_seconds=0.1, as_events=as_events, closes=True)
    assert set(follow(upstream, fault).chunks) == {heartbeat}


def test_progress_events_go_on_after_the_end_of_the_job(upstream: Upstream) -> None:
    received = follow(upstream, on("stream", "events_go_on", every_seconds=0.02), max_bytes=3_000)
    events = events_of(received.body.rpartition(b"\n\n")[0] + b"\n\n")
    assert {event["type"] for event in events} == {"progress_update"}
    assert [event["progress"] for event in events[-10:]] == [100.0] * 10


def test_replays_sends_the_past_events_to_each_connection(upstream: Upstream) -> None:
    request = prepare(upstream, "stream", on("stream", "replays"), outcome="COMPLETED", seconds=0.1)
    assert [types_of(exchange(upstream, request)) for _ in range(2)] == [ALL_EVENTS, ALL_EVENTS]


def test_a_comment_and_an_unknown_field_are_long(upstream: Upstream) -> None:
    body = follow(upstream, on("stream", "long_comment", kib=256)).body
    comment, field, data = body.split(b"\n", 2)
    assert comment == b": " + b"x" * 256 * 1024
    assert field == b"unknown: " + b"x" * 256 * 1024
    assert data.startswith(b'data: {"type":"node_started"')


def test_the_progress_events_of_a_stream_are_tiny(upstream: Upstream) -> None:
    received = follow(upstream, on("stream", "tiny_progress"), seconds=10)
    progress = {each["progress"] for each in events_of(received.body) if each["type"] == "progress_update"}
    assert progress == {1e-200}


def test_a_flood_does_not_delay_other_requests(upstream: Upstream) -> None:
    request = prepare(upstream, "stream", on("stream", "flood", per_second=50_000))
    with send(upstream, request) as connection:
        received = read(connection, max_bytes=300_000)
        assert upstream.status(upstream.start("instant"))["status"] == "COMPLETED"
    assert set(types_of(received)) == {"progress_update"}


def test_a_flood_can_be_an_endless_line(upstream: Upstream) -> None:
    request = prepare(upstream, "stream", on("stream", "flood", endless_line=True))
    with send(upstream, request) as connection:
        assert b"\n" not in read(connection, max_bytes=300_000).body


# The calls that a fault acts on


@pytest.mark.parametrize(
    ("window", "acts"),
    [
        ({}, "xxxxxx"),
        ({"after": 1, "times": 3}, ".xxx.."),
        ({"when": "running", "times": 1}, "x....."),
        ({"when": "final", "after": 1, "times": 1}, "....x."),
    ],
    ids=str,
)
def test_a_fault_acts_on_the_calls_in_its_window(window: dict[str, Any], acts: str) -> None:
    faults = parse_faults("faults", [on("status", "reset", **window)])
    calls = [CallCounts(running=min(n, 3), final=max(n - 3, 0), is_final=n > 3) for n in range(1, 7)]
    active = ["x" if find_active_fault(faults, Operation.STATUS, each) else "." for each in calls]
    assert "".join(active) == acts
    assert not any(find_active_fault(faults, Operation.CANCEL, each) for each in calls)


def test_calls_are_counted_separately_for_each_execution(upstream: Upstream) -> None:
    fault = on("status", "status_code", code=503, times=1)
    one, other = (prepare(upstream, "status", fault) for _ in range(2))
    assert [upstream.call(*request).status for request in (one, other, one, other)] == [503, 503, 200, 200]


def test_a_repeated_start_is_recognized_by_its_input(upstream: Upstream) -> None:
    request = prepare(upstream, "start", on("start", "reset", times=2))
    assert [exchange(upstream, request).end for _ in range(3)] == [End.RESET, End.RESET, End.CLOSED]
    ids = [start["execution_id"] for start in upstream.requests()["starts"]]
    assert (ids[:2], ids[2] is None) == ([None, None], False)


def set_global_faults(upstream: Upstream, *faults: dict[str, Any]) -> Response:
    return upstream.call("POST", "/_control/faults", json.dumps({"faults": faults}).encode(), headers={})


def test_a_fault_for_all_executions_acts_after_their_own_and_until_it_is_cleared(upstream: Upstream) -> None:
    fault = on("status", "status_code", code=503, times=1)
    assert set_global_faults(upstream, fault).json == {"faults": 1}
    plain = prepare(upstream, "status")
    own = prepare(upstream, "status", on("status", "status_code", code=401, times=1))
    for request, codes in ((plain, [503, 200]), (own, [401, 200])):
        assert [upstream.call(*request).status for _ in codes] == codes
    set_global_faults(upstream, fault)
    set_global_faults(upstream)
    assert upstream.call(*plain).status == 200


# The key


def test_a_rotated_key_is_refused(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    path = f"/v1/executions/{upstream.start('instant')}"
    with caplog.at_level(logging.INFO):
        rotated = upstream.call("POST", "/_control/key", b'{"api_key": "wf-new"}', headers={})
    assert (rotated.status, rotated.json) == (200, {"rotated": True})
    assert "wf-new" not in caplog.text
    assert upstream.call("GET", path).status == 401
    assert upstream.call("GET", path, headers={"X-API-Key": "wf-new"}).status == 200


# Descriptions of faults


@pytest.mark.parametrize(
    ("faults", "detail"),
    [
        ({}, ": expected list, got object"),
        ([on("poll", "reset")], "[0].on: expected one of"),
        ([on("stream", "huge")], "[0].kind: expected one of"),
        ([on("status", "reset", seconds=1)], "[0]: no such field: seconds. Expected any of on, kind, times"),
        ([on("status", "status_code")], "[0].code: missing, and this kind requires it"),
        ([on("status", "stall", seconds="1")], "[0].seconds: expected number, got string"),
        ([on("start", "stall", when="final")], "[0].when: not allowed for `start`"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_invalid_fault_is_refused(upstream: Upstream, faults: Any, detail: str) -> None:
    response = upstream.call("POST", START, start_body(faults=faults))
    assert response.status == 422
    assert response.json["detail"].startswith(f"input_data.simulate.faults{detail}")
    assert upstream.requests()["starts"] == []


def test_each_kind_is_documented() -> None:
    document = (ROOT / "local" / "simulator" / "README.md").read_text(encoding="utf-8")
    documented = {row[0]: row[1] for row in table(document, "kind")}
    kinds = {kind for kinds in FAULT_TYPES.values() for kind in kinds}
    operations = {kind: [each.value for each in FAULT_TYPES if kind in FAULT_TYPES[each]] for kind in kinds}
    assert documented == {
        kind: "any" if names == OPERATIONS else ", ".join(names) for kind, names in operations.items()
    }
