"""Client of Waterflai over real sockets: requests, and errors by whether the call may have been carried out."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.fakes.api_key import FakeKey
from tests.fakes.clock import NOW
from tests.fakes.scripted_server import (
    ScriptedServer,
    Step,
    chunked,
    closed_port,
    drip,
    hang_up,
    raw,
    reply,
    reset,
    stall,
)
from tests.support.builders import KEY, UPSTREAM_ID
from waterhook.domain.status import Status
from waterhook.domain.status_document import FlawedDocumentError
from waterhook.errors import (
    InvalidRequestError,
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.upstream import client as client_module
from waterhook.upstream.client import MAX_STATUS_BYTES, CancelResult, WaterflaiClient

STARTED = reply(202, {"execution_id": UPSTREAM_ID, "status_url": "https://elsewhere.test/x"})
RUNNING = reply(200, {"status": "RUNNING"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def start(url: str, **key: Any) -> str:
    return WaterflaiClient(url, FakeKey(**key)).start("support-chat", {"q": 1})


def error_of(call: Callable[[], object]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        call()
    return caught.value


def every_call(url: str) -> list[Callable[[], object]]:
    upstream = WaterflaiClient(url, FakeKey())
    return [
        lambda: upstream.start("c", {}),
        lambda: upstream.status("e"),
        lambda: upstream.cancel("e"),
    ]


def error_of_start(step: Step) -> UpstreamError:
    with ScriptedServer([step]) as server:
        return error_of(lambda: start(server.url))


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set timeouts that a test can wait for."""
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(client_module, "CALL_BUDGET_S", 0.6)


# What is sent


def test_a_start_is_one_post_of_the_input_data() -> None:
    with ScriptedServer([STARTED]) as server:
        assert start(server.url) == UPSTREAM_ID
    (request,) = server.requests
    assert (request.method, request.target, request.json) == (
        "POST",
        "/v1/executions/support-chat/async",
        {"input_data": {"q": 1}},
    )
    assert request.headers["x-api-key"] == KEY
    assert request.headers["content-type"] == "application/json"


def test_any_input_data_is_sent_unchanged() -> None:
    value = {"ß": ["🙂", 12345678901234567890, 1.0, None, {"": {}}], "line": "\u2028"}
    with ScriptedServer([STARTED]) as server:
        WaterflaiClient(server.url, FakeKey()).start("support-chat", value)
    assert server.requests[0].json == {"input_data": value}


@pytest.mark.parametrize("letter", ["я", "語", "🦆", "\ufffe"])
def test_input_data_is_sent_in_utf_8_and_without_spaces(letter: str) -> None:
    """Its size is counted in UTF-8. With JSON escapes it would be up to three times as large."""
    with ScriptedServer([STARTED]) as server:
        WaterflaiClient(server.url, FakeKey()).start("support-chat", {"t": [letter, 1]})
    assert server.requests[0].body == f'{{"input_data":{{"t":["{letter}",1]}}}}'.encode()


def test_input_data_with_an_infinity_is_not_sent() -> None:
    with ScriptedServer([STARTED]) as server:
        with pytest.raises(ValueError, match="JSON compliant"):
            WaterflaiClient(server.url, FakeKey()).start("support-chat", {"n": float("inf")})
        assert server.connections == 0


def test_no_compressed_response_is_requested() -> None:
    with ScriptedServer([RUNNING]) as server:
        WaterflaiClient(server.url, FakeKey()).status("e")
    assert server.requests[0].headers["accept-encoding"] == "identity"


IDS = {
    "a/b": "a%2Fb",
    "../../admin": "..%2F..%2Fadmin",
    "...": "...",
    "a%2fb": "a%252fb",
    "%2e%2e": "%252e%252e",
    "a?b=c#d": "a%3Fb%3Dc%23d",
    "a b": "a%20b",
    "a;b&c": "a%3Bb%26c",
    "größe": "gr%C3%B6%C3%9Fe",
    "🙂": "%F0%9F%99%82",
    "a\\b": "a%5Cb",
    "x" * 200: "x" * 200,
}


@pytest.mark.parametrize("execution_id", IDS, ids=lambda execution_id: execution_id[:12])
def test_an_id_stays_one_segment_of_the_path(execution_id: str) -> None:
    with ScriptedServer([STARTED, RUNNING, reply(200, {"cancelled": True})]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.start(execution_id, {})
        upstream.status(execution_id)
        upstream.cancel(execution_id)
    assert [request.target for request in server.requests] == [
        f"/v1/executions/{IDS[execution_id]}/async",
        f"/v1/executions/{IDS[execution_id]}",
        f"/v1/executions/{IDS[execution_id]}",
    ]


@pytest.mark.parametrize(
    "execution_id",
    ["", ".", "..", "a\nb", "a\r\nX-Evil: 1", "a\x00", "a\u2028b", "a\u200bb", "\ud800", "x" * 201],
)
def test_an_invalid_id_is_not_sent(execution_id: str) -> None:
    with ScriptedServer([RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for call in (upstream.status, upstream.cancel, lambda id_: upstream.start(id_, {})):
            with pytest.raises(InvalidRequestError):
                call(execution_id)
        assert server.connections == 0


# Errors by whether the call may have been carried out


def test_every_http_status_of_a_start_raises_the_right_kind_of_error() -> None:
    for status in range(200, 600):
        body = b"" if status in {204, 304} else b'{"detail":"why"}'
        error = error_of_start(reply(status, body, close=True))
        if status in {429, 503, 521, 523, 525, 526, 530}:
            expected: type[UpstreamError] = UpstreamUnavailableError
        elif 300 <= status < 500 and status != 408:
            expected = UpstreamRefusedError
        else:
            # A success without an id, a timeout or a fault of the upstream: the job may be running.
            expected = PerhapsAcceptedError
        assert type(error) is expected, status
        assert error.status == status


@pytest.mark.parametrize("status", [101, 103, 199, 600, 799, 999])
def test_a_start_with_an_invalid_http_status_may_have_been_carried_out(status: int) -> None:
    assert isinstance(error_of_start(reply(status, b"", close=True)), PerhapsAcceptedError)


def test_a_provisional_response_is_skipped() -> None:
    body = json.dumps({"execution_id": "e"}).encode()
    provisional = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 21\r\n\r\n"
    with ScriptedServer([raw(provisional + body)]) as server:
        assert start(server.url) == "e"


FAULTS: dict[str, Step] = {
    "hung up": hang_up,
    "reset": reset,
    "garbage": raw(b"\x00\x01\x02 hello\r\n\r\n"),
    "SSH": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "no status": raw(b"HTTP/1.1\r\n\r\n"),
    "a status of letters": raw(b"HTTP/1.1 OK 200\r\n\r\n"),
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "a header without end": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n{}"),
    "headers without end": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}"),
    "less than announced": reply(202, {"execution_id": "e"}, length=500, close=True),
    "a length of letters": raw(HEAD + b"Content-Length: many\r\n\r\n{"),
    "a negative length": raw(HEAD + b"Content-Length: -5\r\n\r\n{"),
    "two lengths": raw(HEAD + b"Content-Length: 2\r\nContent-Length: 22\r\n\r\n{}"),
    "chunks that break off": chunked(b'{"execution_id":"e"', finish=False),
    "a chunk of letters": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n"),
    "HTML": reply(200, "<html><body>Welcome</body></html>", {"Content-Type": "text/html"}),
    "nothing": reply(202, b""),
    "half a document": reply(202, '{"execution_id":"e'),
    "a list": reply(202, "[]"),
    "null": reply(202, "null"),
    "no id": reply(202, {"id": "e"}),
    "an id of null": reply(202, {"execution_id": None}),
    "an id of digits": reply(202, {"execution_id": 5}),
    "an empty id": reply(202, {"execution_id": ""}),
    "an id that is a path": reply(202, {"execution_id": ".."}),
    "an id with a line break": reply(202, {"execution_id": "a\nb"}),
    "an endless id": reply(202, {"execution_id": "x" * 201}),
    "half a surrogate pair for an id": reply(202, '{"execution_id":"\\ud800"}'),
    "an answer in an unknown encoding": reply(202, b'{"execution_id":"e"}', {"Content-Encoding": "br"}),
    "an answer with a wrong encoding": reply(202, b"{", {"Content-Encoding": "gzip"}),
    "another encoding": reply(202, '{"execution_id":"größe"}'.encode("latin-1")),
    "more than the limit": reply(202, '{"x":"' + "x" * 100_000 + '","execution_id":"e"}'),
    "a bottomless document": reply(202, '{"x":' + "[" * 30_000 + "]" * 30_000 + "}"),
    "digits without end": reply(202, '{"x":' + "9" * 5000 + ',"execution_id":"e"}'),
}


@pytest.mark.parametrize("step", FAULTS.values(), ids=FAULTS)
def test_a_start_without_a_usable_answer_may_have_been_carried_out(step: Step) -> None:
    error = error_of_start(step)
    assert type(error) is PerhapsAcceptedError
    assert error.code in {"no_answer", "unusable_answer"}
    assert len(error.message) < 400


@pytest.mark.parametrize("disconnect", [reset, hang_up])
def test_a_start_on_a_connection_lost_before_it_was_read_may_have_been_carried_out(disconnect: Step) -> None:
    def unread(connection: socket.socket) -> None:
        # Wait for the first byte, so that the connection was established.
        connection.recv(1, socket.MSG_PEEK)
        disconnect(connection)

    with ScriptedServer([STARTED], before_reading=unread) as server:
        assert type(error_of(lambda: start(server.url))) is PerhapsAcceptedError
    assert server.requests == []


@pytest.mark.usefixtures("short_timeouts")
def test_a_start_without_a_response_may_have_been_carried_out() -> None:
    error = error_of_start(stall())
    assert (type(error), error.code) == (PerhapsAcceptedError, "no_answer")


def test_a_start_to_a_port_that_refuses_connections_was_not_accepted() -> None:
    with closed_port() as port:
        error = error_of(lambda: start(f"http://127.0.0.1:{port}"))
    assert (type(error), error.code, error.status) == (UpstreamUnavailableError, "unreachable", None)


def test_a_start_to_an_unknown_host_was_not_accepted() -> None:
    assert type(error_of(lambda: start("https://unknown.invalid"))) is UpstreamUnavailableError


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    "before",
    [reset, hang_up, stall(), raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), raw(b"\x15\x03\x01\x00\x02\x02\x28")],
    ids=["reset", "hung up", "stalled", "plain HTTP", "an alert"],
)
def test_a_start_whose_tls_handshake_fails_was_not_accepted(before: Step) -> None:
    with ScriptedServer([STARTED], before_reading=before) as server:
        error = error_of(lambda: start(server.url.replace("http:", "https:")))
    assert (type(error), error.code) == (UpstreamUnavailableError, "unreachable")
    assert server.requests == []


def test_a_server_with_an_untrusted_certificate_receives_no_request(over_tls: ssl.SSLContext) -> None:
    with ScriptedServer([STARTED], context=over_tls) as server:
        error = error_of(lambda: start(server.url))
    assert (type(error), server.requests) == (UpstreamUnavailableError, [])


@pytest.mark.usefixtures("trusted")
def test_a_server_with_a_certificate_for_another_name_receives_no_request(over_tls: ssl.SSLContext) -> None:
    with ScriptedServer([STARTED], context=over_tls) as server:
        error = error_of(lambda: start(server.url.replace("127.0.0.1", "localhost")))
    assert (type(error), server.requests) == (UpstreamUnavailableError, [])


@pytest.mark.usefixtures("trusted")
def test_tls_connections_are_reused_except_for_the_start(
    over_tls: ssl.SSLContext,
) -> None:
    with ScriptedServer([RUNNING, STARTED, RUNNING], context=over_tls) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("e").status == "RUNNING"
        assert upstream.start("support-chat", {}) == UPSTREAM_ID
        assert upstream.status("e").status == "RUNNING"
    assert [request.connection for request in server.requests] == [1, 2, 1]


@pytest.mark.usefixtures("trusted", "short_timeouts")
@pytest.mark.parametrize("name", ["a body without a length", "headers"])
def test_a_slow_response_over_tls_ends_with_the_time_limit(over_tls: ssl.SSLContext, name: str) -> None:
    with ScriptedServer([DRIPS[name]], context=over_tls) as server:
        began = time.monotonic()
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert type(error) is PerhapsAcceptedError
    assert time.monotonic() - began < DRIPS_LAST_S / 3


def test_all_connections_share_one_tls_context_that_verifies_certificates() -> None:
    assert client_module.shared_ssl_context() is client_module.shared_ssl_context()
    assert client_module.shared_ssl_context().verify_mode is ssl.CERT_REQUIRED
    assert client_module.shared_ssl_context().check_hostname


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("007", 7),
        ("9" * 400, 999_999_999),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("1e3", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 32 Dec 1999 23:59:59 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 1999 23:59:59 +9999", None),
        ("31 Dec", None),
        (",", None),
        ("0 ,", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_and_otherwise_ignored(
    value: str, seconds: float | None
) -> None:
    assert error_of_start(reply(429, b"{}", {"Retry-After": value})).retry_after_s == seconds


def test_retry_after_as_a_date_is_relative_to_now() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    error = error_of_start(reply(429, b"{}", {"Retry-After": later}))
    assert error.retry_after_s == pytest.approx(100, abs=5)


# Connections


def test_status_requests_share_one_connection() -> None:
    with ScriptedServer([RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for _ in range(5):
            upstream.status("e")
    assert (len(server.requests), server.connections) == (5, 1)


def test_a_connection_is_reused_after_an_error_with_a_body() -> None:
    with ScriptedServer([reply(500, {"detail": "x"}), reply(404, "<html>"), RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for _ in range(2):
            error_of(lambda: upstream.status("e"))
        upstream.status("e")
    assert server.connections == 1


def test_a_start_has_a_connection_of_its_own() -> None:
    """A reused connection may already be closed. A failed POST would then not show whether it was received."""
    with ScriptedServer([RUNNING, STARTED, RUNNING, STARTED]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        upstream.status("e")
        upstream.start("support-chat", {})
        upstream.status("e")
        upstream.start("support-chat", {})
    assert [request.connection for request in server.requests] == [1, 2, 1, 3]
    assert server.requests[1].headers["connection"] == "close"


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    with ScriptedServer([reply(200, {"status": "RUNNING"}, close=True)]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        for _ in range(3):
            assert upstream.status("e").status == "RUNNING"
            time.sleep(0.05)
    assert server.connections == 3


@pytest.mark.parametrize(
    "broken", [hang_up, reset, reply(200, "{", length=99, close=True), reply(200, "x" * 7_000_000)]
)
def test_a_broken_response_does_not_affect_the_next_request(broken: Step) -> None:
    with ScriptedServer([broken, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        with contextlib.suppress(UpstreamError):
            upstream.status("e")
        assert upstream.status("e").status == "RUNNING"


def test_extra_bytes_after_a_response_are_not_read_as_the_next_response() -> None:
    forged = b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"status":"COMPLETED"}'
    body = b'{"status":"RUNNING"}'
    double = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + body + forged, close=False)
    with ScriptedServer([double, RUNNING]) as server:
        upstream = WaterflaiClient(server.url, FakeKey())
        assert upstream.status("e").status == "RUNNING"
        assert upstream.status("e").status == "RUNNING"


# The key


def test_a_call_with_401_is_repeated_with_a_rotated_key() -> None:
    with ScriptedServer([reply(401, {"detail": "no"}), STARTED]) as server:
        key = FakeKey("old", "new")
        assert WaterflaiClient(server.url, key).start("support-chat", {}) == UPSTREAM_ID
    assert [request.headers["x-api-key"] for request in server.requests] == ["old", "new"]


def test_a_call_with_401_is_not_repeated_with_the_same_key() -> None:
    with ScriptedServer([reply(401, {"detail": "no"})]) as server:
        key = FakeKey("old")
        error = error_of(lambda: WaterflaiClient(server.url, key).start("support-chat", {}))
    assert (type(error), error.status, len(server.requests), key.refreshes) == (
        UpstreamRefusedError,
        401,
        1,
        1,
    )


def test_a_call_is_not_repeated_after_a_second_401() -> None:
    with ScriptedServer([reply(401, {"detail": "no"})]) as server:
        key = FakeKey("old", "new", "newer")
        error = error_of(lambda: WaterflaiClient(server.url, key).start("support-chat", {}))
    assert (type(error), len(server.requests), key.refreshes) == (UpstreamRefusedError, 2, 1)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_the_key_is_not_read_again_after_another_status(status: int) -> None:
    with ScriptedServer([reply(status, {"detail": "no"})]) as server:
        key = FakeKey("old", "new")
        error_of(lambda: WaterflaiClient(server.url, key).status("e"))
    assert (key.refreshes, len(server.requests)) == (0, 1)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    with ScriptedServer([STARTED]) as elsewhere:
        for location in (f"{elsewhere.url}/v1/executions/x", "//evil.test/", "/elsewhere", ""):
            with ScriptedServer([reply(status, b"", {"Location": location})]) as server:
                for call in every_call(server.url):
                    error = error_of(call)
                    assert (type(error), error.code) == (UpstreamRefusedError, "redirected")
                    assert "evil" not in error.message
                assert len(server.requests) == 3
        assert elsewhere.connections == 0


ECHOES: dict[str, Step] = {
    "in a detail": reply(500, {"detail": f"key {KEY} is bad"}),
    "in a refusal": reply(403, {"detail": f"{KEY}"}),
    "in a 429": reply(429, {"detail": f"{KEY} too often"}),
    "in HTML": reply(502, f"<html>{KEY}</html>"),
    "in a redirect": reply(302, b"", {"Location": f"https://evil.test/?k={KEY}"}),
    "in a status line": raw(f"HTTP/1.1 {KEY} x\r\n\r\n".encode()),
    "in no HTTP": raw(f"{KEY}\r\n\r\n".encode()),
    "in a header": raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n{{".encode()),
    "in a length": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n{{".encode()),
    "in a chunk": raw(HEAD + f"Transfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode()),
    "in no JSON": reply(200, f'{{"{KEY}'),
    "in a name with depth": reply(200, f'{{"{KEY}":' + "[" * 30_000 + "]" * 29_000 + "}"),
    "in a retry-after": reply(503, b"{}", {"Retry-After": KEY}),
} | {
    # A key that is clipped before its redaction would not be recognized.
    f"in a detail, {before} characters from its start": reply(500, {"detail": "x" * before + KEY + "y" * 999})
    for before in (270, 280, 290, 295, 299, 300, 590, 599)
}


@pytest.mark.parametrize("step", ECHOES.values(), ids=ECHOES)
def test_a_key_that_the_upstream_returns_is_in_no_error(step: Step) -> None:
    parts = {KEY[at : at + 8] for at in range(len(KEY) - 7)}
    with ScriptedServer([step]) as server:
        for call in every_call(server.url):
            error = error_of(call)
            for text in (str(error), repr(error), error.message, error.code, repr(error.args)):
                assert not any(part in text for part in parts), text


def test_no_text_of_a_client_contains_the_key() -> None:
    upstream = WaterflaiClient("https://api.waterflai.test", FakeKey())
    assert KEY not in repr(upstream) + str(vars(upstream))


def test_a_detail_is_clipped_and_on_one_line() -> None:
    error = error_of_start(reply(422, {"detail": "line\none\x00" + "x" * 5000}))
    assert error.message.startswith("HTTP 422: line one x")
    assert len(error.message) < 400


@pytest.mark.parametrize("detail", [None, 5, [], {"a": 1}, [{"msg": "x"}]])
def test_a_detail_that_is_not_a_text_is_ignored(detail: object) -> None:
    assert error_of_start(reply(422, {"detail": detail})).message == "HTTP 422"


# The status document


def test_the_output_of_a_status_is_unchanged() -> None:
    text = '{"status":"COMPLETED","final_output":{ "n":12345678901234567890, "f":1.0 }}'
    with ScriptedServer([reply(200, text)]) as server:
        document = WaterflaiClient(server.url, FakeKey()).status("e")
    assert document.final_output_json == '{ "n":12345678901234567890, "f":1.0 }'


@pytest.mark.parametrize(
    "body",
    [b"\xef\xbb\xbf" + b'{"status":"RUNNING"}', b' \r\n{"status":"RUNNING"}\n'],
    ids=["a byte order mark", "space around it"],
)
def test_a_byte_order_mark_and_spaces_around_a_status_are_ignored(body: bytes) -> None:
    with ScriptedServer([reply(200, body)]) as server:
        assert WaterflaiClient(server.url, FakeKey()).status("e").status == "RUNNING"


def test_a_status_in_chunks_of_one_byte_is_read() -> None:
    body = '{"status":"COMPLETED","final_output":{"t":"ß🙂"}}'.encode()
    with ScriptedServer([chunked(*(bytes([value]) for value in body))]) as server:
        assert WaterflaiClient(server.url, FakeKey()).status("e").final_output_json == '{"t":"ß🙂"}'


UNREADABLE = [name for name in FAULTS if " id" not in name and name not in {"more than the limit", "no id"}]


@pytest.mark.parametrize(
    "name", [name for name in UNREADABLE if name not in {"digits without end", "a bottomless document"}]
)
def test_a_status_that_cannot_be_read_raises_perhaps_accepted(name: str) -> None:
    with ScriptedServer([FAULTS[name]]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
    assert type(error) is PerhapsAcceptedError
    assert len(error.message) < 400


def status_body(size_bytes: int) -> bytes:
    frame = b'{"status":"COMPLETED","final_output":{"t":""}}'
    return frame[:-3] + b"x" * (size_bytes - len(frame)) + frame[-3:]


SHORT_BYTES = 256 * 1024


def test_a_status_of_the_limit_is_read_completely() -> None:
    with ScriptedServer([reply(200, status_body(SHORT_BYTES))]) as server:
        document = WaterflaiClient(server.url, FakeKey()).status("e", limit_bytes=SHORT_BYTES)
    assert not document.too_large
    assert len(document.final_output_json or "") == SHORT_BYTES - len(
        '{"status":"COMPLETED","final_output":}'
    )


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_status_beyond_a_short_limit_has_its_outcome_and_no_output(*, in_chunks: bool) -> None:
    body = status_body(SHORT_BYTES + 1)
    with ScriptedServer([chunked(body) if in_chunks else reply(200, body)]) as server:
        document = WaterflaiClient(server.url, FakeKey()).status("e", limit_bytes=SHORT_BYTES)
    assert (document.outcome, document.too_large, document.final_output_json) == (
        Status.COMPLETED,
        True,
        None,
    )


def test_the_fields_after_the_output_are_read_from_a_status_beyond_the_largest_limit() -> None:
    body = b'{"final_output":"' + b"x" * (MAX_STATUS_BYTES + 1_000_000)
    body += b'","status":"COMPLETED","completed_at":"2026-01-01T00:00:00Z"}'
    with ScriptedServer([reply(200, body)]) as server:
        document = WaterflaiClient(server.url, FakeKey()).status("e")
    assert (document.outcome, document.completed_at) == (Status.COMPLETED, NOW)
    assert (document.output_error, document.final_output_json) == ("too_large", None)


def test_a_status_that_is_cut_inside_of_a_character_is_read() -> None:
    for shift in range(4):
        body = b'{"status":"COMPLETED","final_output":{"t":"' + b"x" * shift + "🙂".encode() * 70_000
        with ScriptedServer([reply(200, body)]) as server:
            status = WaterflaiClient(server.url, FakeKey()).status("e", limit_bytes=SHORT_BYTES)
        assert status.outcome is Status.COMPLETED


def flawed(*steps: Step, **options: Any) -> FlawedDocumentError:
    with ScriptedServer(list(steps)) as server, pytest.raises(FlawedDocumentError) as caught:
        WaterflaiClient(server.url, FakeKey(), **options).status("e")
    return caught.value


DONE = '{"status":"COMPLETED","completed_at":"2026-01-01T00:00:00Z","final_output":'
BROKEN: dict[str, Step] = {
    "NaN in it": reply(200, DONE + '{"a":NaN}}', {"Retry-After": "7"}),
    "a byte that is no UTF-8": reply(200, DONE.encode() + b'"\xff"}', {"Retry-After": "7"}),
    "closed in it": reply(200, DONE + '{"a":', {"Retry-After": "7"}, length=5000, close=True),
    "a chunk that is none": raw(
        HEAD + b"Retry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\nzz\r\n" % (len(DONE) + 1, (DONE + "[").encode())
    ),
}


@pytest.mark.parametrize("step", BROKEN.values(), ids=BROKEN)
def test_a_status_with_an_unreadable_output_raises_a_flawed_document_with_its_outcome(step: Step) -> None:
    error = flawed(step)
    assert (error.code, error.status, error.retry_after_s) == ("unusable_answer", 200, 7)
    assert error.message == "HTTP 200 with status COMPLETED, but the output is invalid JSON or breaks off"
    document = error.document
    assert (document.outcome, document.completed_at, document.output_error) == (
        Status.COMPLETED,
        NOW,
        "unreadable",
    )


def test_an_output_that_takes_longer_than_the_call_is_too_slow() -> None:
    slow = drip(b"1," * 1000, 0.05, head=HEAD + b"\r\n" + DONE.encode() + b"[")
    began = time.monotonic()
    assert flawed(slow, budget_s=1.0).document.output_error == "too_slow"
    assert time.monotonic() - began < 30


def test_a_status_that_breaks_off_without_an_outcome_is_no_answer() -> None:
    for text in ('{"status":"RUNNING","progress":', '{"status":"RUNNING"}', '{"x":1', "<html>"):
        with ScriptedServer([reply(200, text, length=5000, close=True)]) as server:
            error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
        assert (type(error), error.code, error.status) == (PerhapsAcceptedError, "no_answer", 200)


def test_an_endless_error_is_not_read_completely() -> None:
    def endless(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65_536)

    began = time.monotonic()
    error = error_of_start(endless)
    assert (type(error), error.status) == (PerhapsAcceptedError, 500)
    assert time.monotonic() - began < 60  # without the limit it would not end


# The time limit of a call


DRIPS_LAST_S = 100
"""Seconds that the shortest drip takes, if it is read to its end."""
DRIPS: dict[str, Step] = {
    "a body": drip(b"x" * 1000, 0.1, head=HEAD + b"Content-Length: 1000\r\n\r\n"),
    "a body without a length": drip(b" " * 1000, 0.1, head=HEAD + b"\r\n"),
    "chunks": drip(b"1\r\n \r\n" * 200, 0.1, head=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "a chunk size": drip(b"0" * 1000, 0.1, head=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    "an error": drip(b"x" * 1000, 0.1, head=b"HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\n"),
    "a status line": drip(b"HTTP/1.1 200 " + b"O" * 1000, 0.1),
    "headers": drip(b"X: y\r\n" * 200, 0.1, head=HEAD),
    "provisional answers": drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, 0.1),
}


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("step", DRIPS.values(), ids=DRIPS)
def test_a_slow_response_ends_with_the_time_limit(step: Step) -> None:
    """Each byte arrives within the read timeout, but the whole response would take longer than the call may."""
    with ScriptedServer([step]) as server:
        began = time.monotonic()
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).status("e"))
        took_s = time.monotonic() - began
    assert type(error) is PerhapsAcceptedError
    assert took_s < DRIPS_LAST_S / 3


@pytest.mark.usefixtures("short_timeouts")
def test_the_time_limit_includes_the_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT_S", 60.0)
    slow_401 = drip(b'{"detail":"no"}', 0.01, head=b"HTTP/1.1 401 No\r\nContent-Length: 15\r\n\r\n")
    with ScriptedServer([slow_401, stall(60)]) as server:
        began = time.monotonic()
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey("old", "new")).status("e"))
        took_s = time.monotonic() - began
    assert type(error) is PerhapsAcceptedError
    assert len(server.requests) == 2
    assert took_s < 30


# The cancellation


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            {"cancelled": True, "message": "ok", "previous_status": "RUNNING"},
            CancelResult(cancelled=True, message="ok", previous_status="RUNNING"),
        ),
        ({"cancelled": False}, CancelResult(cancelled=False, message=None, previous_status=None)),
        ({}, CancelResult(cancelled=None, message=None, previous_status=None)),
        ({"cancelled": "true"}, CancelResult(cancelled=None, message=None, previous_status=None)),
        ({"cancelled": 1}, CancelResult(cancelled=None, message=None, previous_status=None)),
        (
            {"cancelled": True, "message": 5, "previous_status": ["RUNNING"]},
            CancelResult(cancelled=True, message=None, previous_status=None),
        ),
    ],
)
def test_a_cancel_result_is_read_only_from_fields_of_the_right_type(
    body: dict[str, Any], answer: CancelResult
) -> None:
    with ScriptedServer([reply(200, body)]) as server:
        assert WaterflaiClient(server.url, FakeKey()).cancel("e") == answer
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("DELETE", "/v1/executions/e", b"")


@pytest.mark.parametrize("step", [reply(200, "<html>"), reply(200, "[]"), hang_up])
def test_a_cancel_without_a_usable_answer_may_have_been_carried_out(step: Step) -> None:
    with ScriptedServer([step]) as server:
        error = error_of(lambda: WaterflaiClient(server.url, FakeKey()).cancel("e"))
    assert type(error) is PerhapsAcceptedError
