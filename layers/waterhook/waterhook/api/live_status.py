"""Live status of a running job, for GET requests."""

from collections import OrderedDict
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.status_document import StatusDocument
from waterhook.errors import WaterhookError
from waterhook.steps.status_poller import StatusSource
from waterhook.storage.execution_record import ExecutionRecord

# A dashboard that refreshes every second causes a status request every two seconds.
CACHED_S = 2.0
MAX_CACHED = 256
# Progress needs no output, so at most this much of a document is read.
MAX_PROGRESS_BYTES = 64 * 1024


class LiveStatus:
    """Reads status documents of running jobs, and caches each for CACHED_S."""

    def __init__(self, source: StatusSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._cache: OrderedDict[str, tuple[float, StatusDocument | None]] = OrderedDict()

    def read(self, record: ExecutionRecord) -> StatusDocument | None:
        """Return the status document of a running job, at most CACHED_S old, or None if it can't be read."""
        upstream_id, now = record.waterflai_execution_id, self._clock()
        if upstream_id is None or record.status.is_final:
            return None
        cached_at, document = self._cache.get(upstream_id, (float("-inf"), None))
        if now - cached_at < CACHED_S:
            return document
        try:
            document = self._source.status(upstream_id, limit_bytes=MAX_PROGRESS_BYTES)
        except (WaterhookError, BotoCoreError, ClientError):
            # GET returns the record alone. The failure is cached too, so that a failing upstream or an unreadable key
            # does not get more requests.
            document = None
        self._cache[upstream_id] = (now, document)
        self._cache.move_to_end(upstream_id)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return document
