"""HTTP details of the client: interim responses, extra bytes, encodings, closed connections and time limits."""

import contextlib
import gzip
import json
import socket
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.api_key import FakeKey
from tests.fakes.scripted_server import (
    HangUpError,
    ScriptedServer,
    Step,
    drip,
    hang_up,
    pause,
    raw,
    repeat,
    reply,
    reset,
    sequence,
    stall,
)
from tests.support.builders import KEY, UPSTREAM_ID
from waterhook.deadline_connection import MAX_INTERIM_ANSWERS
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.upstream import client as client_module
from waterhook.upstream import transport
from waterhook.upstream.client import CancelResult, WaterflaiClient

STARTED = reply(202, {"execution_id": UPSTREAM_ID})
RUNNING = reply(200, {"status": "RUNNING"})
CANCELLED = reply(200, {"cancelled": True})
EVENTS = b'data: {"type": "execution_completed"}\n\n'


def error_of(call: Callable[[], object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        call()
    return caught.value


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK", length: bool = True) -> bytes:
    """Return the bytes of a response."""
    lines = [b"HTTP/1.1 " + status, *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def document(execution_id: str, **fields: Any) -> bytes:
    return json.dumps({"execution_id": execution_id, "status": "RUNNING"} | fields).encode()


def paused(*pieces: bytes) -> Step:
    """Send each piece in its own packet, and leave the connection open."""
    return sequence(*(part for piece in pieces for part in (piece, pause(0.05))), close=False)


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set timeouts that a test can wait for."""
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "CALL_BUDGET_S", 0.6)


# Interim responses

INTERIM = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nContent-Length: 5\r\n\r\n",
    "199": b"HTTP/1.1 199 Whatever\r\n\r\n",
}
INTERIM["several"] = b"".join(INTERIM.values()) * 4


@pytest.mark.parametrize("interim", INTERIM.values(), ids=INTERIM)
def test_interim_responses_are_skipped_in_every_operation(interim: bytes) -> None:
    running = {"status": "RUNNING", "progress": 7.0}
    answers = [{"execution_id": UPSTREAM_ID}, running, {"cancelled": True}, running]
    steps = [raw(interim + answer(json.dumps(body).encode()), close=False) for body in answers]
    with ScriptedServer(steps) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.start("c", {}) == UPSTREAM_ID
        assert upstream.status("e").progress == 7.0
        assert upstream.cancel("e").cancelled is True
        upstream.status("e")
    # Start and cancel use new connections, and the status requests share one.
    assert [request.connection for request in server.requests] == [1, 2, 3, 2]


def test_an_interim_response_in_an_earlier_packet_is_skipped() -> None:
    with ScriptedServer(
        [paused(INTERIM["102"], INTERIM["103"][:20], INTERIM["103"][20:], answer(b"{}"))]
    ) as server:
        assert WaterflaiClient(server.url, FakeKey()).status("e").status is None


def test_the_response_after_an_interim_one_is_not_read_by_the_next_request() -> None:
    """Otherwise the final response to the first request would answer the second one."""
    delayed = paused(INTERIM["103"], answer(document("job-1", progress=1.0)))

    with ScriptedServer([delayed, raw(answer(document("job-2", progress=2.0)), close=False)]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("job-1").progress == 1.0
        assert upstream.status("job-2").progress == 2.0


@pytest.mark.parametrize(
    "flood", [INTERIM["103"] * (MAX_INTERIM_ANSWERS + 1), INTERIM["100"] * 10_000], ids=["103", "100"]
)
def test_too_many_interim_responses_are_no_answer(flood: bytes) -> None:
    with ScriptedServer([raw(flood + answer(b"{}"))]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")


@pytest.mark.parametrize(
    "status", [b"101 Switching Protocols", b"101 Switching Protocols\r\nUpgrade: websocket"]
)
def test_a_switch_of_protocols_is_unusable_and_closes_the_connection(status: bytes) -> None:
    switched = answer(b"", status=status, length=False)
    with ScriptedServer([raw(switched, close=False), RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        error = error_of(lambda: upstream.status("e"))
        assert (type(error), error.code, error.status) == (PerhapsAcceptedError, "unusable_answer", 101)
        assert upstream.status("e").status == "RUNNING"
    assert server.connections == 2


def test_headers_beyond_the_limit_are_no_answer() -> None:
    """http.client would accept a hundred headers of 64 KiB each."""
    head = b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 60_000 + b"\r\n") * 50 + b"Content-Length: 2\r\n\r\n{}"
    with ScriptedServer([raw(head)]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")


def test_endless_trailers_are_not_read() -> None:
    last_chunk = answer(b"0\r\n", b"Transfer-Encoding: chunked", length=False)
    endless = sequence(last_chunk, repeat(b"X: y\r\n" * 10_000))
    with ScriptedServer([endless]) as server:
        began = time.monotonic()
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).cancel("e"))
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")
    assert time.monotonic() - began < client_module.CALL_BUDGET_S / 2


# Extra bytes after a response

FORGED = answer(document("job-2", status="COMPLETED", final_output={"of": "another"}))
OWN = document("job-1")
EXTRA_BYTES: dict[str, tuple[Step, bool]] = {
    "a second answer in the same packet": (raw(answer(OWN) + FORGED, close=False), True),
    "a second answer after it": (paused(answer(OWN), FORGED), True),
    "bytes after the length": (raw(answer(OWN) + b"\r\n", close=False), True),
    "bytes after the last chunk": (
        raw(
            answer(
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(OWN), OWN) + FORGED,
                b"Transfer-Encoding: chunked",
                length=False,
            ),
            close=False,
        ),
        True,
    ),
    "more than is read ahead": (raw(answer(OWN) + b" " * 9_000 + FORGED, close=False), True),
    "a second answer at the end of what is read ahead": (
        raw(answer(OWN) + b" " * (8192 - len(answer(OWN))) + FORGED, close=False),
        True,
    ),
    "a body of a response without a body": (
        raw(answer(FORGED, status=b"304 Not Modified"), close=False),
        False,
    ),
    "a length and chunks": (
        raw(answer(b"%x\r\n%s\r\n0\r\n\r\n" % (len(OWN), OWN), b"Transfer-Encoding: chunked"), close=False),
        True,
    ),
    "two equal lengths": (raw(answer(OWN, b"Content-Length: %d" % len(OWN)), close=False), True),
    "an unknown transfer encoding": (
        raw(answer(OWN, b"Transfer-Encoding: gzip, chunked"), close=False),
        False,
    ),
    "a length with an underscore": (
        raw(answer(b"{}" + b" " * 8, b"Content-Length: 1_0"), close=False),
        False,
    ),
    "a length with a sign": (
        raw(answer(b"{}", b"Content-Length: +2", length=False), close=False),
        False,
    ),
    "a close in a second header": (
        raw(answer(OWN, b"Connection: keep-alive", b"Connection: close"), close=False),
        True,
    ),
    "broken gzip": (raw(answer(OWN, b"Content-Encoding: gzip"), close=False), False),
    "not JSON": (raw(answer(b"<html>"), close=False), False),
    "a foreign document": (raw(answer(document("job-2")), close=False), False),
    "a capped error": (raw(answer(b" " * 100_000, status=b"500 Oops"), close=False), False),
}


@pytest.mark.parametrize(("step", "is_usable"), EXTRA_BYTES.values(), ids=EXTRA_BYTES)
def test_a_connection_with_extra_bytes_is_not_reused(step: Step, *, is_usable: bool) -> None:
    with ScriptedServer([step, raw(answer(document("job-3", progress=3.0)), close=False)]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        if is_usable:
            assert upstream.status("job-1").status == "RUNNING"
        else:
            error_of(lambda: upstream.status("job-1"))
        time.sleep(0.1)  # wait for the extra bytes
        assert upstream.status("job-3").progress == 3.0
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_late_response_to_another_request_is_unusable() -> None:
    """The connection does not show that the response belongs to an earlier request."""

    def late(connection: socket.socket) -> None:
        connection.sendall(answer(OWN))
        connection.settimeout(10)
        connection.recv(1, socket.MSG_PEEK)  # wait for the next request
        connection.sendall(FORGED)

    with ScriptedServer([late, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("job-1").status == "RUNNING"
        assert error_of(lambda: upstream.status("job-3")).code == "unusable_answer"


@pytest.mark.parametrize("size_bytes", [8_192, 8_000])
def test_extra_bytes_in_the_tls_buffer_are_not_read_as_the_next_response(
    trusted_tls: ssl.SSLContext, size_bytes: int
) -> None:
    """The bytes are in the same TLS record, so the socket is not readable. The next request would read them."""
    padding = size_bytes - len(answer(OWN, b"X-Padding: "))
    own = answer(OWN, b"X-Padding: " + b"x" * padding)
    between = b" " * (8_192 - size_bytes)  # a response is read in pieces of 8 KiB
    forged = answer(document("job-3", progress=99.0))
    steps = [
        raw(own + between + forged, close=False),
        raw(answer(document("job-3", progress=3.0)), close=False),
    ]
    with ScriptedServer(steps, context=trusted_tls) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("job-1").status == "RUNNING"
        assert upstream.status("job-3").progress == 3.0
    assert server.connections == 2


def test_a_connection_is_not_reused_after_a_status_above_the_limit() -> None:
    large = answer(document("job-1", final_output={"x": "y" * 5_000}))
    with ScriptedServer([raw(large, close=False), RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("job-1", limit_bytes=1_000).too_large
        assert upstream.status("job-1").status == "RUNNING"
    assert server.connections == 2


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"500 Oops", b"429 Too Many Requests"])
def test_a_connection_is_reused_after_a_complete_response(status: bytes) -> None:
    chunks = answer(
        b"2\r\n{}\r\n0\r\nX: y\r\n\r\n", b"Transfer-Encoding: chunked", status=status, length=False
    )
    steps = [raw(answer(b"{}", status=status), close=False), raw(chunks, close=False), RUNNING]
    with ScriptedServer(steps) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for _ in range(2):
            with contextlib.suppress(UpstreamError):
                upstream.status("e")
        assert upstream.status("e").status == "RUNNING"
    assert server.connections == 1


# Documents of another execution

FOREIGN = [{"execution_id": "another"}, {"execution_id": ""}, {"execution_id": ["e"]}, {"execution_id": 5}]


@pytest.mark.parametrize("fields", FOREIGN, ids=str)
def test_the_document_of_another_execution_is_unusable(fields: dict[str, Any]) -> None:
    body = {"status": "COMPLETED", "cancelled": True, "final_output": {}} | fields
    with ScriptedServer([reply(200, body), reply(200, body), RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for call in (upstream.status, upstream.cancel):
            error = error_of(lambda call=call: call("e"))  # type: ignore[misc]  # bound in the loop
            assert (type(error), error.code) == (PerhapsAcceptedError, "unusable_answer")
            assert error.message == "HTTP 200, but the document belongs to another execution"
        assert upstream.status("e").status == "RUNNING"
    assert server.connections == 3


@pytest.mark.parametrize(
    "fields", [{"execution_id": "5"}, {"execution_id": 5}, {"execution_id": None}, {}], ids=str
)
def test_a_document_that_names_its_execution_or_none_is_used(fields: dict[str, Any]) -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING", "cancelled": True} | fields)]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("5").status == "RUNNING"
        assert upstream.cancel("5").cancelled is True


def test_a_large_document_of_another_execution_is_unusable() -> None:
    body = document("another", status="COMPLETED", final_output={"x": "y" * 5_000})
    with ScriptedServer([reply(200, body)]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e", limit_bytes=1_000))
    assert error.code == "unusable_answer"


# Encodings


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


ENCODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "in capitals": ("GZip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without its wrapper": ("deflate", deflated),
    "twice": ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    "identity": ("identity", bytes),
    "nothing": ("", bytes),
}


@pytest.mark.parametrize(("name", "encode"), ENCODED.values(), ids=ENCODED)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_compressed_response_is_decoded_though_none_was_requested(
    name: str, encode: Callable[[bytes], bytes], *, in_chunks: bool
) -> None:
    def encoded(body: dict[str, Any]) -> Step:
        content = encode(json.dumps(body).encode())
        headers = [b"Content-Encoding: " + name.encode()]
        if in_chunks:
            headers.append(b"Transfer-Encoding: chunked")
            content = b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
        return raw(answer(content, *headers, length=not in_chunks), close=False)

    documents: list[dict[str, Any]] = [
        {"execution_id": UPSTREAM_ID},
        {"status": "RUNNING", "progress": 7.0},
        {"cancelled": True},
        {"status": "RUNNING"},
    ]
    with ScriptedServer([encoded(body) for body in documents]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.start("c", {}) == UPSTREAM_ID
        assert upstream.status("e").progress == 7.0
        assert upstream.cancel("e").cancelled is True
        upstream.status("e")
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert [request.connection for request in server.requests] == [1, 2, 3, 2]


@pytest.mark.parametrize("name", ["br", "gzip, br", "x" * 500])
def test_an_unknown_encoding_is_named_in_the_error(name: str) -> None:
    with ScriptedServer([reply(200, b'{"status":"RUNNING"}', {"Content-Encoding": name})]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert (type(error), error.code) == (PerhapsAcceptedError, "unusable_answer")
    assert f"encoding {name[:30]}" in error.message
    assert len(error.message) < 150


@pytest.mark.parametrize("name", ["gzip", "br"])
def test_the_status_of_an_error_is_used_if_its_body_cannot_be_decoded(name: str) -> None:
    with ScriptedServer([reply(429, b"not gzip", {"Content-Encoding": name, "Retry-After": "7"})]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).start("c", {}))
    assert (type(error), error.status, error.retry_after_s) == (UpstreamUnavailableError, 429, 7)


def test_the_detail_of_a_compressed_error_is_reported_without_the_key() -> None:
    body = gzip.compress(json.dumps({"detail": f"no such thing, {KEY}"}).encode())
    with ScriptedServer([reply(404, body, {"Content-Encoding": "gzip"})]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert error.message == "HTTP 404: no such thing, ***"


def test_the_limit_of_a_status_counts_decoded_bytes() -> None:
    body = gzip.compress(document("e", status="COMPLETED", final_output={"x": "y" * 5_000}))
    with ScriptedServer([reply(200, body, {"Content-Encoding": "gzip"})]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("e", limit_bytes=1_000).too_large
        assert not upstream.status("e", limit_bytes=10_000).too_large


BOMB = """
import sys, time, tracemalloc
from tests.fakes.api_key import FakeKey
from waterhook.upstream.client import WaterflaiClient
from waterhook.errors import UpstreamError

upstream = WaterflaiClient(sys.argv[1], FakeKey())
tracemalloc.start()
try:
    if sys.argv[2] == "stream":
        stream = upstream.open_stream("e", ends_at=time.monotonic() + 60, idle_timeout_s=60)
        print(stream.next(60).error.message.removeprefix("HTTP 200, but "))
        stream.close()
    elif sys.argv[2] == "status":
        print(upstream.status("e", limit_bytes=256 * 1024).too_large)
    else:
        upstream.cancel("e")
except UpstreamError as error:
    print(error.code)
print(tracemalloc.get_traced_memory()[1])
"""


def run(script: str, *args: str) -> list[str]:
    """Run a script in a process of its own and return the lines it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Return 50 MB of spaces, compressed to 50 KB."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return b"".join([*(packer.compress(b" " * 1_000_000) for _ in range(50)), packer.flush()])


@pytest.mark.parametrize(
    ("operation", "encoding"),
    [("status", "gzip"), ("cancel", "gzip"), ("stream", "gzip"), ("status", "gzip, gzip")],
)
def test_a_compression_bomb_is_decoded_only_up_to_the_limit(
    bomb: bytes, operation: str, encoding: str
) -> None:
    content = gzip.compress(bomb) if "," in encoding else bomb
    headers = [b"Content-Type: text/event-stream", b"Content-Encoding: " + encoding.encode()]
    with ScriptedServer([raw(answer(content, *headers))]) as server:
        outcome, peak_bytes = run(BOMB, server.url, operation)
    stream = "the stream has more than 8388608 bytes"
    assert outcome == {"status": "True", "cancel": "unusable_answer", "stream": stream}[operation]
    assert int(peak_bytes) < 4_000_000


# A reused connection that was closed


@pytest.mark.parametrize("closed", [hang_up, reset], ids=["hung up", "reset"])
def test_a_status_request_on_a_reused_connection_that_was_closed_is_repeated_once(closed: Step) -> None:
    with ScriptedServer([RUNNING, closed, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        upstream.status("e")
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_cancel_is_sent_once_on_a_new_connection() -> None:
    """The response to a repeated cancel would not show whether the first one cancelled the job."""
    with ScriptedServer([RUNNING, hang_up, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        error = error_of(lambda: upstream.cancel("e"))
        upstream.status("e")
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")
    assert [(request.method, request.connection) for request in server.requests] == [
        ("GET", 1),
        ("DELETE", 2),
        ("GET", 1),
    ]


def test_a_repeated_request_is_not_repeated_again() -> None:
    with ScriptedServer([RUNNING, hang_up]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        error = error_of(lambda: upstream.status("e"))
    assert (type(error), error.code, error.status) == (PerhapsAcceptedError, "no_answer", None)
    assert len(server.requests) == 3


def test_a_408_on_a_reused_connection_is_repeated() -> None:
    idle = reply(408, "<html>", {"Connection": "close"}, close=True)
    with ScriptedServer([RUNNING, idle, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        upstream.status("e")
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_408_on_a_new_connection_may_have_been_carried_out() -> None:
    with ScriptedServer([reply(408, "<html>", {"Connection": "close"}, close=True)]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).cancel("e"))
    assert (type(error), error.status, len(server.requests)) == (PerhapsAcceptedError, 408, 1)


def test_a_connection_that_was_idle_for_long_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway may drop it without a notice. A request would then wait for the whole read timeout."""
    monkeypatch.setattr(transport, "MAX_IDLE_S", 0.5)
    with ScriptedServer([RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for pause_s in (0.0, 0.7, 0.0):
            upstream.status("e")
            time.sleep(pause_s)
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_nothing_is_repeated_on_a_new_connection() -> None:
    with ScriptedServer([hang_up]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for call in (upstream.status, upstream.cancel, lambda id_: upstream.start(id_, {})):
            error_of(lambda call=call: call("e"))  # type: ignore[misc]  # bound in the loop
    assert len(server.requests) == 3


def test_a_start_is_never_repeated() -> None:
    with ScriptedServer([RUNNING, hang_up, STARTED]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        assert type(error_of(lambda: upstream.start("c", {}))) is PerhapsAcceptedError
    assert [request.method for request in server.requests] == ["GET", "POST"]


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    "broken",
    [stall(), raw(b"H"), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")],
    ids=["silent", "a byte", "half a body"],
)
def test_a_request_is_not_repeated_after_silence_or_part_of_a_response(broken: Step) -> None:
    with ScriptedServer([RUNNING, broken, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        assert error_of(lambda: upstream.status("e")).code == "no_answer"
    assert len(server.requests) == 2


# The time limit of a call


class SlowKey(FakeKey):
    """A key whose refresh takes 0.4 s."""

    def refresh(self) -> bool:
        time.sleep(0.4)
        return super().refresh()


def test_no_attempt_begins_after_the_time_limit() -> None:
    with ScriptedServer([reply(401, {"detail": "no"}), stall(20)]) as server:
        upstream = WaterflaiClient(server.url, SlowKey("old", "new"), budget_s=0.3)
        began = time.monotonic()
        error = error_of(lambda: upstream.start("c", {}))
        took_s = time.monotonic() - began
    # The start was refused with 401. Another call can use the new key.
    assert (type(error), error.status) == (UpstreamUnavailableError, 401)
    assert len(server.requests) == 1
    assert took_s < 5


@pytest.mark.parametrize("where", ["handshake", "head", "body"])
def test_a_call_to_a_stalled_server_ends_with_the_time_limit(trusted_tls: ssl.SSLContext, where: str) -> None:
    """The timeouts of the connection are longer than the time limit of the call."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
    server = (
        ScriptedServer([RUNNING], before_reading=stall(20))
        if where == "handshake"
        else ScriptedServer([sequence(*([half] if where == "body" else []), stall(20))], context=trusted_tls)
    )
    with server:
        upstream = WaterflaiClient(server.url.replace("http:", "https:"), FakeKey(), budget_s=0.4)
        began = time.monotonic()
        error = error_of(lambda: upstream.status("e"))
        took_s = time.monotonic() - began
    assert type(error) is (UpstreamUnavailableError if where == "handshake" else PerhapsAcceptedError)
    assert took_s < 10


def test_a_second_attempt_ends_with_the_time_limit() -> None:
    slow_401 = drip(b"{}", 0.15, head=b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n")
    with ScriptedServer([slow_401, stall(20)]) as server:
        upstream = WaterflaiClient(server.url, FakeKey("old", "new"), budget_s=0.5)
        began = time.monotonic()
        error = error_of(lambda: upstream.start("c", {}))
        took_s = time.monotonic() - began
    assert (type(error), len(server.requests)) == (PerhapsAcceptedError, 2)
    assert took_s < 5


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_large_start_to_a_slow_server_ends_with_the_time_limit(
    trusted_tls: ssl.SSLContext, *, is_tls: bool
) -> None:
    def sip(connection: socket.socket) -> None:
        if is_tls:
            connection = trusted_tls.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(OSError):
            while connection.recv(16_384):
                time.sleep(0.012)
        raise HangUpError

    with ScriptedServer([STARTED], before_reading=sip) as server:
        url = server.url.replace("http:", "https:") if is_tls else server.url
        upstream = WaterflaiClient(url, FakeKey(), budget_s=0.5)
        began = time.monotonic()
        error = error_of(lambda: upstream.start("c", {"x": "y" * 30_000_000}))
        took_s = time.monotonic() - began
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")
    assert took_s < 10


def test_a_response_before_the_end_of_the_request_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(2_000)
        connection.sendall(answer(b'{"detail": "too large"}', status=b"413 Content Too Large"))
        time.sleep(5)
        raise HangUpError

    with ScriptedServer([STARTED], before_reading=refuse) as server:
        # The read timeout ends the blocked upload soon. The time limit is long enough for a slow machine.
        upstream = WaterflaiClient(server.url, FakeKey(), read_timeout_s=0.5, budget_s=4.0)
        error = error_of(lambda: upstream.start("c", {"x": "y" * 30_000_000}))
    assert (type(error), error.status, error.message) == (UpstreamRefusedError, 413, "HTTP 413: too large")


@pytest.mark.usefixtures("short_timeouts")
def test_the_addresses_of_a_host_share_the_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name may have many addresses, and each attempt would take the whole connect timeout."""
    with contextlib.ExitStack() as stack:
        server_socket = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = server_socket.getsockname()
        for _ in range(3):  # fill its backlog, so that another connection gets no response
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(address)
        resolve = socket.getaddrinfo

        def many(host: str, *args: Any, **named: Any) -> Any:
            return resolve("127.0.0.1", *args, **named) * (20 if host == "many.test" else 1)

        monkeypatch.setattr(socket, "getaddrinfo", many)
        began = time.monotonic()
        error = error_of(lambda: WaterflaiClient(f"http://many.test:{address[1]}", FakeKey()).status("e"))
        took_s = time.monotonic() - began
    assert type(error) is UpstreamUnavailableError
    assert took_s < 3


def test_a_call_leaves_no_thread_behind() -> None:
    """Lambda freezes a remaining thread, which then continues in another invocation."""
    call = """
import sys, threading
from tests.fakes.api_key import FakeKey
from waterhook.upstream.client import WaterflaiClient

WaterflaiClient(sys.argv[1], FakeKey()).status("e")
print(threading.active_count())
"""
    with ScriptedServer([RUNNING]) as server:
        assert run(call, server.url) == ["1"]


# Retry-After on a success


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        (None, None),
        ("²", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after_of_a_status_is_returned(value: str | None, seconds: float | None) -> None:
    head = [] if value is None else [b"Retry-After: " + value.encode("latin-1")]
    with ScriptedServer([raw(answer(b'{"status":"RUNNING","retry_after_s":9}', *head))]) as server:
        assert WaterflaiClient(server.url, FakeKey()).status("e").retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (302, b""),
        (404, b"{}"),
        (409, b"{}"),
        (429, b"{}"),
        (500, b""),
        (521, b""),
        (200, b"<html>"),
        (200, b'{"execution_id": "another"}'),
    ],
)
def test_retry_after_is_returned_with_every_error(status: int, body: bytes) -> None:
    with ScriptedServer([reply(status, body, {"Retry-After": "7", "Location": "/"})]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert error.retry_after_s == 7


# Errors of a CDN


@pytest.mark.parametrize("status", [521, 530])
def test_a_call_that_a_cdn_did_not_forward_was_not_accepted(status: int) -> None:
    with ScriptedServer([reply(status, "<html>", {"Retry-After": "5"})]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for call in (upstream.status, upstream.cancel, lambda id_: upstream.start(id_, {})):
            error = error_of(lambda call=call: call("e"))  # type: ignore[misc]  # bound in the loop
            assert (type(error), error.code, error.retry_after_s) == (
                UpstreamUnavailableError,
                "unavailable",
                5,
            )


@pytest.mark.parametrize("status", [520, 527])
def test_a_call_whose_response_a_cdn_lost_may_have_been_carried_out(status: int) -> None:
    with ScriptedServer([reply(status, "<html>")]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for call in (upstream.status, upstream.cancel, lambda id_: upstream.start(id_, {})):
            error = error_of(lambda call=call: call("e"))  # type: ignore[misc]  # bound in the loop
            assert (type(error), error.code) == (PerhapsAcceptedError, "server_error")


# A cancel response without a body


@pytest.mark.parametrize(
    "step",
    [
        reply(204, b"", {"Content-Length": "0"}),
        raw(b"HTTP/1.1 204 No Content\r\n\r\n", close=False),
        reply(200, b""),
        reply(202, b""),
        reply(200, b" \r\n"),
        raw(answer(b"0\r\n\r\n", b"Transfer-Encoding: chunked", length=False), close=False),
    ],
)
def test_a_cancel_response_without_a_body_is_a_cancel_without_a_result(step: Step) -> None:
    with ScriptedServer([step, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.cancel("e") == CancelResult(None, None, None)
        assert upstream.status("e").status == "RUNNING"
