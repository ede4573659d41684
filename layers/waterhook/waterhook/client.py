"""Waterflai's HTTP API: one attempt per call, and an error that says whether it may have been carried out."""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Protocol
from urllib.parse import quote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from waterhook.errors import InvalidRequest, PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.models import MAX_ID_CHARS, clip
from waterhook.status import StatusDocument

CONNECT_TIMEOUT_S = 3.0
# Between two bytes of an answer.
READ_TIMEOUT_S = 12.0
# For a whole call, a second attempt with a rotated key included; the functions end after 30 s.
CALL_BUDGET_S = 25.0
MAX_STATUS_BYTES = 6 * 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_MAX_DETAIL_CHARS = 300


class KeySource(Protocol):
    """Where the client gets its key from, and asks again after a 401."""

    def get(self) -> str:
        """Return the key."""

    def refresh(self) -> bool:
        """Read it anew and return whether it has changed."""


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What a cancel came to; `previous_status` is the upstream's word, or None."""

    cancelled: bool
    message: str | None
    previous_status: str | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    capped: bool


class _NotConnected(Exception):
    """No connection came about, so nothing was sent. urllib3 alone can't tell this from a broken answer."""


class _Marked:
    """Marks what failed before there was a connection, in front of either of urllib3's two kinds."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # the mixin's next in line has it
        except Exception as error:
            raise _NotConnected(str(error)) from error


class _MarkedHTTPConnection(_Marked, HTTPConnection):
    pass


class _MarkedHTTPSConnection(_Marked, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _MarkedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _MarkedHTTPSConnection


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the one context of this process: reading the CA file anew costs more than a handshake."""
    return ssl.create_default_context()


class WaterflaiClient:
    """Start, ask and cancel executions. Safe to keep for the life of a container."""

    def __init__(self, base_url: str, key: KeySource) -> None:
        """Open nothing yet. The key is sent to the host of `base_url` and, redirects being refused, to no other."""
        url = urllib3.util.parse_url(base_url)
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        host = url.host or ""
        self._key = key
        self._pool: urllib3.HTTPConnectionPool = (
            _HTTPSPool(host, url.port, timeout=timeout, ssl_context=shared_ssl_context())
            if url.scheme == "https"
            else _HTTPPool(host, url.port, timeout=timeout)
        )

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        """Start an execution and return the upstream's id for it.

        Raises Unavailable or Refused when surely no job was created, PerhapsAccepted when one may have been.
        """
        body = json.dumps({"input_data": input_data}, allow_nan=False).encode()
        answer = self._call("POST", f"/v1/executions/{_segment(chatbot_id)}/async", body)
        started = _object(answer)
        execution_id = started.get("execution_id")
        if not isinstance(execution_id, str) or not _is_segment(execution_id):
            raise _unusable(answer, "no usable execution_id")
        return execution_id

    def status(self, execution_id: str) -> StatusDocument:
        """Return the status document. Raises UpstreamError for any other answer, which says nothing of the job."""
        answer = self._call("GET", f"/v1/executions/{_segment(execution_id)}", limit_bytes=MAX_STATUS_BYTES)
        try:
            # The cap may have cut a character in two; anything else that is not UTF-8 is garbage.
            text = answer.body.decode("utf-8-sig", "ignore" if answer.capped else "strict")
            return StatusDocument.from_text(text, capped=answer.capped)
        except ValueError as error:
            raise _unusable(answer, str(error)) from error

    def cancel(self, execution_id: str) -> CancelAnswer:
        """Ask for the execution's end and return what came of it. Raises UpstreamError for any other answer."""
        answer = _object(self._call("DELETE", f"/v1/executions/{_segment(execution_id)}"))
        message, previous = answer.get("message"), answer.get("previous_status")
        return CancelAnswer(
            cancelled=answer.get("cancelled") is True,
            message=clip(message) if isinstance(message, str) else None,
            previous_status=clip(previous) if isinstance(previous, str) else None,
        )

    def _call(
        self, method: str, path: str, body: bytes | None = None, limit_bytes: int = MAX_ANSWER_BYTES
    ) -> _Answer:
        """Make one attempt, and a second only when the key has been rotated since it was read."""
        ends_at = time.monotonic() + CALL_BUDGET_S
        answer = self._attempt(method, path, body, limit_bytes, ends_at)
        if answer.status == 401 and self._key.refresh():  # noqa: PLR2004 - Unauthorized
            answer = self._attempt(method, path, body, limit_bytes, ends_at)
        if 200 <= answer.status < 300:  # noqa: PLR2004 - the successes of RFC 9110
            return answer
        raise self._error(answer)

    def _attempt(
        self, method: str, path: str, body: bytes | None, limit_bytes: int, ends_at: float
    ) -> _Answer:
        headers = {
            "X-API-Key": self._key.get(),
            "Accept": "application/json",
            # A compressed body could unfold into any size.
            "Accept-Encoding": "identity",
            "User-Agent": "waterhook",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
            # A kept connection may be gone without our knowing, and then nobody can say whether the
            # start was received: it gets a connection of its own.
            headers["Connection"] = "close"
        try:
            response = self._pool.urlopen(
                method, path, body, headers, retries=False, redirect=False, preload_content=False
            )
        except _NotConnected as error:
            raise Unavailable(
                "unreachable", f"no connection: {clip(str(error), _MAX_DETAIL_CHARS)}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PerhapsAccepted("no_answer", f"no answer: {type(error).__name__}") from error
        try:
            return _read(response, limit_bytes, ends_at)
        finally:
            # Read to its end it has already given its connection back; otherwise that is unfit for reuse.
            response.close()

    def _error(self, answer: _Answer) -> UpstreamError:
        """Sort an answer that is no success; every status that a start may meet has its place here."""
        detail = self._without_key(_detail(answer))
        said = f"HTTP {answer.status}" + (f": {detail}" if detail else "")
        status = answer.status
        if status in {429, 503}:
            return Unavailable("unavailable", said, status=status, retry_after_s=_retry_after_s(answer))
        if 300 <= status < 400:  # noqa: PLR2004 - the redirections of RFC 9110
            return Refused("redirected", f"HTTP {status}: redirects are not followed", status=status)
        if 400 <= status < 500 and status != 408:  # noqa: PLR2004 - 408 leaves open how far it got
            return Refused("refused", said, status=status)
        return PerhapsAccepted("server_error", said, status=status, retry_after_s=_retry_after_s(answer))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key.get(), "***")


def _read(response: urllib3.BaseHTTPResponse, limit_bytes: int, ends_at: float) -> _Answer:
    """Read at most `limit_bytes` until `ends_at` on the monotonic clock, however slowly they drip."""
    body = bytearray()
    try:
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > limit_bytes:
                break
            if time.monotonic() > ends_at:
                raise PerhapsAccepted("no_answer", "the answer took too long", status=response.status)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise PerhapsAccepted(
            "no_answer", f"the answer broke off: {type(error).__name__}", status=response.status
        ) from error
    return _Answer(
        response.status, response.headers, bytes(body[:limit_bytes]), capped=len(body) > limit_bytes
    )


def _object(answer: _Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise _unusable(answer, "not JSON") from error
    if not isinstance(value, dict):
        raise _unusable(answer, "not a JSON object")
    return value


def _unusable(answer: _Answer, why: str) -> PerhapsAccepted:
    return PerhapsAccepted(
        "unusable_answer", f"HTTP {answer.status}, but {clip(why, 100)}", status=answer.status
    )


def _detail(answer: _Answer) -> str:
    """Return the `detail` of an error body, clipped; an HTML page of a gateway has none."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return clip(detail, _MAX_DETAIL_CHARS) if isinstance(detail, str) else ""


def _retry_after_s(answer: _Answer) -> float | None:
    """Return the seconds of a Retry-After header in either of its forms (RFC 9110, 10.2.3), or None."""
    value = (answer.headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _is_segment(text: str) -> bool:
    return 1 <= len(text) <= MAX_ID_CHARS and text not in {".", ".."} and text.isprintable()


def _segment(text: str) -> str:
    """Return an id as one path segment: a slash in it stays inside it."""
    if not _is_segment(text):
        message = f"id: expected 1 to {MAX_ID_CHARS} printable characters"
        raise InvalidRequest(message)
    return quote(text, safe="")
