"""Responses of the upstream: read within limits, checked for errors, and classified into the error tree."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import urllib3

from waterhook.deadline_connection import CONNECTION_ERRORS
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.json_scanner import Bytes
from waterhook.text import clip
from waterhook.timestamps import read_retry_after
from waterhook.upstream.key_redaction import KeyRedactor

MAX_RESPONSE_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
# With a `shorten` function, a body is read up to this many times its limit.
MAX_READ_FACTOR = 4
_MAX_DETAIL_CHARS = 300
# Statuses that mean the origin did not process the request: 429, 503, and those of a CDN: 521 refused, 523 no route,
# 525 and 526 TLS, 530 no address. 520, 522, 524 and 527 leave open whether the origin received it.
_NOT_RECEIVED = {429, 503, 521, 523, 525, 526, 530}
_LENGTH = re.compile(r"[0-9]{1,18}")
_ENCODINGS = {"gzip", "x-gzip", "deflate"}


@dataclass(frozen=True, slots=True)
class Response:
    """A response that was read."""

    status: int
    headers: Mapping[str, str]
    body: Bytes = b""
    capped: bool = False
    """The body is larger than the limit."""
    fault: str | None = None
    """Why the body can't be decoded, or None."""
    is_whole: bool = False
    """The body was read completely, and its end is unambiguous."""
    broken: Exception | None = None
    """The exception that ended the body early, or None. `body` has the bytes before it."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return is_success(self.status)

    @property
    def is_unavailable(self) -> bool:
        """Whether the status means that the request was not carried out and can be repeated."""
        return self.status in _NOT_RECEIVED


def is_success(status: int) -> bool:
    """Return whether a status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the successes of RFC 9110


type BodyShortener = Callable[[bytearray, Iterator[bytes]], bytearray]


def read_response(
    response: urllib3.BaseHTTPResponse,
    limit_bytes: int,
    redactor: KeyRedactor,
    shorten: BodyShortener | None = None,
) -> Response:
    """Return the response without the API key, which is removed before anything else uses the response.

    Reads at most `limit_bytes` of the decoded body, and never holds more than one chunk beyond them. A larger body is
    cut off at the limit. With `shorten`, the body is what that function returns for the body up to the limit and the
    following pieces, which are at most MAX_READ_FACTOR times the limit. Raises CONNECTION_ERRORS if the response breaks
    off. With `shorten` and a part of a body, the error is in `broken` instead.
    """
    if (fault := encoding_fault(response, redactor)) is not None:
        return Response(response.status, response.headers, fault=fault)
    body, capped, broken = bytearray(), False, None
    pieces = _pieces(response, MAX_READ_FACTOR * limit_bytes)
    try:
        for piece in pieces:
            body += piece
            if len(body) > limit_bytes:
                capped = True
                body = body[:limit_bytes] if shorten is None else shorten(body, pieces)
                break
    except urllib3.exceptions.DecodeError:
        return Response(
            response.status, response.headers, fault=_encoding_fault(response, redactor, "is broken")
        )
    except CONNECTION_ERRORS as error:
        if shorten is None or not body:
            raise
        broken = error
    return Response(
        response.status,
        response.headers,
        redactor.redact(body),
        capped=capped,
        broken=broken,
        is_whole=not capped and broken is None and _ends_clearly(response),
    )


def _pieces(response: urllib3.BaseHTTPResponse, limit_bytes: int) -> Iterator[bytes]:
    """Yield the decoded body, up to its end or until more than `limit_bytes` were read."""
    while limit_bytes > 0 and (piece := response.read1(_CHUNK_BYTES, decode_content=True)):
        limit_bytes -= len(piece)
        yield piece


def encoding_fault(response: urllib3.BaseHTTPResponse, redactor: KeyRedactor) -> str | None:
    """Return why the body of a response can't be decoded, or None if it can."""
    headers = response.headers
    if response.status < HTTPStatus.OK:
        return "the status is not final"
    # http.client ignores any other list of transfer encodings, even if it ends in `chunked`.
    if (transfer := headers.get("Transfer-Encoding", "").strip().lower()) not in {"", "identity", "chunked"}:
        return f"the transfer encoding {clip(redactor.redact_text(transfer), 40)} is not supported"
    lengths = {part.strip() for part in headers.get("Content-Length", "0").split(",")}
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths.pop()):
        return "the Content-Length is not a number"
    encodings = [part.strip() for part in headers.get("Content-Encoding", "").lower().split(",")]
    if encodings not in ([""], ["identity"]) and not _ENCODINGS.issuperset(encodings):
        return _encoding_fault(response, redactor, "is not supported")
    return None


def _encoding_fault(response: urllib3.BaseHTTPResponse, redactor: KeyRedactor, fault: str) -> str:
    encoding = redactor.redact_text(response.headers.get("Content-Encoding", ""))
    return f"the content encoding {clip(encoding, 40)} {fault}"


def _ends_clearly(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether client and server must agree on where the body ended (RFC 9112, 6.3)."""
    headers = response.headers
    is_chunked, length = "Transfer-Encoding" in headers, headers.get("Content-Length")
    is_closing = "close" in headers.get("Connection", "").lower()
    return not is_closing and not (is_chunked and length) and "," not in (length or "")


def error_from_response(response: Response) -> UpstreamError:
    """Return the error for a response that is no success."""
    detail = clip(_detail(response), _MAX_DETAIL_CHARS)
    message = f"HTTP {response.status}" + (f": {detail}" if detail else "")
    status, wait_s = response.status, retry_after_s(response)
    if status < HTTPStatus.OK:
        return unusable_response(status, "the status is not final")
    if response.is_unavailable:
        return UpstreamUnavailableError("unavailable", message, status=status, retry_after_s=wait_s)
    if 300 <= status < 400:  # noqa: PLR2004 - the redirections of RFC 9110
        return UpstreamRefusedError(
            "redirected", f"HTTP {status}: redirects are not followed", status=status, retry_after_s=wait_s
        )
    if 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT:  # noqa: PLR2004 - 408 may have been processed
        return UpstreamRefusedError("refused", message, status=status, retry_after_s=wait_s)
    return PerhapsAcceptedError("server_error", message, status=status, retry_after_s=wait_s)


def unusable_response(status: int, why: str) -> PerhapsAcceptedError:
    """Return the error for a response whose content can't be used. `why` follows "HTTP 200, but"."""
    return PerhapsAcceptedError("unusable_answer", f"HTTP {status}, but {clip(why, 100)}", status=status)


def _detail(response: Response) -> str:
    """Return the `detail` of an error body, or an empty string for HTML and other bodies."""
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail if isinstance(detail, str) else ""


def retry_after_s(response: Response) -> float | None:
    """Return the seconds of a Retry-After header, or None."""
    return read_retry_after(response.headers.get("Retry-After"), time.time())
