"""Live status without an upstream."""

from waterhook.api.live_status import LiveStatus
from waterhook.domain.status_document import StatusDocument
from waterhook.storage.execution_record import ExecutionRecord


class FakeLiveStatus(LiveStatus):
    """Returns the given document for every record, or None if there is none."""

    def __init__(self, document: StatusDocument | None = None) -> None:
        self._document = document

    def read(self, record: ExecutionRecord) -> StatusDocument | None:
        del record
        return self._document
