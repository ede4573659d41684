"""Forwarded notifications: which URLs are accepted, and the requests that a server on loopback gets."""

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook

from local.local_aws.local_authority import LocalAuthority
from local.webhook_receiver import CLOSE, GARBAGE, HANG, Answer, WebhookReceiver, drip, huge, redirect, status
from tests.fakes.scripted_server import closed_port
from tests.support.builders import SOURCE, final_record
from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook as WebhookField
from waterhook.errors import InvalidWebhookUrlError
from waterhook.notifications.notification_events import outcome_event
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.webhooks.sender import MAX_BODY_BYTES, Attempt, AttemptError
from waterhook.webhooks.signature import shown_secret
from waterhook_cli.forward import (
    SIGNING_HOST,
    WORKERS,
    Forwarder,
    Forwarding,
    LoopbackSender,
    LoopbackUrl,
    SessionKey,
    split_members,
    with_output_url,
)
from waterhook_cli.notification import Notification

SECRET = shown_secret(bytes(range(32)))
LINK = 'https://bucket.s3.eu-north-1.example/key?X-Amz-Signature=ab&"quoted"'
OUTPUT_REF = "s3://bucket/executions/0f/final_output.json"
FAST_S = 0.3


def notification(text: str | None = None, **fields: Any) -> Notification:
    found = Notification.parse(text or outcome_event(final_record(**fields), SOURCE))
    assert found is not None
    return found


def forwarding(
    url: str, *, timeout_s: float = 5.0, presign: Callable[[str], str] = lambda _: LINK
) -> Forwarding:
    requests = WebhookRequests(SessionKey(SECRET), presign, "", time.time)
    return Forwarding(
        requests, LoopbackSender(LoopbackUrl.parse(url), timeout_s=timeout_s), "bucket", presign
    )


def plain(url: str) -> str:
    return url.replace("https://", "http://")


@pytest.mark.parametrize(
    ("text", "is_tls", "authority", "target", "addresses"),
    [
        (
            "http://localhost:3000/hook?token=a",
            False,
            "localhost:3000",
            "/hook?token=a",
            ("127.0.0.1", "::1"),
        ),
        ("localhost:3000", False, "localhost:3000", "/", ("127.0.0.1", "::1")),
        ("HTTP://LocalHost/", False, "localhost", "/", ("127.0.0.1", "::1")),
        ("https://localhost", True, "localhost", "/", ("127.0.0.1", "::1")),
        ("http://localhost:443", False, "localhost:443", "/", ("127.0.0.1", "::1")),
        ("http://shop.localhost:8080/", False, "shop.localhost:8080", "/", ("127.0.0.1", "::1")),
        ("http://127.0.0.1:8000/a", False, "127.0.0.1:8000", "/a", ("127.0.0.1",)),
        ("https://127.8.0.1", True, "127.8.0.1", "/", ("127.8.0.1",)),
        ("http://[::1]:3000/", False, "[::1]:3000", "/", ("::1",)),
    ],
)
def test_a_server_on_this_computer_is_accepted(
    text: str, authority: str, target: str, addresses: tuple[str, ...], *, is_tls: bool
) -> None:
    url = LoopbackUrl.parse(text)
    assert (url.is_tls, url.authority, url.target, url.addresses) == (is_tls, authority, target, addresses)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/the-token",
        "http://10.0.0.1/the-token",
        "http://192.168.1.7:3000/the-token",
        "http://169.254.169.254/the-token",
        "http://0.0.0.0:3000/the-token",
        "http://[::]:3000/the-token",
        "http://[::ffff:10.0.0.1]/the-token",
        "http://2130706433/the-token",
        "http://127.1/the-token",
        "http://localhost.example.com/the-token",
        "http://notlocalhost/the-token",
        "http://localhost@example.com/the-token",
        "http://localhost:3000\\@example.com/the-token",
        "http://localhost:99999/the-token",
        "http://localhost:3000/the-token#part",
        "ftp://localhost/the-token",
        "file:///the-token",
        "the-token",
        "",
    ],
)
def test_any_other_url_is_refused_without_its_path(text: str) -> None:
    with pytest.raises(InvalidWebhookUrlError) as raised:
        LoopbackUrl.parse(text)
    assert "the-token/" not in str(raised.value)
    assert "/the-token" not in str(raised.value)


def test_the_representation_of_a_url_has_no_token() -> None:
    assert "a-token" not in repr(LoopbackUrl.parse("http://localhost/?key=a-token"))


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_verifies_the_request_as_a_webhook(
    receiver_authority: LocalAuthority, host: str, *, tls: bool
) -> None:
    found = notification(final_output_json='{"answer": "Größe \U0001f680", "n": 1.0}')
    with WebhookReceiver(receiver_authority, secret=SECRET, host=host, tls=tls) as receiver:
        url = receiver.url_of("/hook?token=a")
        attempt = forwarding(url if tls else plain(url)).send(found)
        (received,) = receiver.wait_for(1)
    assert (attempt.code, attempt.error) == (200, None)
    assert received.verified
    assert (received.method, received.target) == ("POST", "/hook?token=a")
    assert received.body == found.text.encode()
    assert received.headers["webhook-id"] == found.id
    assert received.headers["host"] == f"{host}:{receiver.port}"
    assert received.headers["user-agent"] == "Waterhook"
    assert received.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    # The package also accepts what a developer reads from the terminal.
    assert Webhook(SECRET).verify(received.body, dict(received.headers)) == json.loads(found.text)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
def test_the_request_is_the_one_that_waterhook_sends_to_a_webhook(status: Status) -> None:
    record = final_record(
        status,
        output_ref=OUTPUT_REF if status is Status.COMPLETED else None,
        webhook=WebhookField("https://a.test"),
    )
    requests = WebhookRequests(SessionKey(SECRET), lambda _: LINK, SOURCE, time.time)
    sent = requests.outcome(record)
    captured: dict[str, Any] = {}

    class Sender(LoopbackSender):
        def send(self, body: bytes, headers: dict[str, str]) -> Attempt:
            captured.update(body=body, headers=headers)
            return Attempt(200)

    found = Notification.parse(outcome_event(record, SOURCE))
    assert found is not None
    Forwarding(requests, Sender(LoopbackUrl.parse("localhost")), "bucket", lambda _: LINK).send(found)
    assert captured["body"] == sent.body
    expected = requests.headers(sent, SIGNING_HOST)
    assert captured["headers"].keys() == expected.keys()
    assert captured["headers"]["webhook-id"] == expected["webhook-id"]


def test_no_link_is_signed_for_another_bucket(receiver_authority: LocalAuthority) -> None:
    def presign(_: str) -> str:
        pytest.fail("signed")

    for output_ref in ("s3://bucket-of-others/key", "s3://other/bucket/", "https://bucket/"):
        with WebhookReceiver(receiver_authority, tls=False) as receiver:
            forwarding(plain(receiver.url), presign=presign).send(notification(output_ref=output_ref))
            (received,) = receiver.wait_for(1)
        assert "final_output_url" not in received.event["data"]


def test_a_link_changes_nothing_else_in_the_event() -> None:
    text = (
        ' {"data" : {"final_output":null, "n": 1.50, "long": '
        + "9" * 5000
        + ', "e": {"final_output":{}}} ,"id":"a"} '
    )
    changed = with_output_url(text, "https://link")
    assert split_members(split_members(changed)["data"]) == {
        "final_output": "null",
        "final_output_url": '"https://link"',
        "n": "1.50",
        "long": "9" * 5000,
        "e": '{"final_output":{}}',
    }
    assert split_members("{}") == split_members("{ }") == {}


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        (status(204), 204, None),
        (status(500), 500, AttemptError.HTTP_STATUS),
        (status(410), 410, AttemptError.HTTP_STATUS),
        (CLOSE, None, AttemptError.BAD_ANSWER),
        (GARBAGE, None, AttemptError.BAD_ANSWER),
        (HANG, None, AttemptError.TIMEOUT),
        (drip(0.05), None, AttemptError.TIMEOUT),
    ],
)
def test_a_failure_is_a_result(
    receiver_authority: LocalAuthority, answer: Answer, code: int | None, error: AttemptError | None
) -> None:
    with WebhookReceiver(receiver_authority, tls=False) as receiver:
        receiver.answers.next(answer)
        attempt = forwarding(plain(receiver.url), timeout_s=FAST_S).send(notification())
    assert (attempt.code, attempt.error) == (code, error)
    assert attempt.latency_ms < 10 * FAST_S * 1000


def test_redirects_are_not_followed(receiver_authority: LocalAuthority) -> None:
    with WebhookReceiver(receiver_authority, tls=False) as receiver:
        receiver.answers.next(redirect(plain(receiver.url_of("/other"))))
        attempt = forwarding(plain(receiver.url)).send(notification())
        assert (attempt.code, attempt.error) == (307, AttemptError.REDIRECT)
        assert receiver.connections == 1


def test_the_body_of_an_answer_is_not_read_to_its_end(receiver_authority: LocalAuthority) -> None:
    with WebhookReceiver(receiver_authority, tls=False) as receiver:
        receiver.answers.next(huge(1000 * MAX_BODY_BYTES))
        began = time.monotonic()
        assert forwarding(plain(receiver.url)).send(notification()).is_delivered
        assert time.monotonic() - began < 2


def test_a_server_that_does_not_run_or_has_no_tls_is_a_result(receiver_authority: LocalAuthority) -> None:
    with closed_port() as port:
        attempt = forwarding(f"http://localhost:{port}").send(notification())
    assert (attempt.code, attempt.error) == (None, AttemptError.NO_CONNECTION)
    with WebhookReceiver(receiver_authority, tls=False) as receiver:
        assert forwarding(receiver.url).send(notification()).error == AttemptError.TLS


def test_a_server_that_uses_only_ipv6_is_found(receiver_authority: LocalAuthority) -> None:
    try:
        with WebhookReceiver(receiver_authority, host="::1", tls=False) as receiver:
            assert forwarding(f"http://localhost:{receiver.port}").send(notification()).is_delivered
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_no_proxy_is_used(receiver_authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with WebhookReceiver(receiver_authority, tls=False) as receiver:
        assert forwarding(plain(receiver.url)).send(notification()).is_delivered


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!",
        f"whsec_{base64.b64encode(b'a' * 23).decode()}",
        SECRET.removeprefix("whsec_"),
    ],
)
def test_another_secret_is_refused_without_it(secret: str) -> None:
    with pytest.raises(ValueError, match="expected whsec_") as raised:
        SessionKey(secret)
    assert "!!!" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


class Receiver:
    """The `send` of a Forwarder: waits for `release`, if it is set to."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.at_the_same_time = self.most_at_the_same_time = 0
        self.release = threading.Event()
        self.error: Exception | None = None

    def send(self, notification: Notification) -> Attempt:
        if self.error:
            raise self.error
        self.at_the_same_time += 1
        self.most_at_the_same_time = max(self.most_at_the_same_time, self.at_the_same_time)
        assert self.release.wait(30)
        self.at_the_same_time -= 1
        self.sent.append(notification.id)
        return Attempt(200)


def numbered(count: int) -> list[Notification]:
    return [notification(f'{{"id": "{number}", "type": "t", "data": {{}}}}') for number in range(count)]


def test_a_slow_server_delays_nothing_until_too_many_notifications_wait() -> None:
    receiver, done, reported = Receiver(), list[str](), list[str]()
    forwarder = Forwarder(receiver.send, lambda sent, _: reported.append(sent.id), max_waiting=5)
    for one in numbered(5):
        assert forwarder.has_room(30)
        forwarder.submit(one, lambda: done.append("deleted"))
    assert not forwarder.has_room(0.01)
    assert (forwarder.unfinished, done) == (5, [])
    receiver.release.set()
    assert forwarder.has_room(30)
    forwarder.drain()
    assert sorted(receiver.sent) == sorted(reported) == ["0", "1", "2", "3", "4"]
    assert (forwarder.unfinished, len(done)) == (0, 5)
    assert receiver.most_at_the_same_time == WORKERS


def test_an_error_of_a_thread_is_raised_in_the_main_thread_and_deletes_nothing() -> None:
    receiver, done = Receiver(), list[str]()
    receiver.error = RuntimeError("no credentials")
    forwarder = Forwarder(receiver.send, lambda *_: None, max_waiting=1)
    forwarder.submit(numbered(1)[0], lambda: done.append("deleted"))
    with pytest.raises(RuntimeError, match="no credentials"):
        forwarder.drain()
    with pytest.raises(RuntimeError, match="no credentials"):
        forwarder.has_room(30)
    assert (forwarder.unfinished, done) == (1, [])
