"""Waterflai's HTTP API: start, read, cancel and follow executions."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

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
from waterhook.upstream.connections import shared_ssl_context
from waterhook.upstream.event_stream import EventStream
from waterhook.upstream.responses import (
    MAX_RESPONSE_BYTES,
    BodyShortener,
    Response,
    retry_after_s,
    unusable_response,
)
from waterhook.upstream.transport import KeySource, Transport, is_timeout, no_answer

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
# Between two bytes of an answer.
READ_TIMEOUT_S = 12.0
# For a whole call, a second attempt with a rotated key included; the functions end after 30 s.
CALL_BUDGET_S = 25.0
# Of one stream: an event of 10 KB each second of the longest time that one is followed.
MAX_STREAM_BYTES = 8 * 1024 * 1024
_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The answer to a cancel. A field is None where the answer lacks it; `previous_status` is not interpreted."""

    cancelled: bool | None
    message: str | None
    previous_status: str | None


class WaterflaiClient:
    """Starts, reads, cancels and follows executions. Safe to keep for the life of a container."""

    def __init__(
        self,
        base_url: str,
        key: KeySource,
        *,
        read_timeout_s: float | None = None,
        budget_s: float | None = None,
        on_call: Callable[[UpstreamCall], None] = ignore_call,
    ) -> None:
        """Open nothing yet. The key is sent to the host of `base_url` and, redirects being refused, to no other.

        `on_call` is called with every call that was answered or failed, never from the thread that reads a stream.
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
        """Start an execution and return the upstream's id for it.

        Raises NotAcceptedError when no job was created, PerhapsAcceptedError when one may have been.
        """
        body = to_json_bytes({"input_data": input_data})
        with self._watched(RequestKind.START):
            return self._call("POST", f"{_path(chatbot_id)}/async", _started_id, body)

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        """Return the status document. Of one above `limit_bytes` the part that was read is used.

        With the largest limit, MAX_STATUS_BYTES, only the value that exceeds it is left out: it is skipped, and
        what follows is read.
        Raises FlawedDocumentError when the document shows an outcome and yet can't be read as a whole, and another
        UpstreamError for any other answer; then the status is not known.
        """

        def document(answer: Response) -> StatusDocument:
            cut = OutputError.TOO_LARGE if answer.capped else None
            if answer.broken is not None:
                cut = cut or (OutputError.TOO_SLOW if is_timeout(answer.broken) else OutputError.UNREADABLE)
            try:
                found = StatusDocument.from_body(answer.body, cut=cut, execution_id=execution_id)
            except ValueError as error:
                if answer.broken is not None:
                    raise no_answer(answer.broken, answer.status) from error
                raise unusable_response(answer.status, str(error)) from error
            if answer.broken is not None and found.outcome is None:
                raise no_answer(answer.broken, answer.status)
            found = replace(found, retry_after_s=retry_after_s(answer))
            if is_large and found.too_large and found.status is None:
                raise unusable_response(answer.status, f"more than {limit_bytes} bytes without a status")
            if found.is_flawed:
                raise FlawedDocumentError(answer.status, found)
            return found

        is_large = limit_bytes >= MAX_STATUS_BYTES
        shorten = shorten_document if is_large else None
        with self._watched(RequestKind.STATUS):
            return self._call("GET", _path(execution_id), document, limit_bytes=limit_bytes, shorten=shorten)

    def cancel(self, execution_id: str) -> CancelResult:
        """Cancel an execution and return the answer. Raises UpstreamError for anything but a success."""

        def cancelled(answer: Response) -> CancelResult:
            # 204, or a success without a body: accepted, without a result.
            found = _object(answer) if answer.body.strip() or answer.capped else {}
            if is_foreign(found.get("execution_id"), execution_id):
                raise unusable_response(answer.status, FOREIGN)
            flag, message, previous = (
                found.get(name) for name in ("cancelled", "message", "previous_status")
            )
            return CancelResult(
                cancelled=flag if isinstance(flag, bool) else None,
                message=clip(message) if isinstance(message, str) else None,
                previous_status=clip(previous) if isinstance(previous, str) else None,
            )

        with self._watched(RequestKind.CANCEL):
            return self._call("DELETE", _path(execution_id), cancelled)

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> EventStream:
        """Open a connection for the execution's events and return the stream; a thread reads it.

        It ends at `ends_at` on the monotonic clock, or when no byte arrives for `idle_timeout_s`. Close it.
        Raises UpstreamUnavailableError when no connection comes about; every other fault is the stream's end.
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
    def _watched(self, asked: RequestKind) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except UpstreamError as error:
            self._on_call(UpstreamCall(asked, (time.monotonic() - began) * 1000, error))
            raise
        self._on_call(UpstreamCall(asked, (time.monotonic() - began) * 1000))

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


def _started_id(answer: Response) -> str:
    execution_id = _object(answer).get("execution_id")
    if not isinstance(execution_id, str) or not _is_segment(execution_id):
        raise unusable_response(answer.status, "no usable execution_id")
    return execution_id


def _object(answer: Response) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise unusable_response(answer.status, "not JSON") from error
    if not isinstance(value, dict):
        raise unusable_response(answer.status, "not a JSON object")
    return value


def _is_segment(text: str) -> bool:
    return 1 <= len(text) <= MAX_ID_CHARS and text not in {".", ".."} and text.isprintable()


def _path(id_: str) -> str:
    """Return the path of an execution or a chatbot, its id as one segment: a slash in it stays inside it."""
    if not _is_segment(id_):
        message = f"id: expected 1 to {MAX_ID_CHARS} printable characters"
        raise InvalidRequestError(message)
    return f"/v1/executions/{quote(id_, safe='')}"
