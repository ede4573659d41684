"""The client's event stream against a scripted upstream: what it yields, when it ends, and as what it fails."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import responses

import pytest

from waterhook.client import MAX_STREAM_BYTES, WaterflaiClient
from waterhook.errors import InvalidRequest, PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.sse import MAX_LINE_BYTES

KEY = "the-key"
NEW_KEY = "the-new-key"


@dataclass
class Keys:
    """A secret that may have been rotated: `refresh` finds the next of its keys, if there is one."""

    keys: list[str] = field(default_factory=lambda: [KEY])
    refreshes: int = 0

    def get(self) -> str:
        return self.keys[0]

    def refresh(self) -> bool:
        self.refreshes += 1
        if len(self.keys) == 1:
            return False
        self.keys.pop(0)
        return True


type Step = bytes | float | Callable[[socket.socket], None]


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


HOLDS_S = 60
PATIENCE_S = 30
"""Less than anybody here holds out, more than a busy machine takes for anything."""


def hold(connection: socket.socket) -> None:
    """Say nothing until the client hangs up."""
    connection.settimeout(HOLDS_S)
    while connection.recv(1024):
        pass


def forever(piece: bytes, every_s: float = 0.0) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        while True:
            connection.sendall(piece)
            time.sleep(every_s)

    return send


class Upstream:
    """A server on a free port of the loopback: one script for each connection, in order.

    A script is played once the request is in: bytes are sent, numbers are seconds to sleep, functions are called.
    """

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.requests: list[str] = []
        self.hung_up = threading.Event()
        """The client closed a connection, or the script did."""
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(4096)
                if not received:
                    return
                head += received
            self.requests.append(head.decode())
            script = self._scripts[len(self.requests) - 1] if len(self.requests) <= len(self._scripts) else []
            for step in script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                elif isinstance(step, float):
                    time.sleep(step)
                else:
                    step(connection)
        self.hung_up.set()

    def close(self) -> None:
        # A thread that sits in accept keeps the port open unless it is woken.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)


type Serve = Callable[..., Upstream]


@pytest.fixture
def serve() -> Iterator[Serve]:
    upstreams: list[Upstream] = []

    def start(*scripts: Sequence[Step]) -> Upstream:
        upstreams.append(Upstream(*scripts))
        return upstreams[-1]

    yield start
    for upstream in upstreams:
        upstream.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
# Until the connection is closed.
OPEN = STREAM + b"\r\n"
CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def event(**value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def plain(status: int, body: bytes, *headers: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {responses[status]}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def listen(
    upstream: Upstream, keys: Keys | None = None, *, for_s: float = 10.0, idle_timeout_s: float = 5.0
) -> list[dict[str, object]]:
    client = WaterflaiClient(upstream.url, keys or Keys())
    return list(client.stream("exec-1", ends_at=time.monotonic() + for_s, idle_timeout_s=idle_timeout_s))


def failure(
    upstream: Upstream, keys: Keys | None = None, *, for_s: float = 10.0, idle_timeout_s: float = 5.0
) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        listen(upstream, keys, for_s=for_s, idle_timeout_s=idle_timeout_s)
    return caught.value


@dataclass
class Elapsed:
    since: float = field(default_factory=time.monotonic)

    def __call__(self) -> float:
        return time.monotonic() - self.since


# ---- What it yields -------------------------------------------------------------------------------------------

TWO = event(type="node_started") + event(type="execution_completed")
BOTH = [{"type": "node_started"}, {"type": "execution_completed"}]


def test_the_request_is_a_get_with_key_and_media_type(serve: Serve) -> None:
    upstream = serve([CHUNKED, LAST_CHUNK])

    assert listen(upstream) == []

    (request,) = upstream.requests
    lines = request.split("\r\n")
    assert lines[0] == "GET /v1/executions/exec-1/stream HTTP/1.1"
    assert {"X-API-Key: the-key", "Accept: text/event-stream", "Accept-Encoding: identity"} <= set(lines)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([CHUNKED, chunk(TWO), LAST_CHUNK], id="chunked"),
        pytest.param([CHUNKED, *(chunk(bytes([byte])) for byte in TWO), LAST_CHUNK], id="byte by byte"),
        pytest.param([OPEN, TWO], id="until closed"),
        pytest.param([STREAM + b"Content-Length: %d\r\n\r\n" % len(TWO), TWO], id="of known length"),
        pytest.param([OPEN, b"\xef\xbb\xbf", TWO.replace(b"\n", b"\r\n")], id="BOM and CRLF"),
        pytest.param([OPEN, TWO.replace(b"\n", b"\r")], id="CR"),
        pytest.param([OPEN, b": ping\n\n", TWO[:30], 0.05, TWO[30:], b": bye\n\n"], id="with comments"),
        pytest.param([OPEN, b"id: 1\nretry: 5\nevent: x\n", TWO], id="with other fields"),
        pytest.param([OPEN, b"id: 1\n\n\n\n", TWO, b"data\n\n"], id="with empty events"),
        pytest.param(
            [OPEN, TWO.replace(b", ", b",\ndata: ").replace(b"{", b"{\ndata:")], id="on several lines"
        ),
        pytest.param([OPEN, TWO, b"data: {}"], id="cut off in an event"),
        pytest.param(
            [OPEN.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8"), TWO], id="charset"
        ),
    ],
)
def test_a_stream_yields_its_objects(serve: Serve, script: list[Step]) -> None:
    assert listen(serve(script)) == BOTH


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"",
        b"[1]",
        b'"text"',
        b"1",
        b"null",
        b'{"type": "node',
        b"{" * 9,
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_data_that_is_no_json_object_is_passed_over(serve: Serve, data: bytes) -> None:
    assert listen(serve([OPEN, b"data: " + data + b"\n\n", TWO])) == BOTH


def test_a_stream_of_comments_yields_nothing(serve: Serve) -> None:
    assert listen(serve([OPEN, b": ping\n\n" * 1000])) == []


def test_an_event_is_yielded_as_it_comes_and_not_with_the_next(serve: Serve) -> None:
    upstream = serve([CHUNKED, chunk(event(type="node_started")), hold])
    client = WaterflaiClient(upstream.url, Keys())

    with closing(
        client.stream("exec-1", ends_at=time.monotonic() + HOLDS_S, idle_timeout_s=HOLDS_S)
    ) as events:
        elapsed = Elapsed()
        assert next(events) == {"type": "node_started"}
        assert elapsed() < PATIENCE_S


# ---- When it ends ---------------------------------------------------------------------------------------------


def test_a_stream_that_ends_early_is_no_failure(serve: Serve) -> None:
    assert listen(serve([CHUNKED, chunk(event(type="node_started")), LAST_CHUNK])) == BOTH[:1]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([hold], id="no answer yet"),
        pytest.param([forever(b"HTTP/1.1 200 OK\r\n"[:1], 0.05)], id="a head that drips"),
        pytest.param([STREAM, forever(b"X-More: of it\r\n", 0.05)], id="a head without end"),
        pytest.param([CHUNKED, hold], id="nothing"),
        pytest.param([CHUNKED, chunk(b": ping\n\n"), hold], id="silence"),
        pytest.param([OPEN, forever(b": ping\n\n", 0.05)], id="pings"),
        pytest.param([CHUNKED, forever(chunk(b":"), 0.05)], id="drops"),
        pytest.param([plain(401, b"{}"), hold], id="a key that is of no use"),
    ],
)
def test_it_ends_in_time_whatever_it_waits_for(serve: Serve, script: list[Step]) -> None:
    upstream = serve(script, [hold])
    elapsed = Elapsed()

    assert listen(upstream, Keys([KEY, NEW_KEY]), for_s=0.4) == []

    assert 0.4 <= elapsed() < PATIENCE_S
    assert upstream.hung_up.wait(PATIENCE_S)


def test_events_before_the_end_of_its_time_are_yielded(serve: Serve) -> None:
    upstream = serve([CHUNKED, forever(chunk(event(type="progress_update")), 0.02)])
    elapsed = Elapsed()

    events = listen(upstream, for_s=1)

    assert elapsed() < PATIENCE_S
    assert events[0] == {"type": "progress_update"}
    assert upstream.hung_up.wait(PATIENCE_S)


def test_time_that_is_up_asks_nothing(serve: Serve) -> None:
    upstream = serve([OPEN, TWO])

    assert listen(upstream, for_s=0) == []
    assert upstream.requests == []


def test_who_stops_early_closes_the_connection(serve: Serve) -> None:
    upstream = serve([OPEN, forever(event(type="progress_update"), 0.01)])
    client = WaterflaiClient(upstream.url, Keys())

    with closing(client.stream("exec-1", ends_at=time.monotonic() + 60, idle_timeout_s=30)) as events:
        for _ in events:
            break

    assert upstream.hung_up.wait(PATIENCE_S)


def test_who_forgets_to_close_it_closes_it_by_letting_go(serve: Serve) -> None:
    upstream = serve([OPEN, forever(event(type="progress_update"), 0.01)])
    client = WaterflaiClient(upstream.url, Keys())

    for _ in client.stream("exec-1", ends_at=time.monotonic() + 60, idle_timeout_s=30):
        break

    assert upstream.hung_up.wait(PATIENCE_S)


def test_a_stream_read_to_its_end_is_closed_although_the_upstream_would_keep_it(serve: Serve) -> None:
    upstream = serve([CHUNKED, chunk(TWO), LAST_CHUNK, hold])

    assert listen(upstream) == BOTH
    assert upstream.hung_up.wait(PATIENCE_S)


# ---- As what it fails -----------------------------------------------------------------------------------------


def test_nobody_there_is_unavailable() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    client = WaterflaiClient(f"http://127.0.0.1:{port}", Keys())

    with pytest.raises(Unavailable) as caught:
        list(client.stream("exec-1", ends_at=time.monotonic() + 30, idle_timeout_s=30))

    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param([hold], None, id="never answers"),
        pytest.param([STREAM, hold], None, id="half a head"),
        pytest.param([], None, id="hangs up"),
        pytest.param([reset], None, id="resets"),
        pytest.param([b"\x00\xff nonsense\r\n\r\n"], None, id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"], None, id="too many headers"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000], None, id="endless header"),
        pytest.param([CHUNKED, hold], 200, id="stalls before the first byte"),
        pytest.param([CHUNKED, chunk(b"data: {}\n"), hold], 200, id="stalls in an event"),
        pytest.param([CHUNKED, chunk(b": ping\n\n"), b"5\r\n"], 200, id="breaks off in a chunk"),
        pytest.param([CHUNKED, chunk(b": ping\n\n")], 200, id="breaks off between chunks"),
        pytest.param([CHUNKED, b"rubbish\r\n"], 200, id="no chunks"),
        pytest.param([STREAM + b"Content-Length: 99\r\n\r\n", b": ping\n\n"], 200, id="shorter than it said"),
        pytest.param([OPEN, b": ping\n\n", 0.1, reset], 200, id="resets in the stream"),
        pytest.param([plain(500, b"long")[:-1], hold], 500, id="stalls in an error"),
    ],
)
def test_silence_and_broken_answers_are_no_answer(
    serve: Serve, script: list[Step], status: int | None
) -> None:
    elapsed = Elapsed()

    error = failure(serve(script), idle_timeout_s=0.8)

    assert isinstance(error, PerhapsAccepted)
    assert (error.code, error.status) == ("no_answer", status)
    assert elapsed() < PATIENCE_S


def test_events_before_a_failure_are_yielded(serve: Serve) -> None:
    upstream = serve([CHUNKED, chunk(TWO), b"5\r\nab"])
    events = WaterflaiClient(upstream.url, Keys()).stream(
        "exec-1", ends_at=time.monotonic() + 30, idle_timeout_s=30
    )

    assert [next(events), next(events)] == BOTH
    with pytest.raises(PerhapsAccepted, match="broke off"):
        next(events)
    with pytest.raises(StopIteration):
        next(events)


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b'data: "' + b"x" * 60_000 + b'"\n\n', id="events"),
        pytest.param(b":" + b"x" * 60_000 + b"\n", id="comments"),
        pytest.param(b"x" * 60_000, id="a line"),
        pytest.param(b"data: " + b"x" * 60_000 + b"\n", id="an event"),
    ],
)
def test_a_flood_is_an_unusable_answer_and_dammed(serve: Serve, flood: bytes) -> None:
    upstream = serve([OPEN, forever(flood)])

    error = failure(upstream, for_s=30)

    assert (type(error), error.code, error.status) == (PerhapsAccepted, "unusable_answer", 200)
    assert "more than" in error.message
    assert upstream.hung_up.wait(PATIENCE_S)


def test_what_fits_is_read(serve: Serve) -> None:
    big = event(type="x" * (MAX_LINE_BYTES - 100))
    count = MAX_STREAM_BYTES // len(big)

    assert len(listen(serve([OPEN, *[big] * count]), for_s=30)) == count


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(plain(200, b"<html>Hi</html>", b"Content-Type: text/html"), id="HTML"),
        pytest.param(plain(200, b'{"status": "RUNNING"}', b"Content-Type: application/json"), id="JSON"),
        pytest.param(plain(200, TWO), id="no media type"),
        pytest.param(plain(200, TWO, b"Content-Type: text/event-streams"), id="another media type"),
        pytest.param(plain(204, b""), id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"x" * 100_000, id="large page"),
    ],
)
def test_a_success_that_is_no_event_stream_is_unusable(serve: Serve, answer: bytes) -> None:
    upstream = serve([answer, hold])

    error = failure(upstream)

    assert (type(error), error.code) == (PerhapsAccepted, "unusable_answer")
    assert upstream.hung_up.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("answer", "kind", "code", "message"),
    [
        (plain(404, b'{"detail": "no such execution"}'), Refused, "refused", "HTTP 404: no such execution"),
        (plain(403, b"<html>"), Refused, "refused", "HTTP 403"),
        (plain(429, b"", b"Retry-After: 7"), Unavailable, "unavailable", "HTTP 429"),
        (plain(503, b"<html>"), Unavailable, "unavailable", "HTTP 503"),
        (
            plain(500, b'{"detail": "server error"}'),
            PerhapsAccepted,
            "server_error",
            "HTTP 500: server error",
        ),
        (plain(504, b"<html>"), PerhapsAccepted, "server_error", "HTTP 504"),
        (plain(500, b'{"detail": "' + b"x" * 100_000), PerhapsAccepted, "server_error", "HTTP 500"),
        (plain(404, TWO, b"Content-Type: text/event-stream"), Refused, "refused", "HTTP 404"),
    ],
)
def test_other_answers_fail_as_they_do_for_every_call(
    serve: Serve, answer: bytes, kind: type[UpstreamError], code: str, message: str
) -> None:
    upstream = serve([answer, hold])

    error = failure(upstream)

    assert (type(error), error.code, error.message) == (kind, code, message)
    assert error.retry_after_s == (7 if error.status == 429 else None)
    assert len(upstream.requests) == 1
    assert upstream.hung_up.wait(PATIENCE_S)


def test_an_id_that_is_none_is_refused_before_anything_is_sent(serve: Serve) -> None:
    upstream = serve([OPEN])
    client = WaterflaiClient(upstream.url, Keys())

    with pytest.raises(InvalidRequest):
        list(client.stream("..", ends_at=time.monotonic() + 30, idle_timeout_s=30))

    assert upstream.requests == []


# ---- The key --------------------------------------------------------------------------------------------------

UNAUTHORIZED = plain(401, b'{"detail": "Invalid API key the-key"}')


def test_a_rotated_key_is_read_again_and_the_stream_taken_up(serve: Serve) -> None:
    upstream = serve([UNAUTHORIZED, hold], [CHUNKED, chunk(TWO), LAST_CHUNK])
    keys = Keys([KEY, NEW_KEY])

    assert listen(upstream, keys) == BOTH

    assert [
        "X-API-Key: the-key" in upstream.requests[0],
        f"X-API-Key: {NEW_KEY}" in upstream.requests[1],
    ] == [True] * 2
    assert keys.refreshes == 1
    # The first connection is not kept for the length of the second.
    assert upstream.hung_up.wait(PATIENCE_S)


def test_a_key_that_is_the_same_is_not_tried_again(serve: Serve) -> None:
    upstream = serve([UNAUTHORIZED])

    error = failure(upstream)

    assert (type(error), error.status) == (Refused, 401)
    assert len(upstream.requests) == 1


def test_a_new_key_is_tried_once(serve: Serve) -> None:
    upstream = serve([UNAUTHORIZED], [UNAUTHORIZED], [OPEN])
    keys = Keys([KEY, NEW_KEY, "a-third"])

    assert failure(upstream, keys).status == 401
    assert len(upstream.requests) == 2


def test_the_key_is_not_repeated_in_an_error(serve: Serve) -> None:
    error = failure(serve([UNAUTHORIZED]))

    assert error.message == "HTTP 401: Invalid API key ***"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_goes_nowhere_else(serve: Serve, status: int) -> None:
    elsewhere = serve([OPEN, TWO])
    upstream = serve(
        [plain(status, b"", b"Location: " + elsewhere.url.encode() + b"/v1/executions/exec-1/stream")]
    )

    error = failure(upstream)

    assert (type(error), error.code, error.status) == (Refused, "redirected", status)
    assert elsewhere.requests == []
    assert len(upstream.requests) == 1
