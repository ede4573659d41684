"""Live status of a running job, for callers of the API."""

from collections import OrderedDict
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.status_document import StatusDocument
from waterhook.errors import WaterhookError
from waterhook.steps.status_poller import StatusSource
from waterhook.storage.execution_record import ExecutionRecord

# A dashboard that refreshes every second causes a status request every other second.
CACHED_S = 2.0
MAX_CACHED = 256
# Progress needs no output: a document larger than this is not worth its transfer.
MAX_PROGRESS_BYTES = 64 * 1024


class LiveStatus:
    """Status documents of running jobs, each cached for CACHED_S."""

    def __init__(self, source: StatusSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, StatusDocument | None]] = OrderedDict()

    def read(self, record: ExecutionRecord) -> StatusDocument | None:
        """Return the status document of a running job, at most CACHED_S old, or None where it is not known."""
        upstream_id, now = record.waterflai_execution_id, self._clock()
        if upstream_id is None or record.status.is_final:
            return None
        seen_at, document = self._seen.get(upstream_id, (float("-inf"), None))
        if now - seen_at < CACHED_S:
            return document
        try:
            document = self._source.status(upstream_id, limit_bytes=MAX_PROGRESS_BYTES)
        except (WaterhookError, BotoCoreError, ClientError):
            # The record is returned without it. The failure is cached too: an upstream that fails, or a key that
            # can't be read, is not requested more often.
            document = None
        self._seen[upstream_id] = (now, document)
        self._seen.move_to_end(upstream_id)
        while len(self._seen) > MAX_CACHED:
            self._seen.popitem(last=False)
        return document
