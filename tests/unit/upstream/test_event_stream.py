"""Event stream of the client against a scripted server: events, end, errors and the reading thread."""

import gzip
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.client import responses

import pytest

from tests.fakes.api_key import FakeKey
from tests.fakes.scripted_server import (
    ScriptedServer,
    Step,
    closed_port,
    pause,
    repeat,
    reset,
    sequence,
    sse_event,
    stall,
)
from tests.support.waiting import until
from waterhook.errors import (
    InvalidRequestError,
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.observability.metrics import Metric, RequestKind, UpstreamCall
from waterhook.upstream import client as client_module
from waterhook.upstream.client import MAX_STREAM_BYTES, WaterflaiClient
from waterhook.upstream.event_stream import MAX_WAITING_EVENTS, EventStream, StreamEnd, StreamEvent
from waterhook.upstream.sse import MAX_LINE_BYTES

KEY = "the-key-of-the-stream"
NEW_KEY = "the-new-key"


class Keys(FakeKey):
    """A key source that records which threads read it."""

    def __init__(self, *keys: str) -> None:
        super().__init__(*(keys or (KEY,)))
        self.read_by: set[str] = set()

    def get(self) -> str:
        self.read_by.add(threading.current_thread().name)
        return super().get()


STALL_S = 60
MAX_TEST_S = 30
"""Shorter than `STALL_S`, and longer than any test takes on a busy machine."""
stalled = stall(STALL_S)

type Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server with a script for each connection."""
    with ExitStack() as servers:

        def start(*scripts: list[bytes | Step], context: ssl.SSLContext | None = None) -> ScriptedServer:
            steps = [sequence(*script) for script in scripts]
            return servers.enter_context(ScriptedServer(steps, context=context))

        yield start


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "event-stream"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert readers() == []


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
# The body ends when the connection is closed.
OPEN = STREAM + b"\r\n"
CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text)


def event(**fields: object) -> bytes:
    return sse_event(fields)


def http_response(status: int, body: bytes, *headers: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {responses[status]}\r\nContent-Length: {len(body)}\r\n".encode()
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def opened_stream(
    upstream: ScriptedServer,
    keys: Keys | None = None,
    *,
    for_s: float = STALL_S,
    idle_timeout_s: float = STALL_S,
) -> closing[EventStream]:
    client = WaterflaiClient(upstream.url, keys or Keys())
    ends_at = time.monotonic() + for_s
    return closing(client.open_stream("exec-1", ends_at=ends_at, idle_timeout_s=idle_timeout_s))


def remaining(stream: EventStream) -> tuple[list[StreamEvent], UpstreamError | None]:
    """Return the remaining events, and the error of the stream's end."""
    events: list[StreamEvent] = []
    while True:
        match stream.next(MAX_TEST_S):
            case StreamEvent() as event:
                events.append(event)
            case StreamEnd(error, idle):
                assert stream.next(0) == StreamEnd(error, idle)
                return events, error
            case None:
                raise AssertionError("neither an event nor an end")


def events_of(
    upstream: ScriptedServer,
    keys: Keys | None = None,
    *,
    for_s: float = STALL_S,
    idle_timeout_s: float = STALL_S,
) -> list[StreamEvent]:
    with opened_stream(upstream, keys, for_s=for_s, idle_timeout_s=idle_timeout_s) as stream:
        events, error = remaining(stream)
    assert error is None
    return events


def error_of_stream(
    upstream: ScriptedServer,
    keys: Keys | None = None,
    *,
    for_s: float = STALL_S,
    idle_timeout_s: float = STALL_S,
) -> UpstreamError:
    with opened_stream(upstream, keys, for_s=for_s, idle_timeout_s=idle_timeout_s) as stream:
        events, error = remaining(stream)
    assert events == []
    assert error is not None
    return error


def reported_calls(
    upstream: ScriptedServer, *, idle_timeout_s: float = STALL_S, take: float | None = MAX_TEST_S
) -> list[UpstreamCall]:
    """Return the calls that a stream has reported, after it was read once at most and closed."""
    calls: list[UpstreamCall] = []

    def record(call: UpstreamCall) -> None:
        assert threading.current_thread() is threading.main_thread()
        calls.append(call)

    client = WaterflaiClient(upstream.url, Keys(), on_call=record)
    with closing(
        client.open_stream("exec-1", ends_at=time.monotonic() + STALL_S, idle_timeout_s=idle_timeout_s)
    ) as stream:
        assert calls == []
        if take is not None:
            stream.next(take)
            stream.next(0)
    stream.close()
    return calls


@dataclass
class Elapsed:
    since: float = field(default_factory=time.monotonic)

    def __call__(self) -> float:
        return time.monotonic() - self.since


# ---- Events of a stream ---------------------------------------------------------------------------------------

TWO = event(type="node_started") + event(type="execution_completed")
BOTH = [StreamEvent("node_started"), StreamEvent("execution_completed")]


def test_the_request_is_a_get_with_key_and_media_type(serve: Serve) -> None:
    upstream = serve([CHUNKED, LAST_CHUNK])

    assert events_of(upstream) == []

    (request,) = upstream.requests
    assert (request.method, request.target) == ("GET", "/v1/executions/exec-1/stream")
    assert request.version == "HTTP/1.1"
    assert {
        "x-api-key": "the-key-of-the-stream",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "cache-control": "no-cache",
    }.items() <= request.headers.items()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([CHUNKED, chunk(TWO), LAST_CHUNK], id="chunked"),
        pytest.param([CHUNKED, *(chunk(bytes([byte])) for byte in TWO), LAST_CHUNK], id="byte by byte"),
        pytest.param([OPEN, TWO], id="until closed"),
        pytest.param([STREAM + b"Content-Length: %d\r\n\r\n" % len(TWO), TWO], id="of known length"),
        pytest.param([OPEN, b"\xef\xbb\xbf", TWO.replace(b"\n", b"\r\n")], id="BOM and CRLF"),
        pytest.param([OPEN, TWO.replace(b"\n", b"\r")], id="CR"),
        pytest.param(
            [OPEN, b": ping\n\n", TWO[:30], pause(0.05), TWO[30:], b": bye\n\n"], id="with comments"
        ),
        pytest.param([OPEN, b"id: 1\nretry: 5\nevent: x\n", TWO], id="with other fields"),
        pytest.param([OPEN, b"id: 1\n\n\n\n", TWO, b"data\n\n"], id="with empty events"),
        pytest.param(
            [OPEN, TWO.replace(b", ", b",\ndata: ").replace(b"{", b"{\ndata:")], id="on several lines"
        ),
        pytest.param([OPEN, TWO, b"data: {}"], id="cut off in an event"),
        pytest.param(
            [OPEN.replace(b"text/event-stream", b"Text/Event-Stream; charset=utf-8"), TWO], id="charset"
        ),
        pytest.param(
            [OPEN.replace(b"text/event-stream", b"text/event-stream ; charset=utf-8"), TWO],
            id="a space before the charset",
        ),
        pytest.param(
            [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3, pause(0.05), OPEN, TWO], id="after interim answers"
        ),
        pytest.param([OPEN, b":" + b"x" * 1024 * 1024 + b"\n", TWO], id="after a comment of 1 MiB"),
        pytest.param(
            [OPEN, b"more: " + b"x" * 1024 * 1024 + b"\n", TWO], id="after an unknown field of 1 MiB"
        ),
        pytest.param([STREAM + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(TWO)], id="compressed"),
    ],
)
def test_a_stream_yields_its_events(serve: Serve, script: list[bytes | Step]) -> None:
    assert events_of(serve(script)) == BOTH


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
def test_data_that_is_not_a_json_object_is_ignored(serve: Serve, data: bytes) -> None:
    assert events_of(serve([OPEN, b"data: " + data + b"\n\n", TWO])) == BOTH


def test_a_stream_of_comments_yields_nothing(serve: Serve) -> None:
    assert events_of(serve([OPEN, b": ping\n\n" * 1000])) == []


def test_an_event_is_yielded_when_it_arrives(serve: Serve) -> None:
    with opened_stream(serve([CHUNKED, chunk(event(type="node_started")), stalled])) as stream:
        elapsed = Elapsed()
        assert stream.next(STALL_S) == StreamEvent("node_started")
        assert elapsed() < MAX_TEST_S


def test_a_compressed_event_is_yielded_when_it_arrives(serve: Serve) -> None:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    piece = packer.compress(event(type="node_started")) + packer.flush(zlib.Z_SYNC_FLUSH)
    with opened_stream(serve([STREAM + b"Content-Encoding: gzip\r\n\r\n", piece, stalled])) as stream:
        assert stream.next(MAX_TEST_S) == StreamEvent("node_started")


def test_events_in_one_tls_record_are_all_yielded(serve: Serve, trusted_tls: ssl.SSLContext) -> None:
    """The rest of the record is in the TLS buffer, so the socket is not readable."""
    many = event(type="node_started") * 300
    with opened_stream(serve([CHUNKED, chunk(many), stalled], context=trusted_tls)) as stream:
        assert [stream.next(MAX_TEST_S) for _ in range(300)] == [StreamEvent("node_started")] * 300


def test_next_returns_none_after_the_timeout(serve: Serve) -> None:
    with opened_stream(serve([stalled])) as stream:
        assert [stream.next(timeout_s) for timeout_s in (0.05, 0, -1)] == [None] * 3
        assert not stream.opened


def test_a_stream_is_opened_only_by_a_successful_response(serve: Serve) -> None:
    with opened_stream(serve([OPEN, event(type="node_started"), stalled])) as stream:
        stream.next(MAX_TEST_S)
        assert stream.opened
    with opened_stream(serve([http_response(404, b"{}")])) as stream:
        stream.next(MAX_TEST_S)
        assert not stream.opened


def test_events_are_yielded_in_order(serve: Serve) -> None:
    progress = b"".join(event(type="progress_update", progress=number / 4) for number in range(400))
    events = events_of(serve([CHUNKED, chunk(progress + event(type="execution_completed")), LAST_CHUNK]))
    assert [event.progress for event in events[:-1]] == [number / 4 for number in range(400)]
    assert events[-1].is_final


# ---- Known events ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "is_final"),
    [
        ("node_started", False),
        ("node_completed", False),
        ("node_", False),
        ("progress_update", False),
        ("execution_completed", True),
        ("execution_failed", True),
        ("execution_cancelled", True),
        ("execution_canceled", True),
    ],
)
def test_known_types_are_events(serve: Serve, kind: str, *, is_final: bool) -> None:
    (received,) = events_of(serve([OPEN, event(type=kind)]))
    assert (received, received.is_final) == (StreamEvent(kind), is_final)


@pytest.mark.parametrize(
    "kind", ["ping", "heartbeat", "", "execution_started", "Node_started", 5, ["node_"], {}]
)
def test_events_of_other_types_are_ignored(serve: Serve, kind: object) -> None:
    assert events_of(serve([OPEN, event(type=kind), b"event: node_started\n" + event(type=kind)])) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"event: execution_completed\ndata: {}\n\n", "execution_completed"),
        (b'event: node_started\ndata: {"type": null}\n\n', "node_started"),
        (b'event: message\ndata: {"type": "node_started"}\n\n', "node_started"),
        (b'event: execution_failed\ndata: {"type": "node_started"}\n\n', "node_started"),
        (b"event: ping\ndata: {}\n\n", None),
        (b"event: execution_completed\ndata: done\n\n", None),
        (b"event: execution_completed\ndata: []\n\n", None),
        (b"event: execution_completed\n\n", None),
    ],
)
def test_the_name_of_an_event_is_used_if_its_data_has_no_type(
    serve: Serve, text: bytes, kind: str | None
) -> None:
    assert [event.type for event in events_of(serve([OPEN, text]))] == ([kind] if kind else [])


def test_events_of_another_execution_are_ignored(serve: Serve) -> None:
    events = [
        event(type="node_started", execution_id=id_) for id_ in ("another", "exec-1", None, "", 5, "exec-1 ")
    ]
    assert len(events_of(serve([OPEN, *events]))) == 2


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("50", 50.0),
        ("33.33333", 33.333),
        ("0", 0.0),
        ("-0.0", 0.0),
        ("-5", 0.0),
        ("100.5", 100.0),
        ("9" * 400, 100.0),
        ("-" + "9" * 400, 0.0),
        ("1e-200", 0.0),
        ("1e999", None),
        ("NaN", None),
        ("Infinity", None),
        ("-Infinity", None),
        ("true", None),
        ('"50"', None),
        ("null", None),
        ("[50]", None),
    ],
)
def test_progress_is_a_bounded_percentage_or_none(serve: Serve, text: str, progress: float | None) -> None:
    data = f'data: {{"type": "progress_update", "progress": {text}}}\n\n'.encode()
    (received,) = events_of(serve([OPEN, data]))
    assert repr(received.progress) == repr(progress)


@pytest.mark.parametrize(
    ("fields", "node_id"),
    [
        ({"node_id": "a"}, "a"),
        ({"current_node": "b"}, "b"),
        ({"node_id": "a", "current_node": "b"}, "a"),
        ({"node_id": "", "current_node": "b"}, "b"),
        ({"node_id": 5}, None),
        ({"node_id": {"x": 1}}, None),
        ({"node_id": "a\nb"}, "a b"),
    ],
)
def test_the_node_is_a_text_on_one_line(serve: Serve, fields: dict[str, object], node_id: str | None) -> None:
    (received,) = events_of(serve([OPEN, event(type="node_started", **fields)]))
    assert received.node_id == node_id


def test_long_types_and_node_ids_are_clipped(serve: Serve) -> None:
    (received,) = events_of(serve([OPEN, event(type="node_" + "x" * 500, node_id="y" * 5000)]))
    assert (len(received.type), len(received.node_id or "")) == (40, 200)


# ---- End of a stream ------------------------------------------------------------------------------------------


def test_a_stream_that_ends_before_a_final_event_has_no_error(serve: Serve) -> None:
    assert events_of(serve([CHUNKED, chunk(event(type="node_started")), LAST_CHUNK])) == BOTH[:1]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([stalled], id="no answer yet"),
        pytest.param([repeat(b"HTTP/1.1 200 OK\r\n"[:1], 0.05)], id="a head that drips"),
        pytest.param([STREAM, repeat(b"X-More: of it\r\n", 0.05)], id="a head without end"),
        pytest.param([CHUNKED, stalled], id="nothing"),
        pytest.param([CHUNKED, chunk(b": ping\n\n"), stalled], id="silence"),
        pytest.param([OPEN, repeat(b": ping\n\n", 0.05)], id="pings"),
        pytest.param([CHUNKED, repeat(chunk(b":"), 0.05)], id="drops"),
        pytest.param([b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", stalled], id="an error"),
    ],
)
def test_a_stream_ends_at_its_time_in_any_state(serve: Serve, script: list[bytes | Step]) -> None:
    upstream = serve(script)
    elapsed = Elapsed()

    assert events_of(upstream, for_s=0.4) == []

    assert 0.4 <= elapsed() < MAX_TEST_S
    assert upstream.connection_closed.wait(MAX_TEST_S)


def test_events_before_the_end_of_the_time_are_yielded(serve: Serve) -> None:
    upstream = serve([CHUNKED, repeat(chunk(event(type="progress_update")), 0.02)])
    elapsed = Elapsed()

    events = events_of(upstream, for_s=1)

    assert elapsed() < MAX_TEST_S
    assert events[0] == StreamEvent("progress_update")
    assert upstream.connection_closed.wait(MAX_TEST_S)


def test_no_request_is_sent_without_time_left(serve: Serve) -> None:
    upstream = serve([OPEN, TWO])

    assert events_of(upstream, for_s=0) == []
    assert upstream.requests == []


def test_a_stream_whose_events_are_not_read_ends_in_time(serve: Serve) -> None:
    with opened_stream(serve([OPEN, repeat(event(type="node_started"))]), for_s=2) as stream:
        (reader,) = readers()
        reader.join(MAX_TEST_S)
        assert not reader.is_alive()
        events, error = remaining(stream)
        assert (len(events), error) == (MAX_WAITING_EVENTS, None)


def test_any_byte_resets_the_idle_timeout(serve: Serve) -> None:
    upstream = serve([CHUNKED, *[chunk(b":"), pause(0.25)] * 8, chunk(b"\n" + TWO), LAST_CHUNK])
    assert events_of(upstream, idle_timeout_s=1.5) == BOTH


def test_the_connection_is_closed_after_the_end_of_the_stream(serve: Serve) -> None:
    upstream = serve([CHUNKED, chunk(TWO), LAST_CHUNK, stalled])

    assert events_of(upstream) == BOTH
    assert upstream.connection_closed.wait(MAX_TEST_S)


def test_a_stream_may_be_idle_for_longer_than_the_time_limit_of_a_call(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "CALL_BUDGET_S", 0.3)
    assert events_of(serve([pause(0.7), OPEN, pause(0.7), TWO])) == BOTH


# ---- Errors ---------------------------------------------------------------------------------------------------


def test_a_refused_connection_raises_unavailable() -> None:
    calls: list[UpstreamCall] = []
    with closed_port() as port:
        client = WaterflaiClient(f"http://127.0.0.1:{port}", Keys(), on_call=calls.append)
        with pytest.raises(UpstreamUnavailableError) as caught:
            client.open_stream("exec-1", ends_at=time.monotonic() + 30, idle_timeout_s=30)

    assert caught.value.code == "unreachable"
    (call,) = calls
    assert (call.request_kind, call.error, call.error_metric) == (
        RequestKind.STREAM,
        caught.value,
        Metric.UPSTREAM_UNREACHABLE,
    )


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param([stalled], None, id="never answers"),
        pytest.param([STREAM, stalled], None, id="half a head"),
        pytest.param([], None, id="hangs up"),
        pytest.param([reset], None, id="resets"),
        pytest.param([b"\x00\xff nonsense\r\n\r\n"], None, id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"], None, id="too many headers"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000], None, id="endless header"),
        pytest.param([CHUNKED, stalled], 200, id="stalls before the first byte"),
        pytest.param([CHUNKED, chunk(b"data: {}\n"), stalled], 200, id="stalls in an event"),
        pytest.param([CHUNKED, chunk(b": ping\n\n"), b"5\r\n"], 200, id="breaks off in a chunk"),
        pytest.param([CHUNKED, chunk(b": ping\n\n")], 200, id="breaks off between chunks"),
        pytest.param([CHUNKED, b"rubbish\r\n"], 200, id="no chunks"),
        pytest.param(
            [STREAM + b"Content-Length: 99\r\n\r\n", b": ping\n\n"], 200, id="shorter than its length"
        ),
        pytest.param([OPEN, b": ping\n\n", pause(0.1), reset], 200, id="resets in the stream"),
        pytest.param([http_response(500, b"long")[:-1], stalled], 500, id="stalls in an error"),
    ],
)
def test_silence_and_broken_responses_are_no_answer(
    serve: Serve, script: list[bytes | Step], status: int | None
) -> None:
    elapsed = Elapsed()

    error = error_of_stream(serve(script), idle_timeout_s=0.8)

    assert isinstance(error, PerhapsAcceptedError)
    assert (error.code, error.status) == ("no_answer", status)
    assert elapsed() < MAX_TEST_S


@pytest.mark.parametrize(
    ("script", "idle"),
    [([stalled], True), ([OPEN, stalled], True), ([CHUNKED, chunk(TWO), b"5\r\nab"], False), ([OPEN], False)],
    ids=["no head", "no event", "broken", "closed"],
)
def test_only_the_end_of_an_idle_stream_is_marked_as_idle(
    serve: Serve, script: list[bytes | Step], *, idle: bool
) -> None:
    with opened_stream(serve(script), idle_timeout_s=0.5) as stream:
        while not isinstance(end := stream.next(MAX_TEST_S), StreamEnd):
            pass
    assert end.idle is idle


def test_events_before_an_error_are_yielded(serve: Serve) -> None:
    with opened_stream(serve([CHUNKED, chunk(TWO), b"5\r\nab"])) as stream:
        events, error = remaining(stream)

    assert events == BOTH
    assert error is not None
    assert "broke off" in error.message


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b'data: "' + b"x" * 60_000 + b'"\n\n', id="events"),
        pytest.param(b":" + b"x" * 60_000 + b"\n", id="comments"),
        pytest.param(b"x" * 60_000, id="a line"),
        pytest.param(b"data: " + b"x" * 60_000 + b"\n", id="an event"),
        pytest.param(b"id: " + b"x" * 60_000, id="an id"),
    ],
)
def test_a_flood_is_an_unusable_answer_and_closes_the_connection(serve: Serve, flood: bytes) -> None:
    upstream = serve([OPEN, repeat(flood)])

    error = error_of_stream(upstream, for_s=30)

    assert (type(error), error.code, error.status) == (PerhapsAcceptedError, "unusable_answer", 200)
    assert "more than" in error.message
    assert upstream.connection_closed.wait(MAX_TEST_S)


def test_a_stream_of_the_largest_size_is_read(serve: Serve) -> None:
    big = event(type="node_" + "x" * (MAX_LINE_BYTES - 100))
    count = MAX_STREAM_BYTES // len(big)

    assert len(events_of(serve([OPEN, *[big] * count]), for_s=30)) == count


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http_response(200, b"<html>Hi</html>", b"Content-Type: text/html"), id="HTML"),
        pytest.param(
            http_response(200, b'{"status": "RUNNING"}', b"Content-Type: application/json"), id="JSON"
        ),
        pytest.param(http_response(200, TWO), id="no media type"),
        pytest.param(http_response(200, TWO, b"Content-Type: text/event-streams"), id="another media type"),
        pytest.param(http_response(204, b""), id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + b"x" * 100_000, id="large page"),
        pytest.param(STREAM + b"Content-Encoding: br\r\n\r\n" + TWO, id="an unknown encoding"),
        pytest.param(STREAM + b"Content-Encoding: gzip\r\n\r\n" + TWO, id="broken gzip"),
        pytest.param(STREAM + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="a transfer encoding"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="another protocol"),
    ],
)
def test_a_success_that_is_not_an_event_stream_is_unusable(serve: Serve, answer: bytes) -> None:
    upstream = serve([answer, stalled])

    error = error_of_stream(upstream)

    assert (type(error), error.code) == (PerhapsAcceptedError, "unusable_answer")
    assert upstream.connection_closed.wait(MAX_TEST_S)


@pytest.mark.parametrize(
    ("answer", "kind", "code", "message"),
    [
        (
            http_response(404, b'{"detail": "no such execution"}'),
            UpstreamRefusedError,
            "refused",
            "HTTP 404: no such execution",
        ),
        (http_response(403, b"<html>"), UpstreamRefusedError, "refused", "HTTP 403"),
        (http_response(429, b"", b"Retry-After: 7"), UpstreamUnavailableError, "unavailable", "HTTP 429"),
        (http_response(503, b"<html>"), UpstreamUnavailableError, "unavailable", "HTTP 503"),
        (
            http_response(500, b'{"detail": "server error"}'),
            PerhapsAcceptedError,
            "server_error",
            "HTTP 500: server error",
        ),
        (http_response(504, b"<html>"), PerhapsAcceptedError, "server_error", "HTTP 504"),
        (
            http_response(500, b'{"detail": "' + b"x" * 100_000),
            PerhapsAcceptedError,
            "server_error",
            "HTTP 500",
        ),
        (
            http_response(404, TWO, b"Content-Type: text/event-stream"),
            UpstreamRefusedError,
            "refused",
            "HTTP 404",
        ),
    ],
)
def test_other_responses_have_the_errors_of_every_call(
    serve: Serve, answer: bytes, kind: type[UpstreamError], code: str, message: str
) -> None:
    upstream = serve([answer, stalled])

    error = error_of_stream(upstream)

    assert (type(error), error.code, error.message) == (kind, code, message)
    assert error.retry_after_s == (7 if error.status == 429 else None)
    assert len(upstream.requests) == 1
    assert upstream.connection_closed.wait(MAX_TEST_S)


def test_an_invalid_id_is_refused_before_a_request_is_sent(serve: Serve) -> None:
    upstream = serve([OPEN])
    client = WaterflaiClient(upstream.url, Keys())

    with pytest.raises(InvalidRequestError):
        client.open_stream("..", ends_at=time.monotonic() + 30, idle_timeout_s=30)

    assert upstream.requests == []


# ---- API key --------------------------------------------------------------------------------------------------

UNAUTHORIZED = http_response(401, b'{"detail": "Invalid API key the-key-of-the-stream"}')


def test_a_401_ends_the_stream_without_a_refresh_of_the_key(serve: Serve) -> None:
    upstream = serve([UNAUTHORIZED], [OPEN, TWO])
    keys = Keys(KEY, NEW_KEY)

    error = error_of_stream(upstream, keys)

    assert (type(error), error.status) == (UpstreamRefusedError, 401)
    assert (len(upstream.requests), keys.refreshes) == (1, 0)


def test_the_reading_thread_does_not_read_the_key(serve: Serve) -> None:
    keys = Keys()
    error_of_stream(serve([UNAUTHORIZED]), keys)
    events_of(serve([OPEN, TWO]), keys)
    assert keys.read_by == {threading.main_thread().name}


def test_the_key_is_redacted_from_an_error(serve: Serve) -> None:
    error = error_of_stream(serve([UNAUTHORIZED]))

    assert error.message == "HTTP 401: Invalid API key ***"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_stream_is_refused_and_not_followed(serve: Serve, status: int) -> None:
    elsewhere = serve([OPEN, TWO])
    upstream = serve(
        [http_response(status, b"", b"Location: " + elsewhere.url.encode() + b"/v1/executions/exec-1/stream")]
    )

    error = error_of_stream(upstream)

    assert (type(error), error.code, error.status) == (UpstreamRefusedError, "redirected", status)
    assert elsewhere.requests == []
    assert len(upstream.requests) == 1


# ---- Reported calls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code", "kind"),
    [
        pytest.param([OPEN], None, None, id="a stream that ends"),
        pytest.param([OPEN, stalled], "no_answer", None, id="a stream that falls silent"),
        pytest.param([stalled], "no_answer", Metric.UPSTREAM_NO_ANSWER, id="no answer"),
        pytest.param([http_response(404, b"{}")], "refused", Metric.UPSTREAM_REFUSALS, id="404"),
        pytest.param([http_response(401, b"{}")], "refused", None, id="401"),
        pytest.param([http_response(503, b"{}")], "unavailable", Metric.UPSTREAM_UNAVAILABLE, id="503"),
        pytest.param([http_response(200, b"{}")], "unusable_answer", Metric.UPSTREAM_UNUSABLE, id="JSON"),
    ],
)
def test_a_stream_is_reported_once_after_its_end_was_read(
    serve: Serve, script: list[bytes | Step], code: str | None, kind: Metric | None
) -> None:
    (call,) = reported_calls(serve(script), idle_timeout_s=0.5)
    assert (call.request_kind, call.error.code if call.error else None, call.error_metric) == (
        RequestKind.STREAM,
        code,
        kind,
    )
    assert call.latency_ms > 0


@pytest.mark.parametrize(
    "script", [[stalled], [OPEN, stalled], [OPEN, repeat(TWO)]], ids=["no head", "open", "flood"]
)
@pytest.mark.parametrize("take", [None, 0.2])
def test_a_stream_closed_before_its_end_is_reported_once_without_an_error(
    serve: Serve, script: list[bytes | Step], take: float | None
) -> None:
    (call,) = reported_calls(serve(script), take=take)
    assert (call.request_kind, call.error) == (RequestKind.STREAM, None)


def test_close_reports_an_error_that_was_not_read(serve: Serve) -> None:
    calls: list[UpstreamCall] = []
    upstream = serve([http_response(503, b"{}")])
    client = WaterflaiClient(upstream.url, Keys(), on_call=calls.append)
    stream = client.open_stream("exec-1", ends_at=time.monotonic() + STALL_S, idle_timeout_s=STALL_S)
    for reader in readers():
        reader.join(MAX_TEST_S)
    assert calls == []

    stream.close()

    assert [call.error_metric for call in calls] == [Metric.UPSTREAM_UNAVAILABLE]


# ---- Reading thread -------------------------------------------------------------------------------------------

STATES: dict[str, list[bytes | Step]] = {
    "head pending": [stalled],
    "half a head": [STREAM, stalled],
    "opened": [CHUNKED, stalled],
    "opened until closed": [OPEN, stalled],
    "in an event": [OPEN, b"data: {", stalled],
    "pings": [OPEN, repeat(b": ping\n\n", 0.001)],
    "a flood and a full queue": [OPEN, repeat(event(type="node_started", node_id="x" * 1000))],
    "a flood of comments": [OPEN, repeat(b":" + b"x" * 1000, 0.01)],
    "ended": [CHUNKED, chunk(TWO), LAST_CHUNK, stalled],
    "refused": [http_response(404, b"{}"), stalled],
    "broken": [OPEN, reset],
    "half an error": [b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", stalled],
}


@pytest.mark.parametrize("script", STATES.values(), ids=STATES)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("after_s", [0.0, 0.2])
def test_no_thread_and_no_connection_is_left_after_close(
    serve: Serve, trusted_tls: ssl.SSLContext, script: list[bytes | Step], after_s: float, *, is_tls: bool
) -> None:
    upstream = serve(script, context=trusted_tls if is_tls else None)
    with opened_stream(upstream) as stream:
        assert len(readers()) <= 1
        time.sleep(after_s)
        elapsed = Elapsed()
        stream.close()
        assert readers() == []
        assert elapsed() < MAX_TEST_S
        assert isinstance(stream.next(0), StreamEnd)
        stream.close()
    assert upstream.connection_closed.wait(MAX_TEST_S)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_stream_that_was_read_to_its_end_can_be_closed(
    serve: Serve, trusted_tls: ssl.SSLContext, *, is_tls: bool
) -> None:
    upstream = serve([CHUNKED, chunk(TWO), LAST_CHUNK, stalled], context=trusted_tls if is_tls else None)
    with opened_stream(upstream) as stream:
        assert remaining(stream) == (BOTH, None)
        # The connection is closed at the end of the stream, before close().
        assert upstream.connection_closed.wait(MAX_TEST_S)
        stream.close()
        assert stream.next(0) == StreamEnd()


def test_status_requests_work_while_a_stream_is_open(serve: Serve) -> None:
    running = http_response(200, b'{"status": "RUNNING"}')
    upstream = serve([OPEN, stalled], [running, stalled])
    client = WaterflaiClient(upstream.url, Keys())
    with closing(client.open_stream("exec-1", ends_at=time.monotonic() + STALL_S, idle_timeout_s=STALL_S)):
        until(lambda: upstream.requests, pause_s=0.01)
        assert client.status("exec-1").status == "RUNNING"


@pytest.mark.parametrize(
    "piece",
    [
        event(type="node_started", node_id="x" * 200_000),
        event(type="node_started", node_id="x"),
        b": " + b"x" * 1_000_000 + b"\n",
        b"data: " + b"x" * 200_000 + b"\n\n",
    ],
    ids=["large events", "small events", "comments", "no JSON"],
)
def test_a_flood_uses_no_more_memory_than_a_line_and_an_event(serve: Serve, piece: bytes) -> None:
    upstream = serve([OPEN, repeat(piece)])
    tracemalloc.start()
    try:
        with opened_stream(upstream, for_s=1) as stream:
            while not isinstance(stream.next(0.05), StreamEnd):
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The peak includes the pieces of the server.
    assert peak < 4_000_000
