"""Client of Waterflai's HTTP API: starts, reads, cancels and follows executions."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from waterhook.deadline_connection import is_timeout, shared_ssl_context
from waterhook.domain.status_document import (
    FOREIGN,
    MAX_STATUS_BYTES,
    FlawedDocumentError,
    OutputError,
    StatusDocument,
    is_foreign,
    shorten_document,
)
from waterhook.errors import InvalidRequestError, UpstreamError
from waterhook.json_text import to_json_bytes
from waterhook.observability.metrics import RequestKind, UpstreamCall, ignore_call
from waterhook.text import MAX_ID_CHARS, clip
from waterhook.upstream.event_stream import EventStream
from waterhook.upstream.responses import (
    MAX_RESPONSE_BYTES,
    BodyShortener,
    Response,
    retry_after_s,
    unusable_response,
)
from waterhook.upstream.transport import KeySource, Transport, no_answer

__all__ = [
    "CALL_BUDGET_S",
    "CONNECT_TIMEOUT_S",
    "MAX_RESPONSE_BYTES",
    "MAX_STATUS_BYTES",
    "MAX_STREAM_BYTES",
    "READ_TIMEOUT_S",
    "CancelResult",
    "KeySource",
    "WaterflaiClient",
    "shared_ssl_context",
]

CONNECT_TIMEOUT_S = 3.0
# Maximum time between two bytes of a response.
READ_TIMEOUT_S = 12.0
# Maximum time of a call, with a second attempt after a key rotation. The functions time out after 30 s.
CALL_BUDGET_S = 25.0
# Maximum size of a stream: an event of 10 KB per second for the longest follow.
MAX_STREAM_BYTES = 8 * 1024 * 1024
_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The answer to a cancel. Fields that the answer lacks are None. `previous_status` is not interpreted."""

    cancelled: bool | None
    message: str | None
    previous_status: str | None


class WaterflaiClient:
    """Starts, reads, cancels and follows executions. One instance can be used for the life of a container."""

    def __init__(
        self,
        base_url: str,
        key: KeySource,
        *,
        read_timeout_s: float | None = None,
        budget_s: float | None = None,
        on_call: Callable[[UpstreamCall], None] = ignore_call,
    ) -> None:
        """Open no connection yet. The key is sent only to the host of `base_url`; redirects are not followed.

        `on_call` is called with every finished call, never from the thread that reads a stream.
        """
        self._on_call = on_call
        self._budget_s = budget_s
        self._http = Transport(
            base_url,
            key,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            read_timeout_s=read_timeout_s or READ_TIMEOUT_S,
        )

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        """Start a job and return its id.

        Raises NotAcceptedError if no job was created, PerhapsAcceptedError if one may have been created.
        """
        body = to_json_bytes({"input_data": input_data})
        with self._report(RequestKind.START):
            return self._call("POST", f"{_path(chatbot_id)}/async", _started_id, body)

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the status document, reading at most `limit_bytes`.

        A larger document is cut off at the limit. With MAX_STATUS_BYTES, only the value in which the limit is reached
        is left out, and the fields after it are read. Raises FlawedDocumentError if the document shows an outcome but
        is incomplete, and another UpstreamError for any other failure.
        """

        def read_document(response: Response) -> StatusDocument:
            cut = OutputError.TOO_LARGE if response.capped else None
            if response.broken is not None:
                is_slow = is_timeout(response.broken)
                cut = cut or (OutputError.TOO_SLOW if is_slow else OutputError.UNREADABLE)
            try:
                document = StatusDocument.from_body(response.body, cut=cut, execution_id=execution_id)
            except ValueError as error:
                if response.broken is not None:
                    raise no_answer(response.broken, response.status) from error
                raise unusable_response(response.status, str(error)) from error
            if response.broken is not None and document.outcome is None:
                raise no_answer(response.broken, response.status)
            document = replace(document, retry_after_s=retry_after_s(response))
            if is_large and document.too_large and document.status is None:
                raise unusable_response(
                    response.status, f"the document has more than {limit_bytes} bytes and no status"
                )
            if document.is_flawed:
                raise FlawedDocumentError(response.status, document)
            return document

        is_large = limit_bytes >= MAX_STATUS_BYTES
        shorten = shorten_document if is_large else None
        with self._report(RequestKind.STATUS):
            return self._call(
                "GET", _path(execution_id), read_document, limit_bytes=limit_bytes, shorten=shorten
            )

    def cancel(self, execution_id: str) -> CancelResult:
        """Cancel a job and return the answer. Raises UpstreamError unless the response is a success."""

        def read_result(response: Response) -> CancelResult:
            # A 204, or a success without a body, means accepted without a result.
            values = _read_object(response) if response.body.strip() or response.capped else {}
            if is_foreign(values.get("execution_id"), execution_id):
                raise unusable_response(response.status, FOREIGN)
            flag, message, previous = (
                values.get(name) for name in ("cancelled", "message", "previous_status")
            )
            return CancelResult(
                cancelled=flag if isinstance(flag, bool) else None,
                message=clip(message) if isinstance(message, str) else None,
                previous_status=clip(previous) if isinstance(previous, str) else None,
            )

        with self._report(RequestKind.CANCEL):
            return self._call("DELETE", _path(execution_id), read_result)

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> EventStream:
        """Open a connection for the execution's event stream. A thread reads the stream; close it after use.

        The stream ends at `ends_at` on the monotonic clock, or when no byte arrives for `idle_timeout_s`. Raises
        UpstreamUnavailableError if no connection is established. Any other error becomes the end of the stream.
        """
        began_at = time.monotonic()
        path = f"{_path(execution_id)}/stream"
        try:
            body = self._http.open_stream(
                path,
                _EVENT_STREAM,
                ends_at=ends_at,
                idle_timeout_s=idle_timeout_s,
                limit_bytes=MAX_STREAM_BYTES,
            )
        except UpstreamError as error:
            if time.monotonic() >= ends_at:
                return EventStream(None, execution_id, began_at, self._on_call)
            self._on_call(UpstreamCall(RequestKind.STREAM, (time.monotonic() - began_at) * 1000, error))
            raise
        return EventStream(body, execution_id, began_at, self._on_call)

    @contextmanager
    def _report(self, request_kind: RequestKind) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except UpstreamError as error:
            self._on_call(UpstreamCall(request_kind, (time.monotonic() - began) * 1000, error))
            raise
        self._on_call(UpstreamCall(request_kind, (time.monotonic() - began) * 1000))

    def _call[T](
        self,
        method: str,
        path: str,
        read: Callable[[Response], T],
        body: bytes | None = None,
        limit_bytes: int = MAX_RESPONSE_BYTES,
        shorten: BodyShortener | None = None,
    ) -> T:
        budget_s = self._budget_s or CALL_BUDGET_S
        return self._http.call(
            method, path, body, read=read, budget_s=budget_s, limit_bytes=limit_bytes, shorten=shorten
        )


def _started_id(response: Response) -> str:
    execution_id = _read_object(response).get("execution_id")
    if not isinstance(execution_id, str) or not _is_segment(execution_id):
        raise unusable_response(response.status, "the body has no valid execution_id")
    return execution_id


def _read_object(response: Response) -> dict[str, Any]:
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise unusable_response(response.status, "the body is not JSON") from error
    if not isinstance(value, dict):
        raise unusable_response(response.status, "the body is not a JSON object")
    return value


def _is_segment(text: str) -> bool:
    return 1 <= len(text) <= MAX_ID_CHARS and text not in {".", ".."} and text.isprintable()


def _path(id_: str) -> str:
    """Return the path of an execution or a chatbot. The id is one path segment: slashes in it are encoded."""
    if not _is_segment(id_):
        message = f'id: expected 1 to {MAX_ID_CHARS} printable characters, and not "." or ".."'
        raise InvalidRequestError(message)
    return f"/v1/executions/{quote(id_, safe='')}"
