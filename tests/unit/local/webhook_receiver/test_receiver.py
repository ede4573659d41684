"""The receiver of webhooks, over real connections."""

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from local.local_aws.local_authority import LocalAuthority
from local.webhook_receiver import (
    CLOSE,
    GARBAGE,
    GONE,
    HANG,
    OK,
    RESET,
    Answer,
    WebhookReceiver,
    drip,
    huge,
    redirect,
    slow,
    status,
)

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
BODY = json.dumps({"type": "waterhook.execution.completed", "data": {"text": "é"}}).encode()


@pytest.fixture(scope="module")
def local_authority() -> LocalAuthority:
    return LocalAuthority.create()


@pytest.fixture
def receiver(local_authority: LocalAuthority) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(local_authority, secret=SECRET) as receiver:
        yield receiver


def trusting(authority: LocalAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate_pem)


def signed(body: bytes = BODY, *, webhook_id: str = "id/1/COMPLETED", age_s: float = 0) -> dict[str, str]:
    attempted_at = int(time.time() - age_s)
    signature = Webhook(SECRET).sign(webhook_id, datetime.fromtimestamp(attempted_at, UTC), body.decode())
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(attempted_at),
        "webhook-signature": f"v1,AAAA {signature}",
    }


Send = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def send(receiver: WebhookReceiver, local_authority: LocalAuthority) -> Send:
    context = trusting(local_authority)

    def send(
        target: str = "/",
        *,
        headers: dict[str, str] | None = None,
        method: str = "POST",
        timeout_s: float = 5,
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(
            receiver.host, receiver.port, context=context, timeout=timeout_s
        )
        with closing(connection):
            connection.request(method, target, BODY, signed() if headers is None else headers)
            answer = connection.getresponse()
            answer.read()
            return answer

    return send


def test_a_webhook_with_a_valid_signature_is_stored_as_verified(
    receiver: WebhookReceiver, send: Send
) -> None:
    began = time.time()
    headers = signed()
    assert send("/hook?tenant=1", headers=headers).status == 200
    (webhook,) = receiver.wait_for(1)
    assert webhook.verified
    assert (webhook.method, webhook.target, webhook.body) == ("POST", "/hook?tenant=1", BODY)
    assert webhook.event["type"] == "waterhook.execution.completed"
    assert webhook.webhook_id == "id/1/COMPLETED"
    assert webhook.timestamp == headers["webhook-timestamp"]
    assert [signature[:3] for signature in webhook.signatures] == ["v1,", "v1,"]
    assert began <= webhook.received_at <= time.time()


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        (dict, "Missing required headers"),
        (lambda: signed(b"{}"), "No matching signature found"),
        (lambda: signed(age_s=600), "Message timestamp too old"),
        (lambda: signed() | {"webhook-timestamp": "soon"}, "Invalid Signature Headers"),
        (lambda: signed() | {"webhook-signature": "garbage"}, "malformed signature or body"),
    ],
    ids=["no signature", "another body", "old", "not a time", "garbage"],
)
def test_a_webhook_without_a_valid_signature_is_stored_with_the_reason(
    receiver: WebhookReceiver, send: Send, headers: Callable[[], dict[str, str]], problem: str
) -> None:
    # Signed now: a signature of the collection of the tests would be too old.
    assert send(headers=headers()).status == 200
    (webhook,) = receiver.requests
    assert not webhook.verified
    assert problem in str(webhook.problem)


def test_requests_with_another_method_and_without_a_secret_are_not_verified(
    receiver: WebhookReceiver, send: Send
) -> None:
    send(method="GET")
    receiver.secret = None
    send()
    assert [webhook.problem for webhook in receiver.requests] == [
        "the method is GET",
        "the receiver has no secret",
    ]


def test_a_body_that_is_not_utf_8_is_stored(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    connection = http.client.HTTPSConnection(
        receiver.host, receiver.port, context=trusting(local_authority), timeout=5
    )
    with closing(connection):
        connection.request("POST", "/", b"\xff\xfe", signed())
        assert connection.getresponse().status == 200
    (webhook,) = receiver.requests
    assert not webhook.verified
    assert webhook.event == {}


def test_answers_follow_the_rule_of_the_webhook_then_of_the_path_then_of_the_next_requests(
    receiver: WebhookReceiver, send: Send
) -> None:
    receiver.answers.next(status(500), GONE)
    receiver.answers.for_path("/busy", status(503), status(429, retry_after=7), OK)
    receiver.answers.for_webhook("other/1/FAILED", redirect("https://localhost/elsewhere", 302))
    busy = [send("/busy?x=1") for _ in range(4)]
    assert [answer.status for answer in busy] == [503, 429, 200, 200]
    assert busy[1].headers["Retry-After"] == "7"
    moved = send("/busy", headers=signed(webhook_id="other/1/FAILED"))
    assert (moved.status, moved.headers["Location"]) == (302, "https://localhost/elsewhere")
    assert [send().status for _ in range(3)] == [500, 410, 200]
    receiver.answers.for_path("/busy")
    assert send("/busy").status == 200
    assert [webhook.answer.code for webhook in receiver.requests[:2]] == [503, 429]


def test_a_slow_answer_arrives_late_and_a_hanging_one_does_not_arrive(
    receiver: WebhookReceiver, send: Send
) -> None:
    receiver.answers.next(slow(0.3), HANG)
    began = time.monotonic()
    assert send().status == 200
    assert time.monotonic() - began >= 0.3
    with pytest.raises(TimeoutError):
        send(timeout_s=0.3)


def test_a_dripping_answer_arrives_byte_by_byte(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    receiver.answers.next(drip(0.1))
    plain = socket.create_connection(("127.0.0.1", receiver.port), 5)
    with trusting(local_authority).wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        began = time.monotonic()
        assert [client.recv(100) for _ in range(4)] == [b"H", b"T", b"T", b"P"]
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        (CLOSE, (http.client.RemoteDisconnected, ssl.SSLError)),
        (RESET, (ConnectionResetError,)),
        (GARBAGE, (http.client.BadStatusLine,)),
    ],
    ids=["close", "reset", "garbage"],
)
def test_a_fault_ends_the_exchange_without_a_response(
    receiver: WebhookReceiver, send: Send, answer: Answer, errors: tuple[type[Exception], ...]
) -> None:
    receiver.answers.next(answer)
    with pytest.raises(errors):
        send()
    assert len(receiver.requests) == 1
    assert send().status == 200


def test_a_huge_body_ends_when_the_client_closes_the_connection(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    receiver.answers.next(huge(1_000_000_000))
    connection = http.client.HTTPSConnection(
        receiver.host, receiver.port, context=trusting(local_authority), timeout=5
    )
    with closing(connection):
        connection.request("POST", "/", BODY, signed())
        assert len(connection.getresponse().read(100_000)) == 100_000


def test_the_certificate_is_of_the_local_authority_and_for_the_host_and_its_addresses(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    for name in ("localhost", "127.0.0.1"):
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as plain:
            trusting(local_authority).wrap_socket(plain, server_hostname=name).close()
    with (
        socket.create_connection(("127.0.0.1", receiver.port), 5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    assert receiver.connections == 3
    assert receiver.requests == []


def test_a_receiver_can_have_a_certificate_for_another_name_or_speak_plain_http(
    local_authority: LocalAuthority,
) -> None:
    context = trusting(local_authority)
    with (
        WebhookReceiver(local_authority, certificate_name="other.example") as receiver,
        socket.create_connection(("127.0.0.1", receiver.port), 5) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    with WebhookReceiver(local_authority, tls=False) as receiver:
        with (
            socket.create_connection(("127.0.0.1", receiver.port), 5) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="localhost")
        connection = http.client.HTTPConnection(receiver.host, receiver.port, timeout=5)
        with closing(connection):
            connection.request("POST", "/", BODY)
            assert connection.getresponse().status == 200


def test_receivers_at_other_loopback_addresses_have_other_hosts(local_authority: LocalAuthority) -> None:
    with (
        WebhookReceiver(local_authority, host="127.0.0.2") as second,
        WebhookReceiver(local_authority, host="127.0.0.3", port=second.port) as third,
    ):
        assert second.url == f"https://127.0.0.2:{second.port}/"
        assert third.url_of("/hook?a=b") == f"https://127.0.0.3:{second.port}/hook?a=b"
        for receiver in (second, third):
            connection = http.client.HTTPSConnection(
                receiver.host, receiver.port, context=trusting(local_authority), timeout=5
            )
            with closing(connection):
                connection.request("POST", "/", BODY)
                assert connection.getresponse().status == 200
            assert len(receiver.requests) == 1


def test_a_receiver_of_ipv6_has_brackets_in_its_url(local_authority: LocalAuthority) -> None:
    assert WebhookReceiver(local_authority, host="::1", port=443).url == "https://[::1]:443/"


@pytest.mark.parametrize("host", ["example.com", "192.0.2.1", "0.0.0.0", ""])  # noqa: S104  # is refused
def test_a_receiver_serves_only_loopback(local_authority: LocalAuthority, host: str) -> None:
    with pytest.raises(ValueError, match="neither localhost nor a loopback address"):
        WebhookReceiver(local_authority, host=host)


def test_a_port_that_is_in_use_is_an_error(
    receiver: WebhookReceiver, local_authority: LocalAuthority
) -> None:
    with pytest.raises(OSError, match="in use"), WebhookReceiver(local_authority, port=receiver.port):
        pass


def test_a_wait_for_too_many_webhooks_ends_with_their_number(receiver: WebhookReceiver, send: Send) -> None:
    send()
    with pytest.raises(TimeoutError, match="1 of 2 webhooks"):
        receiver.wait_for(2, timeout_s=0.1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["bytes", "negative length", "invalid length"],
)
def test_garbage_is_not_stored_and_does_not_stop_the_receiver(
    local_authority: LocalAuthority, garbage: bytes
) -> None:
    with WebhookReceiver(local_authority, tls=False) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1000):
                pass
        assert receiver.requests == []
        with socket.create_connection(("127.0.0.1", receiver.port), 5) as client:
            client.sendall(b"POST / HTTP/1.1\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_thousand_hanging_connections_are_received_and_closed_at_the_end(
    local_authority: LocalAuthority,
) -> None:
    before = threading.active_count()
    with WebhookReceiver(local_authority, tls=False) as receiver:
        receiver.answers.for_path("/", HANG)
        clients = [socket.create_connection(("127.0.0.1", receiver.port), 10) for _ in range(1000)]
        for client in clients:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert len(receiver.wait_for(1000)) == 1000
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert threading.active_count() == before
    for client in clients:
        assert client.recv(1) == b""
        client.close()


def test_the_end_does_not_wait_for_idle_slow_and_dripping_connections(
    local_authority: LocalAuthority,
) -> None:
    context = trusting(local_authority)
    clients: list[socket.socket] = []
    with WebhookReceiver(local_authority) as receiver:
        receiver.answers.next(HANG, slow(60), drip(60))
        clients += [socket.create_connection(("127.0.0.1", receiver.port), 5) for _ in range(2)]
        for _ in range(3):
            plain = socket.create_connection(("127.0.0.1", receiver.port), 5)
            clients.append(context.wrap_socket(plain, server_hostname="localhost"))
            clients[-1].sendall(b"POST / HTTP/1.1\r\n\r\n")
        receiver.wait_for(3)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    for client in clients:
        client.close()
