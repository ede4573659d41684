"""A receiver of webhooks with TLS, and the environment with which the deliver function trusts it."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import trustme

from benchmarks.cold_start.backend import BUNDLE_ARN, KEYS_ARN
from benchmarks.cold_start.wire import Request, Response, serving

_ENVIRONMENT = {
    "WATERHOOK_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    "WATERHOOK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "WATERHOOK_WEBHOOK_TABLE": "deliveries",
    "WATERHOOK_WEBHOOK_SECRET_ARN": KEYS_ARN,
    "WATERHOOK_WEBHOOK_CA_BUNDLE_ARN": BUNDLE_ARN,
    "WATERHOOK_WEBHOOK_CONCURRENCY": "10",
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """The URL of a receiver, the variables of the deliver function, and the paths of the received requests."""

    url: str
    environment: Mapping[str, str]
    requests: list[str] = field(default_factory=list)


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def receiving(endpoint: str) -> Iterator[Receiver]:
    """Answer webhooks with 200 while the block runs. `endpoint` is that of AWS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert("127.0.0.1").configure_cert(context)
    queues = {
        f"WATERHOOK_WEBHOOK_{name}_URL": f"{endpoint}/123456789012/{name.lower()}"
        for name in ("QUEUE", "DEAD_LETTER_QUEUE")
    }
    paths: list[str] = []

    def respond(request: Request) -> Response:
        paths.append(request.path)
        return Response(b"", {})

    with serving(respond, context) as server:
        yield Receiver(f"https://{server.host}/webhook", {**_ENVIRONMENT, **queues}, paths)


def certificate_pem() -> str:
    """Return the certificate of the authority."""
    return _authority().cert_pem.bytes().decode()
