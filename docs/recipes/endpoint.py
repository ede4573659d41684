"""HTTPS endpoint that verifies notifications of Waterhook and stores each of them once.

It needs `cryptography` and a reverse proxy that terminates TLS. To try it, run
`TOPIC_ARN=arn:aws:sns:… python docs/recipes/endpoint.py`. In production run the WSGI application `application()`.
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

# SNS messages have at most 256 KiB. JSON escapes and the envelope make them longer.
MAX_BYTES = 1024 * 1024
# Matches the whole URL, so that no port, user or other host can be added.
SNS_URL = re.compile(r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[!-~]*")
SIGNING_CERTIFICATE = re.compile(r"[^?#]*/SimpleNotificationService-\w+\.pem")
# Signed fields in this order; Subject only if the message has one.
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
    """Raised for a message that SNS did not send for the topic. The text is the reason."""


def fetch(url: str) -> bytes:
    """Return the content at a URL of SNS. The caller must have checked its host."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # https, and a host of SNS
        return bytes(answer.read(64 * 1024))


def require_sns(url: object) -> str:
    """Return the URL if its host is SNS, so that TLS authenticates the signing certificate.

    Raises RefusedMessageError otherwise.
    """
    if not isinstance(url, str) or not SNS_URL.fullmatch(url):
        raise RefusedMessageError("not a URL of SNS")
    return url


class Inbox:
    """Stores each event once, under its id, in an SQLite file."""

    def __init__(self, path: str) -> None:
        """Create the file if it does not exist."""
        self._path = path
        with closing(self._open()) as inbox, inbox:
            inbox.execute("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, event TEXT, done TEXT)")

    def put(self, id_: str, event: str) -> None:
        """Store an event, unless its id is stored already."""
        with closing(self._open()) as inbox, inbox:
            inbox.execute("INSERT OR IGNORE INTO inbox (id, event) VALUES (?, ?)", (id_, event))

    def todo(self) -> Generator[dict[str, Any]]:
        """Yield each unprocessed event. Mark it as processed if the body of the loop raises no exception."""
        with closing(self._open()) as inbox:
            for id_, event in inbox.execute("SELECT id, event FROM inbox WHERE done IS NULL").fetchall():
                yield json.loads(event)
                with inbox:
                    inbox.execute("UPDATE inbox SET done = ? WHERE id = ?", (str(datetime.now(UTC)), id_))

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5)


class Endpoint:
    """WSGI application for SNS. After a 4xx SNS uses the dead-letter queue, after a 5xx it tries again."""

    def __init__(self, topic_arn: str, inbox: Inbox, fetch: Fetch = fetch) -> None:
        """Accept messages of this topic only. `fetch` returns the content of a URL."""
        self._topic_arn = topic_arn
        self._inbox = inbox
        self._fetch = fetch
        self._certificates: dict[str, RSAPublicKey] = {}

    def take(self, body: bytes) -> None:
        """Process one message.

        Raises RefusedMessageError for an invalid message, and OSError if SNS does not answer.
        """
        message = _parsed(body)
        if not isinstance(message, dict) or message.get("TopicArn") != self._topic_arn:
            raise RefusedMessageError("another topic")  # SNS signs for all topics
        self._verify(message)
        if message["Type"] == "SubscriptionConfirmation":
            self._fetch(require_sns(message["SubscribeURL"]))
        elif message["Type"] == "Notification":
            event = _parsed(message["Message"])
            if not isinstance(event, dict) or not isinstance(event.get("id"), str):
                raise RefusedMessageError("not an event of Waterhook")
            self._inbox.put(event["id"], message["Message"])

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one WSGI request."""
        length = environ.get("CONTENT_LENGTH") or "0"
        if environ["REQUEST_METHOD"] != "POST" or not length.isdigit() or int(length) > MAX_BYTES:
            status, text = "400 Bad Request", "expected a message of SNS"
        else:
            try:
                self.take(environ["wsgi.input"].read(int(length)))
                status, text = "200 OK", ""
            except RefusedMessageError as refusal:
                status, text = "403 Forbidden", str(refusal)
            except (OSError, sqlite3.Error) as error:
                status, text = "503 Service Unavailable", type(error).__name__
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text.encode()]

    def _verify(self, message: Mapping[str, Any]) -> None:
        if message.get("SignatureVersion") != "2":
            raise RefusedMessageError("signed with SHA-1: set the topic's SignatureVersion to 2")
        try:
            names = [name for name in SIGNED[message["Type"]] if name != "Subject" or message.get(name)]
            signed = "".join(f"{name}\n{message[name]}\n" for name in names)
            signature = base64.b64decode(message["Signature"], validate=True)
            self._key(message["SigningCertURL"]).verify(signature, signed.encode(), PKCS1v15(), SHA256())
        except (KeyError, TypeError, ValueError, InvalidSignature) as error:
            raise RefusedMessageError("wrong signature, or a signed field is missing") from error

    def _key(self, url: object) -> RSAPublicKey:
        """Return the public key of the signing certificate, from a cache after the first time."""
        address = require_sns(url)
        if not SIGNING_CERTIFICATE.fullmatch(address):
            raise RefusedMessageError("not a certificate of SNS")
        if address not in self._certificates:
            certificate = load_pem_x509_certificate(self._fetch(address))
            key = certificate.public_key()
            if not isinstance(key, RSAPublicKey) or certificate.not_valid_after_utc < datetime.now(UTC):
                raise RefusedMessageError("the certificate is expired or has no RSA key")
            self._certificates[address] = key
        return self._certificates[address]


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedMessageError("not JSON") from error


def application() -> Endpoint:
    """Return the endpoint for TOPIC_ARN. INBOX is the path of its file, by default inbox.sqlite."""
    return Endpoint(os.environ["TOPIC_ARN"], Inbox(os.environ.get("INBOX", "inbox.sqlite")))


if __name__ == "__main__":
    if not os.environ.get("TOPIC_ARN"):
        raise SystemExit("TOPIC_ARN is not set. Set it to the output TopicArn of Waterhook's stack.")
    make_server("127.0.0.1", 8080, application()).serve_forever()
