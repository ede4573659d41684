"""The recipe of an HTTPS endpoint accepts only messages that SNS signed for its topic, and stores each event once."""

import base64
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from docs.recipes.endpoint import MAX_BYTES, Endpoint, Inbox, application
from tests.contract.template import ROOT
from tests.support import samples
from tests.support.builders import SOURCE, final_attributes, record
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import outcome_event

TOPIC = "arn:aws:sns:us-east-1:123456789012:waterhook-NotificationTopic-1"
HOST = "https://sns.us-east-1.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
EVENT = samples.read("completed")


@cache
def key(_owner: str = "sns") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(days: int = 30) -> bytes:
    """Return a certificate like that of SNS."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    created = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(key(), SHA256())
    )
    return created.public_bytes(Encoding.PEM)


class Web:
    """The URLs of SNS. Records the requests."""

    def __init__(self, certificate: bytes = b"") -> None:
        self._certificate = certificate
        self.requests: list[str] = []
        self.down = False

    def __call__(self, url: str) -> bytes:
        self.requests.append(url)
        if self.down:
            raise TimeoutError
        return (self._certificate or certificate()) if url.endswith(".pem") else b"<ok/>"


@pytest.fixture
def web() -> Web:
    return Web()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(str(tmp_path / "inbox.sqlite"))


@pytest.fixture
def endpoint(inbox: Inbox, web: Web) -> Endpoint:
    return Endpoint(TOPIC, inbox, web)


def signed(
    *, by: rsa.RSAPrivateKey | None = None, but: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Return a signed message of SNS. `but` changes it after it is signed."""
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": json.dumps(EVENT),
        "Timestamp": "2026-01-01T00:01:00.123Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe",
    } | fields
    # From the documentation of SNS, not from the recipe: the fields that SNS signs.
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if message["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    kind = SHA256() if message["SignatureVersion"] == "2" else SHA1()  # noqa: S303  # the recipe must refuse it
    message["Signature"] = base64.b64encode((by or key()).sign(text.encode(), PKCS1v15(), kind)).decode()
    return message | (but or {})


def confirmation(**fields: Any) -> dict[str, Any]:
    fields = {
        "Message": "You have chosen to subscribe …",
        "Type": "SubscriptionConfirmation",
        "Token": "2336412f37",
        "SubscribeURL": SUBSCRIBE_URL,
    } | fields
    return signed(**fields)


def post(endpoint: Endpoint, message: Any, **environ: Any) -> int:
    return respond(endpoint, message, **environ)[0]


def respond(endpoint: Endpoint, message: Any, **environ: Any) -> tuple[int, str]:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    request: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
    } | environ
    setup_testing_defaults(request)
    statuses: list[str] = []
    body = b"".join(endpoint(request, lambda status, _headers: statuses.append(status)))
    return int(statuses[0].split()[0]), body.decode()


def stored(inbox: Inbox) -> list[Any]:
    return list(inbox.todo())


def test_an_event_is_stored_as_it_was_published(endpoint: Endpoint, inbox: Inbox) -> None:
    assert post(endpoint, signed()) == 200
    assert stored(inbox) == [EVENT]


def test_the_signature_covers_the_subject(endpoint: Endpoint) -> None:
    assert post(endpoint, signed(Subject="hello")) == 200
    assert post(endpoint, signed(Subject="hello", but={"Subject": "other"})) == 403


def test_an_event_that_arrives_twice_is_stored_once_also_after_it_was_processed(
    endpoint: Endpoint, inbox: Inbox
) -> None:
    for message_id in ("1", "1", "2"):  # a retry of SNS has the same id, a second publication another
        assert post(endpoint, signed(MessageId=message_id)) == 200
    assert stored(inbox) == [EVENT]
    assert post(endpoint, signed(MessageId="3")) == 200
    assert stored(inbox) == []


def test_a_reused_idempotency_key_has_another_event(endpoint: Endpoint, inbox: Inbox) -> None:
    events = [
        outcome_event(record(created_at=created_at, **final_attributes(Status.FAILED)), SOURCE)
        for created_at in ("2026-01-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z")
    ]
    assert [post(endpoint, signed(Message=text)) for text in events] == [200, 200]
    assert stored(inbox) == [json.loads(text) for text in events]


def test_an_event_whose_processing_fails_stays_in_the_inbox(endpoint: Endpoint, inbox: Inbox) -> None:
    post(endpoint, signed())
    todo = inbox.todo()
    next(todo)
    todo.close()  # like an exception in the loop
    assert stored(inbox) == [EVENT]


def test_a_subscription_is_confirmed_at_the_url_of_sns(endpoint: Endpoint, web: Web, inbox: Inbox) -> None:
    assert post(endpoint, confirmation()) == 200
    assert web.requests == [CERTIFICATE_URL, SUBSCRIBE_URL]
    assert stored(inbox) == []


def test_a_certificate_is_fetched_once(endpoint: Endpoint, web: Web) -> None:
    for number in range(3):
        post(endpoint, signed(MessageId=str(number)))
    assert web.requests == [CERTIFICATE_URL]


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com.evil.test/SimpleNotificationService-1.pem",
        "https://evil.test/sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://evil.test#.sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com@evil.test/SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
        "https://s3.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://bucket.sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com/?Message=SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com/other.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem\nx",
        "",
        None,
        7,
    ],
)
def test_a_certificate_from_another_host_is_not_fetched(endpoint: Endpoint, web: Web, url: Any) -> None:
    assert post(endpoint, signed(SigningCertURL=url)) == 403
    assert web.requests == []


@pytest.mark.parametrize(
    "url", ["https://evil.test/", SUBSCRIBE_URL + "\r\nHost: evil.test", f"{HOST}.evil.test/"]
)
def test_a_confirmation_url_of_another_host_is_refused(endpoint: Endpoint, web: Web, url: str) -> None:
    assert post(endpoint, confirmation(SubscribeURL=url)) == 403
    assert web.requests == [CERTIFICATE_URL]


def test_the_response_to_sha_1_names_the_setting_of_the_topic(endpoint: Endpoint, web: Web) -> None:
    assert respond(endpoint, signed(SignatureVersion="1")) == (
        403,
        "signed with SHA-1: set the topic's SignatureVersion to 2",
    )
    assert web.requests == []


@pytest.mark.parametrize(
    "message",
    [
        signed(but={"Message": json.dumps(EVENT | {"id": "forged"})}),
        signed(but={"Timestamp": "2027-01-01T00:00:00.000Z"}),
        signed(but={"Signature": "AAAA"}),
        signed(but={"Signature": "no base64"}),
        signed(but={"Signature": None}),
        signed(by=key("another owner")),
        signed(SignatureVersion="1"),
        signed(but={"Type": "Other"}),
        signed(but={"Type": ["Notification"]}),
        signed(TopicArn=TOPIC + "x"),
        signed(Message="no JSON"),
        signed(Message="[1]"),
        signed(Message='{"id": 7}'),
        {},
        [],
        b"",
        b"\xff",
        b"[" * 100_000,
    ],
    ids=[
        *(
            "message",
            "timestamp",
            "signature",
            "base64",
            "null",
            "key",
            "SHA-1",
            "type",
            "type list",
            "topic",
        ),
        *("text", "list", "id", "empty", "array", "nothing", "bytes", "deep"),
    ],
)
def test_a_message_that_sns_did_not_sign_for_the_topic_is_refused(
    endpoint: Endpoint, inbox: Inbox, message: Any
) -> None:
    assert post(endpoint, message) == 403
    assert stored(inbox) == []


def test_an_expired_certificate_is_refused(inbox: Inbox) -> None:
    assert post(Endpoint(TOPIC, inbox, Web(certificate(-1))), signed()) == 403


def test_a_request_that_is_no_message_gets_400(endpoint: Endpoint) -> None:
    assert post(endpoint, signed(), REQUEST_METHOD="GET") == 400
    assert post(endpoint, signed(), CONTENT_LENGTH=str(MAX_BYTES + 1)) == 400
    assert post(endpoint, signed(), CONTENT_LENGTH="-1") == 400


def test_sns_gets_503_and_retries_while_its_certificate_is_unavailable(
    endpoint: Endpoint, web: Web, inbox: Inbox
) -> None:
    web.down = True
    assert post(endpoint, signed()) == 503
    web.down = False
    assert post(endpoint, signed()) == 200
    assert stored(inbox) == [EVENT]


def test_the_application_reads_its_topic_and_its_inbox_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPIC_ARN", TOPIC)
    monkeypatch.setenv("INBOX", str(tmp_path / "here.sqlite"))
    assert post(application(), signed(TopicArn="another")) == 403
    assert (tmp_path / "here.sqlite").exists()


def test_a_missing_topic_is_an_error_with_the_variable(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "TOPIC_ARN"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "recipes" / "endpoint.py")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == "TOPIC_ARN is not set. Set it to the output TopicArn of Waterhook's stack.\n"
