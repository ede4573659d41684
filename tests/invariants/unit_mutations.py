"""Bugs in code that no history runs, each with the unit tests that find it.

    PYTHONPATH=layers/waterhook python -m tests.invariants.unit_mutations

prints a table: the bug, its module, and the first test that fails with it. Histories replace the transport and the
streams of `waterhook.upstream`, and `waterhook.observability` is a no-op in them: logs and metrics change no record
and no notification, so no invariant depends on them.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from waterhook.domain.status import Status
from waterhook.json_scanner import Bytes
from waterhook.observability import telemetry
from waterhook.observability.metrics import Metric, UpstreamCall
from waterhook.upstream import event_stream, transport
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.key_redaction import KeyRedactor
from waterhook.upstream.sse import SseDecoder, SseEvent

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
            self.failed.append(report.nodeid.rpartition("::")[2])


def dispatch_keep_alive(self: SseDecoder) -> SseEvent:
    return _dispatch(self) or SseEvent("message", "")


def refresh_without_reading(self: ApiKey) -> bool:
    return False


def redact_plain_key_only(self: KeyRedactor, body: Bytes) -> Bytes:
    for key in self._keys:
        body = body.replace(key.encode(), b"***")
    return body


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
)


def main() -> None:
    """Print which test finds each bug."""
    for mutation in UNIT_MUTATIONS:
        test = mutation.failed_test() or "none"
        line = f"{mutation.bug:<64}  {mutation.module:<35}  {test.partition('[')[0]}"
        print(line, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main()
