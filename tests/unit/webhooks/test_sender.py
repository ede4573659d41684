"""Requests to real TLS servers on the loopback interface, which operators would allow as private receivers."""

import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
import trustme

from tests.fakes.scripted_server import (
    ScriptedServer,
    Step,
    closed_port,
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
from waterhook.deadline_connection import MAX_INTERIM_ANSWERS, shared_ssl_context
from waterhook.domain.webhook_url import WebhookRules
from waterhook.errors import DependencyUnavailableError, ReceiverError
from waterhook.webhooks import sender as sender_module
from waterhook.webhooks.resolver import resolve
from waterhook.webhooks.sender import (
    MAX_TRIED_ADDRESSES,
    Attempt,
    AttemptError,
    WebhookSender,
    connect_socket,
)

HOST = "hooks.example.com"
RULES = WebhookRules(("*", "127.0.0.1", "::1"), (ip_network("127.0.0.0/8"), ip_network("::1")))
BODY = b'{"id":"e/1/COMPLETED"}'
HEADERS = {
    "Content-Type": "application/cloudevents+json; charset=utf-8",
    "webhook-id": "e/1/COMPLETED",
    "User-Agent": "Waterhook",
}
# A reachable receiver is never slower than this in a test, and a hanging one is waited for as long.
TIMEOUT_S = 0.5
FAST_S = 5.0


def server_context(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's context with a certificate for HOST."""
    return server_context(authority, HOST)


@pytest.fixture
def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def answers(*addresses: str) -> Callable[..., list[IPv4Address | IPv6Address]]:
    """Return a resolver with these addresses for every host."""
    return lambda host, port, *, timeout_s: [ip_address(address) for address in addresses]


def send(
    server: ScriptedServer | int,
    pem: str | None,
    *,
    timeout_s: float = FAST_S,
    path: str = "/hook?token=s3cret",
    body: bytes = BODY,
    resolver: Callable[..., Any] | None = None,
) -> Attempt:
    port = server if isinstance(server, int) else server.port
    sender = WebhookSender(
        RULES, ca_pem=lambda: pem or "", resolve=resolver or answers("127.0.0.1"), timeout_s=timeout_s
    )
    return sender.send(f"https://{HOST}:{port}{path}", body, HEADERS)


# The request


def test_the_event_is_posted_to_the_url_and_a_204_is_a_delivery(context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([raw(b"HTTP/1.1 204 No Content\r\n\r\n")], context=context) as server:
        attempt = send(server, pem)
    assert (attempt.code, attempt.error, attempt.retry_after_s) == (204, None, None)
    assert attempt.is_delivered
    assert not attempt.is_gone
    assert not attempt.host_failed
    assert 0 < attempt.latency_ms < FAST_S * 1000
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/hook?token=s3cret", BODY)
    assert request.headers == {
        "host": f"{HOST}:{server.port}",
        "content-type": "application/cloudevents+json; charset=utf-8",
        "content-length": str(len(BODY)),
        "webhook-id": "e/1/COMPLETED",
        "user-agent": "Waterhook",
        "accept-encoding": "identity",
        "connection": "close",
    }


def test_the_target_is_sent_as_it_was_given(context: ssl.SSLContext, pem: str) -> None:
    target = "//a/../%2E%2e/b;c?d=/?&e=%00"
    with ScriptedServer([reply(200)], context=context) as server:
        assert send(server, pem, path=target).is_delivered
    assert server.requests[0].target == target


def test_each_request_has_a_connection_of_its_own(context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(200)], context=context) as server:
        sender = WebhookSender(RULES, ca_pem=lambda: pem, resolve=answers("127.0.0.1"))
        for _ in range(2):
            assert sender.send(f"https://{HOST}:{server.port}/", BODY, {}).is_delivered
    assert server.connections == 2
    assert server.requests[0].headers["user-agent"] == "Waterhook"


def test_proxies_of_the_environment_are_not_used(
    context: ssl.SSLContext, pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as port, ScriptedServer([reply(200)], context=context) as server:
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{port}")
        assert send(server, pem).is_delivered


def test_a_large_event_is_sent_completely(context: ssl.SSLContext, pem: str) -> None:
    body = os.urandom(6 * 1024 * 1024)
    with ScriptedServer([reply(200)], context=context) as server:
        assert send(server, pem, body=body).is_delivered
    assert server.requests[0].body == body


# Answers

STATUSES = {
    200: (None, False),
    201: (None, False),
    299: (None, False),
    300: ("redirect", False),
    304: ("redirect", False),
    307: ("redirect", False),
    400: ("http_status", False),
    401: ("http_status", False),
    404: ("http_status", False),
    408: ("http_status", True),
    410: ("http_status", False),
    413: ("http_status", False),
    429: ("http_status", True),
    500: ("http_status", True),
    503: ("http_status", True),
    999: ("http_status", True),
}


@pytest.mark.parametrize(("code", "expected"), STATUSES.items(), ids=str)
def test_only_2xx_is_a_delivery_and_only_a_failing_host_counts_against_the_host(
    code: int, expected: tuple[str | None, bool], context: ssl.SSLContext, pem: str
) -> None:
    with ScriptedServer([reply(code)], context=context) as server:
        attempt = send(server, pem)
    assert attempt.code == code
    assert (attempt.error, attempt.host_failed) == expected
    assert attempt.is_delivered == (code < 300)
    assert attempt.is_gone == (code == 410)


def test_a_redirect_is_a_failure_and_is_not_followed(context: ssl.SSLContext, pem: str) -> None:
    steps = [reply(302, headers={"Location": f"https://{HOST}/other"}), reply(200)]
    with ScriptedServer(steps, context=context) as server:
        attempt = send(server, pem)
    assert (attempt.code, attempt.error) == (302, "redirect")
    assert server.connections == 1


@pytest.mark.parametrize("code", [200, 429, 503])
def test_retry_after_is_read_as_seconds(code: int, context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(code, headers={"Retry-After": "120"})], context=context) as server:
        assert send(server, pem).retry_after_s == 120


@pytest.mark.parametrize(("offset_s", "expected"), [(100, 100), (-100, 0)])
def test_retry_after_is_read_as_a_date(
    offset_s: float, expected: float, context: ssl.SSLContext, pem: str
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=offset_s), usegmt=True)
    with ScriptedServer([reply(429, headers={"Retry-After": date})], context=context) as server:
        assert send(server, pem).retry_after_s == pytest.approx(expected, abs=5)


@pytest.mark.parametrize("value", ["soon", "-1", "", "1, 2", "Fri, 32 Dec 1999 23:59:59 GMT"])
def test_an_unreadable_retry_after_is_ignored(value: str, context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(503, headers={"Retry-After": value})], context=context) as server:
        attempt = send(server, pem)
    assert (attempt.code, attempt.retry_after_s) == (503, None)


def test_interim_answers_are_skipped(context: ssl.SSLContext, pem: str) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 5\r\n\r\n"
    with ScriptedServer([sequence(interim * 2, reply(410))], context=context) as server:
        attempt = send(server, pem)
    assert (attempt.code, attempt.retry_after_s) == (410, None)


def test_an_early_answer_to_a_large_event_is_read(context: ssl.SSLContext, pem: str) -> None:
    """The server answers after the head of the request, and discards the body, like nginx."""

    def early(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1024)
            tls.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            while tls.recv(65_536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=early, args=(listening,))
        thread.start()
        attempt = send(listening.getsockname()[1], pem, body=b"x" * 5_000_000)
        thread.join()
    assert (attempt.code, attempt.error) == (413, "http_status")


# Bodies of answers: only the status counts

HUGE = b"x" * 50_000_000
BODIES: dict[str, Step] = {
    "huge": reply(200, HUGE),
    "endless": sequence(b"HTTP/1.1 200 OK\r\n\r\n", repeat(b"x" * 65_536)),
    "endless chunks": sequence(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", repeat(b"1\r\nx\r\n" * 1_000)
    ),
    "endless trailers": sequence(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", repeat(b"a: b\r\n" * 1_000)
    ),
    "shorter than its length": reply(200, b"{}", length=100, close=True),
    "missing": sequence(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", stall()),
    "a drip": drip(b"x" * 1_000, 0.05, head=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    "no chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "broken gzip": reply(200, b"no gzip", {"Content-Encoding": "gzip"}),
    "reset": sequence(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx", pause(0.1), reset),
}


@pytest.mark.parametrize("step", BODIES.values(), ids=BODIES)
def test_the_body_of_an_answer_does_not_change_the_result(
    step: Step, context: ssl.SSLContext, pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "MAX_BODY_S", 0.2)
    with ScriptedServer([step], context=context) as server:
        began = time.monotonic()
        attempt = send(server, pem)
        assert time.monotonic() - began < 2
    assert attempt.is_delivered


def test_the_body_is_read_until_the_deadline_at_most(
    context: ssl.SSLContext, pem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "MAX_BODY_S", 4.0)
    with ScriptedServer([BODIES["missing"]], context=context) as server:
        began = time.monotonic()
        assert send(server, pem, timeout_s=TIMEOUT_S).is_delivered
        assert time.monotonic() - began < TIMEOUT_S + 1


# Receivers that hang

HANGS: dict[str, Step] = {
    "no answer": stall(),
    "half a status line": sequence(b"HTTP/1.1 20", stall()),
    "half a head": sequence(b"HTTP/1.1 200 OK\r\nX: y\r\n", stall()),
    "a drip": drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000, 0.05),
    "a drip of headers": sequence(b"HTTP/1.1 200 OK\r\n", repeat(b"X: y\r\n", 0.1)),
    "a drip of interim answers": repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.1),
}


@pytest.mark.parametrize("step", HANGS.values(), ids=HANGS)
def test_an_answer_after_the_deadline_is_a_timeout(step: Step, context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([step], context=context) as server:
        began = time.monotonic()
        attempt = send(server, pem, timeout_s=TIMEOUT_S)
        assert TIMEOUT_S * 0.9 < time.monotonic() - began < TIMEOUT_S + 1
    assert (attempt.code, attempt.error, attempt.host_failed) == (None, "timeout", True)
    assert attempt.latency_ms >= TIMEOUT_S * 900


@pytest.mark.parametrize(
    "before_reading", [stall(), drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 1_000, 0.05)], ids=["hang", "drip"]
)
def test_a_tls_handshake_after_the_deadline_is_a_timeout(
    before_reading: Step, context: ssl.SSLContext, pem: str
) -> None:
    with ScriptedServer([reply()], context=context, before_reading=before_reading) as server:
        began = time.monotonic()
        attempt = send(server, pem, timeout_s=TIMEOUT_S)
        assert time.monotonic() - began < TIMEOUT_S + 1
    assert attempt.error == "timeout"


def test_a_receiver_that_does_not_read_is_a_timeout(context: ssl.SSLContext, pem: str) -> None:
    def ignore(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True):
            done.wait(10)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=ignore, args=(listening,))
        thread.start()
        began = time.monotonic()
        attempt = send(listening.getsockname()[1], pem, body=HUGE, timeout_s=TIMEOUT_S)
        assert time.monotonic() - began < TIMEOUT_S + 1
        done.set()
        thread.join()
    assert attempt.error == "timeout"


def test_a_slow_look_up_shortens_the_time_for_the_rest(context: ssl.SSLContext, pem: str) -> None:
    def slow(host: str, port: int, *, timeout_s: float) -> list[IPv4Address]:
        time.sleep(TIMEOUT_S * 0.6)
        return [IPv4Address("127.0.0.1")]

    with ScriptedServer([stall()], context=context) as server:
        began = time.monotonic()
        attempt = send(server, pem, timeout_s=TIMEOUT_S, resolver=slow)
        assert time.monotonic() - began < TIMEOUT_S + 0.4
    assert attempt.error == "timeout"


def test_connection_and_handshake_share_the_time(context: ssl.SSLContext, pem: str) -> None:
    def slow(address: tuple[str, int], timeout_s: float) -> socket.socket:
        time.sleep(TIMEOUT_S * 0.8)
        return connect_socket(address, timeout_s)

    with ScriptedServer([reply()], context=context, before_reading=stall()) as server:
        sender = WebhookSender(
            RULES, ca_pem=lambda: pem, resolve=answers("127.0.0.1"), connect=slow, timeout_s=TIMEOUT_S
        )
        attempt = sender.send(f"https://{HOST}:{server.port}/", BODY, HEADERS)
    assert attempt.error == "timeout"
    assert attempt.latency_ms < TIMEOUT_S * 1400


# Answers that are not HTTP

GARBAGE: dict[str, Step] = {
    "nothing": hang_up,
    "a reset": reset,
    "bytes": raw(bytes(range(256)) * 10),
    "text": raw(b"hello\r\n\r\n"),
    "HTTP/2": raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18),
    "a status that is no number": raw(b"HTTP/1.1 OK 200\r\n\r\n"),
    "a status of four digits": raw(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "another protocol": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "half a status line": raw(b"HTTP/1.1"),
    "a long status line": raw(b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"),
    "a long header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
    "many headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n"),
    "endless headers": sequence(b"HTTP/1.1 200 OK\r\n", repeat(b"X: " + b"y" * 60_000 + b"\r\n")),
    "endless interim answers": repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "many interim answers": raw(b"HTTP/1.1 103 Hints\r\n\r\n" * (MAX_INTERIM_ANSWERS + 1)),
    "a switch of protocols": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
}


@pytest.mark.parametrize("step", GARBAGE.values(), ids=GARBAGE)
def test_an_answer_that_is_not_http_is_a_bad_answer(
    step: Step, context: ssl.SSLContext, pem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer([step], context=context) as server:
        attempt = send(server, pem)
    assert (attempt.error, attempt.host_failed, attempt.is_delivered) == ("bad_answer", True, False)
    assert "s3cret" not in caplog.text


def test_a_connection_that_ends_while_the_event_is_sent_is_a_bad_answer(
    context: ssl.SSLContext, pem: str
) -> None:
    def close_early(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=close_early, args=(listening,))
        thread.start()
        attempt = send(listening.getsockname()[1], pem, body=HUGE)
        thread.join()
    assert (attempt.code, attempt.error) == (None, "bad_answer")


def test_headers_that_are_not_valid_are_ignored_and_not_logged(
    context: ssl.SSLContext, pem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    head = b"HTTP/1.1 200 OK\r\nno colon\r\n: no name\r\nX\xff: \x00\xfe\r\nContent-Length: x\r\n\r\n"
    with ScriptedServer([raw(head)], context=context) as server:
        assert send(server, pem).is_delivered
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]


# Connections


def test_a_refused_connection_is_no_connection(pem: str) -> None:
    with closed_port() as port:
        attempt = send(port, pem)
    assert (attempt.code, attempt.error, attempt.host_failed) == (None, "no_connection", True)


def test_a_reset_during_the_handshake_is_no_connection(context: ssl.SSLContext, pem: str) -> None:
    def reset_later(connection: socket.socket) -> None:
        connection.recv(1)  # bytes that are left unread make the close a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with ScriptedServer([reply()], context=context, before_reading=reset_later) as server:
        assert send(server, pem).error == "no_connection"


def test_the_next_address_is_used_if_one_refuses_the_connection(context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(200)], context=context) as server:
        attempt = send(server, pem, resolver=answers("127.0.0.7", "127.0.0.9", "127.0.0.1"))
    assert attempt.is_delivered
    assert len(server.requests) == 1


def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(
    context: ssl.SSLContext, pem: str
) -> None:
    def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
        if address[0] == "127.0.0.7":
            time.sleep(timeout_s)
            raise TimeoutError
        return connect_socket(address, timeout_s)

    with ScriptedServer([reply(200)], context=context) as server:
        sender = WebhookSender(
            RULES,
            ca_pem=lambda: pem,
            resolve=answers("127.0.0.7", "127.0.0.1"),
            connect=connect,
            timeout_s=1.0,
        )
        attempt = sender.send(f"https://{HOST}:{server.port}/", BODY, HEADERS)
    assert attempt.is_delivered
    assert 450 < attempt.latency_ms < 1_000


def test_at_most_some_addresses_are_tried(pem: str) -> None:
    tried = []

    def refuse(address: tuple[str, int], timeout_s: float) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    sender = WebhookSender(
        RULES, ca_pem=lambda: pem, resolve=answers(*(f"127.0.1.{n}" for n in range(1, 200))), connect=refuse
    )
    assert sender.send(f"https://{HOST}/", BODY, HEADERS).error == "no_connection"
    assert tried == [(f"127.0.1.{number}", 443) for number in range(1, MAX_TRIED_ADDRESSES + 1)]


def test_a_receiver_with_an_ipv6_address_gets_a_host_header_with_brackets(
    authority: trustme.CA, pem: str
) -> None:
    with ScriptedServer([reply(200)], context=server_context(authority, "::1"), host="::1") as server:
        sender = WebhookSender(RULES, ca_pem=lambda: pem)
        assert sender.send(f"https://[0::1]:{server.port}/", BODY, HEADERS).is_delivered
    assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_a_receiver_with_an_ipv4_address_is_verified_for_it(authority: trustme.CA, pem: str) -> None:
    with ScriptedServer([reply(200)], context=server_context(authority, "127.0.0.1")) as server:
        sender = WebhookSender(RULES, ca_pem=lambda: pem)
        assert sender.send(f"https://127.0.0.1:{server.port}/", BODY, HEADERS).is_delivered
    with ScriptedServer([reply(200)], context=server_context(authority, HOST)) as server:
        assert sender.send(f"https://127.0.0.1:{server.port}/", BODY, HEADERS).error == "tls"


def test_a_host_is_reached_at_its_ipv6_address(context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(200)], context=context, host="::1") as server:
        assert send(server, pem, resolver=answers("127.0.0.1", "::1")).is_delivered


# TLS


def untrusted() -> Iterator[tuple[str, Callable[[trustme.CA], ssl.SSLContext]]]:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    yield "another name", lambda authority: server_context(authority, "other.example.com")
    yield "a name below", lambda authority: server_context(authority, f"a.{HOST}")
    yield "a wildcard for one label", lambda authority: server_context(authority, "*.com")
    yield "the address", lambda authority: server_context(authority, "127.0.0.1")
    yield "a common name", lambda authority: server_context(authority, "other.example.com", common_name=HOST)
    yield "expired", lambda authority: server_context(authority, HOST, not_after=yesterday)
    yield (
        "not yet valid",
        lambda authority: server_context(authority, HOST, not_before=datetime.now(UTC) + timedelta(days=1)),
    )
    yield "an unknown authority", lambda _: server_context(trustme.CA(), HOST)


UNTRUSTED = dict(untrusted())


@pytest.mark.parametrize("build", UNTRUSTED.values(), ids=UNTRUSTED)
def test_an_untrusted_certificate_is_a_tls_error_and_nothing_is_sent(
    build: Callable[[trustme.CA], ssl.SSLContext], authority: trustme.CA, pem: str
) -> None:
    with ScriptedServer([reply(200)], context=build(authority)) as server:
        attempt = send(server, pem)
    assert (attempt.code, attempt.error, attempt.host_failed) == (None, "tls", True)
    assert server.requests == []


def test_a_tls_error_ends_the_attempt(authority: trustme.CA, pem: str) -> None:
    with ScriptedServer([reply(200)], context=server_context(authority, "other.example.com")) as server:
        assert send(server, pem, resolver=answers("127.0.0.1", "127.0.0.1", "::1")).error == "tls"
    assert server.connections == 1


def test_a_server_without_tls_is_a_tls_error_and_nothing_is_sent(pem: str) -> None:
    with ScriptedServer([reply(200)], before_reading=raw(b"HTTP/1.1 200 OK\r\n\r\n", close=False)) as server:
        assert send(server, pem).error == "tls"
    assert server.requests == []


def test_a_receiver_that_requires_a_client_certificate_is_a_tls_error(
    authority: trustme.CA, context: ssl.SSLContext, pem: str
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with ScriptedServer([reply(200)], context=context) as server:
        assert send(server, pem).error == "tls"


def test_tls_1_2_is_the_oldest_version(context: ssl.SSLContext, pem: str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ScriptedServer([reply(200)], context=context) as server:
        assert send(server, pem).is_delivered
    assert shared_ssl_context().minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_authorities_of_the_system_are_trusted_with_and_without_a_bundle(
    authority: trustme.CA, trusted: None, context: ssl.SSLContext
) -> None:
    bundle = trustme.CA().cert_pem.bytes().decode()
    with ScriptedServer([reply(200)], context=context) as server:
        for pem in (None, "", bundle):
            assert send(server, pem).is_delivered


def test_an_authority_of_the_bundle_is_not_trusted_without_it(context: ssl.SSLContext, pem: str) -> None:
    with ScriptedServer([reply(200)], context=context) as server:
        assert send(server, pem).is_delivered
        assert send(server, None).error == "tls"
    assert shared_ssl_context().check_hostname


def test_a_changed_bundle_is_used_for_the_next_request(context: ssl.SSLContext, pem: str) -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    bundles = [other, other + pem, other]
    with ScriptedServer([reply(200)], context=context) as server:
        sender = WebhookSender(RULES, ca_pem=lambda: bundles.pop(0), resolve=answers("127.0.0.1"))
        url = f"https://{HOST}:{server.port}/"
        assert [sender.send(url, BODY, HEADERS).error for _ in range(3)] == ["tls", None, "tls"]


@pytest.mark.parametrize("bundle", ["x", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "ä"])
def test_an_invalid_bundle_raises_and_no_receiver_is_blamed(bundle: str) -> None:
    with pytest.raises(DependencyUnavailableError, match="WebhookCaBundle"):
        send(1, bundle)


# Hosts and names


@pytest.mark.parametrize("url", ["https://other.example/", "http://hooks.example.com/", "x", ""])
def test_a_host_that_is_not_allowed_any_more_gets_no_request(url: str) -> None:
    def resolver(host: str, port: int, *, timeout_s: float) -> Sequence[IPv4Address]:
        pytest.fail("the host must not be resolved")

    sender = WebhookSender(WebhookRules((HOST,)), resolve=resolver)
    attempt = sender.send(url, BODY, HEADERS)
    assert attempt == Attempt(error="host_not_allowed")
    assert not attempt.host_failed


def test_a_failed_look_up_is_unresolved(pem: str) -> None:
    def resolver(host: str, port: int, *, timeout_s: float) -> Sequence[IPv4Address]:
        raise ReceiverError("unresolved")

    attempt = send(443, pem, resolver=resolver)
    assert (attempt.code, attempt.error, attempt.host_failed) == (None, "unresolved", True)


def test_a_host_is_resolved_once_with_its_port_and_the_remaining_time(pem: str) -> None:
    calls: list[Any] = []

    def resolver(host: str, port: int, *, timeout_s: float) -> Sequence[IPv4Address]:
        calls.append((host, port, timeout_s))
        return [IPv4Address("127.0.0.1")]

    with closed_port() as port:
        send(port, pem, resolver=resolver, timeout_s=3.0)
    assert calls == [(HOST, port, pytest.approx(3.0, abs=0.5))]


def test_the_codes_are_those_of_the_contract() -> None:
    assert sorted(AttemptError) == [
        *(
            "address_not_allowed",
            "bad_answer",
            "host_not_allowed",
            "http_status",
            "no_connection",
            "no_result",
        ),
        *("redirect", "timeout", "tls", "unresolved"),
    ]


def test_the_system_resolves_localhost_to_loopback_addresses() -> None:
    addresses = resolve("localhost", 443, timeout_s=5)
    assert addresses
    assert len(set(addresses)) == len(addresses)
    assert all(address.is_loopback for address in addresses)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "x" * 300])
def test_a_name_without_an_address_is_unresolved(host: str) -> None:
    with pytest.raises(ReceiverError, match="unresolved"):
        resolve(host, 443, timeout_s=10)


def test_a_look_up_that_hangs_ends_at_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: done.wait(10) and [])
    began = time.monotonic()
    with pytest.raises(ReceiverError, match="unresolved"):
        resolve(HOST, 443, timeout_s=0.2)
    assert time.monotonic() - began < 2
    done.set()
