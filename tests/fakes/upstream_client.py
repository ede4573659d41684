"""Stand-ins for Waterflai and for the key, where no socket is needed."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.builders import KEY, UPSTREAM_ID
from waterhook.api.live_status import LiveStatus
from waterhook.domain.status_document import StatusDocument
from waterhook.observability.telemetry import Telemetry
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.client import CancelResult

type Answer[T] = T | Exception | Callable[[], T]


def _told[T](script: list[Answer[T]], default: T) -> T:
    """Take the next line of a script; the last one is repeated."""
    if not script:
        return default
    line = script.pop(0) if len(script) > 1 else script[0]
    if isinstance(line, Exception):
        raise line
    return line() if callable(line) else line


class FakeUpstream:
    """Waterflai without HTTP: it does what the scripts say and counts what it was asked."""

    def __init__(
        self,
        *,
        starts: list[Answer[str]] | None = None,
        statuses: list[Answer[StatusDocument]] | None = None,
        cancels: list[Answer[CancelResult]] | None = None,
    ) -> None:
        self._starts = starts or []
        self._statuses = statuses or []
        self._cancels = cancels or []
        self.posted: list[tuple[str, Mapping[str, Any]]] = []
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        self.posted.append((chatbot_id, input_data))
        return _told(self._starts, UPSTREAM_ID)

    def status(self, execution_id: str, *, limit_bytes: int = 0) -> StatusDocument:
        self.asked.append(execution_id)
        return _told(self._statuses, StatusDocument(status="RUNNING"))

    def cancel(self, execution_id: str) -> CancelResult:
        self.cancelled.append(execution_id)
        return _told(self._cancels, CancelResult(cancelled=True, message=None, previous_status="RUNNING"))


class FakeKey:
    """A key source with as many rotations as it is given keys."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys or (KEY,))
        self.refreshes = 0

    def get(self) -> str:
        return self._keys[0]

    def refresh(self) -> bool:
        self.refreshes += 1
        if len(self._keys) == 1:
            return False
        del self._keys[0]
        return True


class Silent(LiveStatus):
    """A live status that is never known."""

    def __init__(self) -> None:
        pass

    def read(self, record: ExecutionRecord) -> None:
        return None


def unused() -> Any:
    """Stand for the factory of what a test must not use."""
    raise AssertionError("this is not expected to be used")


# Outside an invocation nothing is logged or measured.
TELEMETRY = Telemetry("test", correlation_id_path="id")
NO_BUCKET = ResultsBucket("none", unused)
