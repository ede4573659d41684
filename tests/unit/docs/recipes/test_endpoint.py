"""The recipe of an HTTPS endpoint: takes what SNS signed for its topic, each event once, and nothing else."""

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
from tests.support.builders import SOURCE, final_attributes, record
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import outcome_event

TOPIC = "arn:aws:sns:us-east-1:123456789012:waterhook-NotificationTopic-1"
HOST = "https://sns.us-east-1.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-0123456789abcdef.pem"
SUBSCRIBE_URL = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
EVENT = json.loads((ROOT / "tests" / "contract" / "golden" / "completed.json").read_text(encoding="utf-8"))


@cache
def key(_who: str = "sns") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(days: int = 30) -> bytes:
    """A certificate like that of SNS, made here."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(key(), SHA256())
    )
    return made.public_bytes(Encoding.PEM)


class Web:
    """What is at SNS's URLs; knows what was asked for."""

    def __init__(self, certificate: bytes = b"") -> None:
        self._certificate = certificate
        self.asked: list[str] = []
        self.down = False

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
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
    """A message as SNS sends it, signed; `but` is changed afterwards."""
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
    # Written out, not taken from the recipe: these are SNS's own words of what it signs.
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if message["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    kind = SHA256() if message["SignatureVersion"] == "2" else SHA1()  # noqa: S303  # what it must refuse
    message["Signature"] = base64.b64encode((by or key()).sign(text.encode(), PKCS1v15(), kind)).decode()
    return message | (but or {})


def confirmation(**fields: Any) -> dict[str, Any]:
    given = {"Type": "SubscriptionConfirmation", "Token": "2336412f37", "SubscribeURL": SUBSCRIBE_URL}
    return signed(**given | {"Message": "You have chosen to subscribe …"} | fields)


def post(endpoint: Endpoint, message: Any, **environ: Any) -> int:
    return answer(endpoint, message, **environ)[0]


def answer(endpoint: Endpoint, message: Any, **environ: Any) -> tuple[int, str]:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    given: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
    } | environ
    setup_testing_defaults(given)
    answers: list[str] = []
    said = b"".join(endpoint(given, lambda status, _headers: answers.append(status)))
    return int(answers[0].split()[0]), said.decode()


def kept(inbox: Inbox) -> list[Any]:
    return list(inbox.todo())


def test_an_event_is_taken_in_as_it_was_published(endpoint: Endpoint, inbox: Inbox) -> None:
    assert post(endpoint, signed()) == 200
    assert kept(inbox) == [EVENT]


def test_a_subject_is_part_of_what_is_signed(endpoint: Endpoint) -> None:
    assert post(endpoint, signed(Subject="hello")) == 200
    assert post(endpoint, signed(Subject="hello", but={"Subject": "other"})) == 403


def test_an_event_that_comes_twice_is_there_once_also_after_it_was_worked_on(
    endpoint: Endpoint, inbox: Inbox
) -> None:
    for message_id in ("1", "1", "2"):  # SNS's retry has the same id, a second publication another
        assert post(endpoint, signed(MessageId=message_id)) == 200
    assert kept(inbox) == [EVENT]
    assert post(endpoint, signed(MessageId="3")) == 200
    assert kept(inbox) == []


def test_an_event_of_a_key_that_was_used_again_after_its_record_expired_is_another_event(
    endpoint: Endpoint, inbox: Inbox
) -> None:
    of_both = [
        outcome_event(record(created_at=created_at, **final_attributes(Status.FAILED)), SOURCE)
        for created_at in ("2026-01-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z")
    ]
    assert [post(endpoint, signed(Message=text)) for text in of_both] == [200, 200]
    assert kept(inbox) == [json.loads(text) for text in of_both]


def test_work_that_fails_is_still_to_be_done(endpoint: Endpoint, inbox: Inbox) -> None:
    post(endpoint, signed())
    todo = inbox.todo()
    next(todo)
    todo.close()  # as an exception in the loop would
    assert kept(inbox) == [EVENT]


def test_a_subscription_is_confirmed_where_sns_says(endpoint: Endpoint, web: Web, inbox: Inbox) -> None:
    assert post(endpoint, confirmation()) == 200
    assert web.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]
    assert kept(inbox) == []


def test_a_certificate_is_fetched_once(endpoint: Endpoint, web: Web) -> None:
    for number in range(3):
        post(endpoint, signed(MessageId=str(number)))
    assert web.asked == [CERTIFICATE_URL]


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
def test_a_certificate_from_anywhere_else_is_not_even_fetched(endpoint: Endpoint, web: Web, url: Any) -> None:
    assert post(endpoint, signed(SigningCertURL=url)) == 403
    assert web.asked == []


@pytest.mark.parametrize(
    "url", ["https://evil.test/", SUBSCRIBE_URL + "\r\nHost: evil.test", f"{HOST}.evil.test/"]
)
def test_a_confirmation_that_leads_elsewhere_is_refused(endpoint: Endpoint, web: Web, url: str) -> None:
    assert post(endpoint, confirmation(SubscribeURL=url)) == 403
    assert web.asked == [CERTIFICATE_URL]


def test_a_topic_that_signs_with_sha_1_is_told_what_to_change(endpoint: Endpoint, web: Web) -> None:
    assert answer(endpoint, signed(SignatureVersion="1")) == (
        403,
        "signed with SHA-1: set the topic's SignatureVersion to 2",
    )
    assert web.asked == []


@pytest.mark.parametrize(
    "message",
    [
        signed(but={"Message": json.dumps(EVENT | {"id": "forged"})}),
        signed(but={"Timestamp": "2027-01-01T00:00:00.000Z"}),
        signed(but={"Signature": "AAAA"}),
        signed(but={"Signature": "no base64"}),
        signed(but={"Signature": None}),
        signed(by=key("somebody else")),
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
def test_what_is_not_sns_s_for_this_topic_is_refused_and_leaves_no_trace(
    endpoint: Endpoint, inbox: Inbox, message: Any
) -> None:
    assert post(endpoint, message) == 403
    assert kept(inbox) == []


def test_an_expired_certificate_proves_nothing(inbox: Inbox) -> None:
    assert post(Endpoint(TOPIC, inbox, Web(certificate(-1))), signed()) == 403


def test_what_is_no_message_is_not_read(endpoint: Endpoint) -> None:
    assert post(endpoint, signed(), REQUEST_METHOD="GET") == 400
    assert post(endpoint, signed(), CONTENT_LENGTH=str(MAX_BYTES + 1)) == 400
    assert post(endpoint, signed(), CONTENT_LENGTH="-1") == 400


def test_while_sns_is_not_to_be_reached_it_is_asked_to_try_again(
    endpoint: Endpoint, web: Web, inbox: Inbox
) -> None:
    web.down = True
    assert post(endpoint, signed()) == 503
    web.down = False
    assert post(endpoint, signed()) == 200
    assert kept(inbox) == [EVENT]


def test_the_application_takes_its_topic_and_its_inbox_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPIC_ARN", TOPIC)
    monkeypatch.setenv("INBOX", str(tmp_path / "here.sqlite"))
    assert post(application(), signed(TopicArn="another")) == 403
    assert (tmp_path / "here.sqlite").exists()


def test_without_a_topic_it_names_the_variable_that_is_missing(tmp_path: Path) -> None:
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
