"""An HTTPS endpoint for Waterhook's notifications: believes nobody but SNS, answers at once, works later and once.

Needs `cryptography`, and something in front of it that speaks TLS. Try it with
`TOPIC_ARN=arn:aws:sns:… python docs/recipes/endpoint.py`; run it as the WSGI application `application(…)`.
"""

import base64
import json
import os
import re
import sqlite3
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from wsgiref.simple_server import make_server

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

# SNS stops at 256 KiB; escaped and wrapped up it is more, and nobody else is worth reading.
MAX_BYTES = 1024 * 1024
# Whole: no port, no user, no other host in front or behind. Whose certificate is elsewhere is not SNS.
SNS_URL = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[!-~]*")
SIGNING_CERTIFICATE = re.compile(r"[^?#]*/SimpleNotificationService-\w+\.pem")
# What is signed, in this order; a Subject only where there is one.
# https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
SIGNED["UnsubscribeConfirmation"] = SIGNED["SubscriptionConfirmation"]

type Fetch = Callable[[str], bytes]


class RefusedMessageError(Exception):
    """The message is not one that Waterhook published and SNS sent; says why."""


def fetch(url: str) -> bytes:
    """Return what is at a URL of SNS, whose host the caller has checked."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # https, and a host of SNS
        return bytes(answer.read(64 * 1024))


def require_sns(url: object) -> str:
    """Return the URL if SNS itself answers there. Its TLS certificate is what vouches for the signing one."""
    if not isinstance(url, str) or not SNS_URL.fullmatch(url):
        raise RefusedMessageError("a URL that is none of SNS")
    return url


class Inbox:
    """The events that were taken in, each once: its id is the key. A file, so a restart loses nothing."""

    def __init__(self, path: str) -> None:
        """Open or make it."""
        self._path = path
        with closing(self._open()) as inbox, inbox:
            inbox.execute("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT, done TEXT)")

    def put(self, id_: str, event: str) -> None:
        """Keep an event, unless it is there already."""
        with closing(self._open()) as inbox, inbox:
            inbox.execute("INSERT OR IGNORE INTO inbox (id, event) VALUES (?, ?)", (id_, event))

    def todo(self) -> Generator[dict[str, Any]]:
        """Yield what is to be worked on; what the loop's body got through without an exception is done."""
        with closing(self._open()) as inbox:
            for id_, event in inbox.execute("SELECT id, event FROM inbox WHERE done IS NULL").fetchall():
                yield json.loads(event)
                with inbox:
                    inbox.execute("UPDATE inbox SET done = ? WHERE id = ?", (str(datetime.now(UTC)), id_))

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5)


class Endpoint:
    """What SNS posts to. 2xx: taken. 4xx: a dead letter at once. 5xx: SNS tries again."""

    def __init__(self, topic_arn: str, inbox: Inbox, fetch: Fetch = fetch) -> None:
        """Keep what it works with."""
        self._topic_arn = topic_arn
        self._inbox = inbox
        self._fetch = fetch
        self._certificates: dict[str, RSAPublicKey] = {}

    def take(self, body: bytes) -> None:
        """Process one message.

        Raises RefusedMessageError for a message that is not valid, OSError where a URL of SNS doesn't answer.
        """
        message = _parsed(body)
        if not isinstance(message, dict) or message.get("TopicArn") != self._topic_arn:
            raise RefusedMessageError(
                "another topic"
            )  # anybody may have a topic, and SNS signs for all of them
        self._verify(message)
        if message["Type"] == "SubscriptionConfirmation":
            self._fetch(require_sns(message["SubscribeURL"]))
        elif message["Type"] == "Notification":
            event = _parsed(message["Message"])
            if not isinstance(event, dict) or not isinstance(event.get("id"), str):
                raise RefusedMessageError("not an event of Waterhook")
            self._inbox.put(event["id"], message["Message"])

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request, as WSGI has it."""
        length = environ.get("CONTENT_LENGTH") or "0"
        if environ["REQUEST_METHOD"] != "POST" or not length.isdigit() or int(length) > MAX_BYTES:
            status, said = "400 Bad Request", "expected a message of SNS"
        else:
            try:
                self.take(environ["wsgi.input"].read(int(length)))
                status, said = "200 OK", ""
            except RefusedMessageError as refusal:
                status, said = "403 Forbidden", str(refusal)
            except (OSError, sqlite3.Error) as trouble:
                status, said = "503 Service Unavailable", type(trouble).__name__
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
        return [said.encode()]

    def _verify(self, message: Mapping[str, Any]) -> None:
        if message.get("SignatureVersion") != "2":
            raise RefusedMessageError("signed with SHA-1: set the topic's SignatureVersion to 2")
        try:
            names = [name for name in SIGNED[message["Type"]] if name != "Subject" or message.get(name)]
            signed = "".join(f"{name}\n{message[name]}\n" for name in names)
            signature = base64.b64decode(message["Signature"], validate=True)
            self._key(message["SigningCertURL"]).verify(signature, signed.encode(), PKCS1v15(), SHA256())
        except (KeyError, TypeError, ValueError, InvalidSignature) as error:
            raise RefusedMessageError(
                "the signature is wrong, or something that is signed is missing"
            ) from error

    def _key(self, url: object) -> RSAPublicKey:
        """Return the public key of SNS's certificate, which is fetched once: it lives for months."""
        address = require_sns(url)
        if not SIGNING_CERTIFICATE.fullmatch(address):
            raise RefusedMessageError("a certificate that is none of SNS")
        if address not in self._certificates:
            certificate = load_pem_x509_certificate(self._fetch(address))
            key = certificate.public_key()
            if not isinstance(key, RSAPublicKey) or certificate.not_valid_after_utc < datetime.now(UTC):
                raise RefusedMessageError("the certificate is expired, or of another kind")
            self._certificates[address] = key
        return self._certificates[address]


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedMessageError("not JSON") from error


def application() -> Endpoint:
    """Return the endpoint that the environment describes: TOPIC_ARN, and INBOX, a file."""
    return Endpoint(os.environ["TOPIC_ARN"], Inbox(os.environ.get("INBOX", "inbox.sqlite")))


if __name__ == "__main__":
    if not os.environ.get("TOPIC_ARN"):
        raise SystemExit("TOPIC_ARN is not set: it is TopicArn of Waterhook's outputs")
    make_server("127.0.0.1", 8080, application()).serve_forever()
