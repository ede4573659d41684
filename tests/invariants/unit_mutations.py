"""Bugs in code that no history runs, each with the unit tests that find it.

    PYTHONPATH=layers/waterhook python -m tests.invariants.unit_mutations

prints a table: the bug, its module, and the first test that fails with it. Histories replace the transport and the
streams of `waterhook.upstream`, and the sender and the keys of `waterhook.webhooks`; every receiver is allowed.
`waterhook.observability` is a no-op in them: logs and metrics change no record and no notification, so no invariant
depends on them.
"""

import contextlib
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from waterhook.domain import webhook_url
from waterhook.domain.status import Status
from waterhook.domain.webhook_url import WebhookUrl
from waterhook.json_scanner import Bytes
from waterhook.observability import telemetry
from waterhook.observability.metrics import Metric, UpstreamCall
from waterhook.upstream import event_stream, transport
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.key_redaction import KeyRedactor
from waterhook.upstream.sse import SseDecoder, SseEvent
from waterhook.webhooks import sender, signature, signing_keys
from waterhook.webhooks.cached_secret import CachedSecret
from waterhook.webhooks.sender import Attempt, AttemptError, WebhookSender

_UNIT_TESTS = Path(__file__).parents[1] / "unit"


@dataclass(frozen=True, slots=True)
class UnitMutation:
    """A function with a bug, and the tests that shall find it."""

    bug: str
    owner: ModuleType | type
    name: str
    new: Any
    tests: str
    """A file or folder below tests/unit."""
    keyword: str = ""
    """Run only the tests whose name has this word: the others are slow."""

    @property
    def module(self) -> str:
        return self.owner.__name__ if isinstance(self.owner, ModuleType) else self.owner.__module__

    def failed_test(self) -> str | None:
        """Return the name of the first test that fails with the bug, or None."""
        results = _Results()
        arguments = ["-x", "-q", "-p", "no:cacheprovider", str(_UNIT_TESTS / self.tests), "-k", self.keyword]
        with patch.object(self.owner, self.name, self.new), contextlib.redirect_stdout(io.StringIO()):
            pytest.main(arguments, plugins=[results])
        return results.failed[0] if results.failed else None


class _Results:
    """A pytest plugin that collects the names of failed tests."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.failed:
            self.failed.append(report.nodeid.partition("[")[0].rpartition("::")[2])


def dispatch_keep_alive(self: SseDecoder) -> SseEvent:
    return _dispatch(self) or SseEvent("message", "")


def refresh_without_reading(self: ApiKey) -> bool:
    return False


def redact_plain_key_only(self: KeyRedactor, body: Bytes) -> Bytes:
    for key in self._keys:
        body = body.replace(key.encode(), b"***")
    return body


def count_redirect_as_delivered(response: Any, latency_ms: float) -> Attempt:
    attempt = _attempt(response, latency_ms)
    return replace(attempt, error=None) if attempt.error == AttemptError.REDIRECT else attempt


def resolve_without_check(self: WebhookSender, url: WebhookUrl, ends_at: float) -> Any:
    return self._resolve(url.host, url.port, timeout_s=ends_at - time.monotonic())


def derive_same_key_for_all_hosts(key_material: bytes, **arguments: Any) -> bytes:
    return _hkdf_sha256(key_material, **(arguments | {"info": b""}))


def read_secret_each_time(self: CachedSecret[Any]) -> Any:
    return self._read()


_attempt, _hkdf_sha256 = sender._attempt, signature.hkdf_sha256  # noqa: SLF001 - it gets the bug
_dispatch = SseDecoder._dispatch  # noqa: SLF001 - it gets the bug
_Request = transport._Request  # noqa: SLF001 - it gets the bug

UNIT_MUTATIONS = (
    UnitMutation(
        "a keep-alive of a stream counts as an event",
        SseDecoder,
        "_dispatch",
        dispatch_keep_alive,
        "upstream/test_sse.py",
    ),
    UnitMutation(
        "only execution_completed is a final event",
        event_stream,
        "_FINAL_TYPES",
        {"execution_completed"},
        "upstream/test_event_stream.py",
        "execution_failed",
    ),
    UnitMutation(
        "the API key is not read again after a 401",
        ApiKey,
        "refresh",
        refresh_without_reading,
        "upstream/test_api_key.py",
    ),
    UnitMutation(
        "an escaped API key is not redacted",
        KeyRedactor,
        "redact",
        redact_plain_key_only,
        "upstream/test_key_redaction.py",
    ),
    UnitMutation(
        "a cancel is repeated on a connection that the server has closed",
        _Request,
        "may_repeat",
        property(lambda self: self.method != "POST"),
        "upstream/test_client_http.py",
        "cancel",
    ),
    UnitMutation(
        "a long text is logged as it is",
        telemetry,
        "_plain",
        lambda value: value,
        "observability",
    ),
    UnitMutation(
        "every outcome is counted as COMPLETED",
        Metric,
        "of_outcome",
        staticmethod(lambda _outcome: Metric[f"OUTCOME_{Status.COMPLETED}"]),
        "observability",
    ),
    UnitMutation(
        "a refusal by Waterflai is counted as its failure",
        UpstreamCall,
        "failed",
        property(lambda self: self.error is not None),
        "observability",
    ),
    UnitMutation(
        "an address that is not global unicast counts as public",
        webhook_url,
        "_is_public",
        lambda address: address.is_global,
        "domain/test_webhook_url.py",
        "refused",
    ),
    UnitMutation(
        "an allowed network allows the metadata services in it",
        webhook_url,
        "_NEVER_ALLOWED",
        (),
        "domain/test_webhook_url.py",
        "never",
    ),
    UnitMutation(
        "the addresses of a receiver are not checked",
        WebhookSender,
        "_allowed_addresses",
        resolve_without_check,
        "webhooks/test_hostile_targets.py",
        "dns_answer",
    ),
    UnitMutation(
        "a redirect counts as delivered",
        sender,
        "_attempt",
        count_redirect_as_delivered,
        "webhooks/test_sender.py",
        "redirect",
    ),
    UnitMutation(
        "all hosts have the same signing key",
        signature,
        "hkdf_sha256",
        derive_same_key_for_all_hosts,
        "webhooks/test_signature.py",
        "host",
    ),
    UnitMutation(
        "the previous key does not sign after a rotation",
        signing_keys,
        "OVERLAP_S",
        0.0,
        "webhooks/test_signing_keys.py",
        "previous",
    ),
    UnitMutation(
        "a secret that can't be read for a moment stops all webhooks",
        CachedSecret,
        "get",
        read_secret_each_time,
        "webhooks/test_signing_keys.py",
        "refresh",
    ),
)


def main() -> None:
    """Print which test finds each bug."""
    for mutation in UNIT_MUTATIONS:
        test = mutation.failed_test() or "none"
        line = f"{mutation.bug:<64}  {mutation.module:<35}  {test}"
        print(line, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
