"""Answers of the upstream: read within limits, checked for faults, and classified by their meaning."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException

import urllib3

from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.json_scanner import Bytes
from waterhook.text import clip
from waterhook.upstream.key_redaction import KeyRedactor

MAX_RESPONSE_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
# A body that is shortened is read up to so many times its limit.
MAX_SKIPPED = 4
# What urllib3's connections, http.client below them and the socket raise.
CONNECTION_ERRORS = (urllib3.exceptions.HTTPError, HTTPException, OSError)
_MAX_DETAIL_CHARS = 300
# 429, 503, and the answers of a CDN that did not reach the origin: 521 refused, 523 no route,
# 525 and 526 TLS, 530 no address. 520, 522, 524 and 527 leave open whether the origin received the request.
_NOT_RECEIVED = {429, 503, 521, 523, 525, 526, 530}
_LENGTH = re.compile(r"[0-9]{1,18}")
_ENCODINGS = {"gzip", "x-gzip", "deflate"}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it was read."""

    status: int
    headers: Mapping[str, str]
    body: Bytes = b""
    capped: bool = False
    """Whether the body went on after the limit."""
    fault: str | None = None
    """Why the body can't be read, if so."""
    is_whole: bool = False
    """Whether the body was read to its end, and the end is unambiguous."""
    broken: Exception | None = None
    """What ended the body early, if so; it holds what arrived before."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return is_success(self.status)

    @property
    def is_unavailable(self) -> bool:
        """Whether the status means that the request was not carried out and may be repeated."""
        return self.status in _NOT_RECEIVED


def is_success(status: int) -> bool:
    """Return whether a status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - the successes of RFC 9110


type BodyShortener = Callable[[bytearray, Iterator[bytes]], bytearray]


def read_response(
    response: urllib3.BaseHTTPResponse,
    limit_bytes: int,
    scrubber: KeyRedactor,
    shorten: BodyShortener | None = None,
) -> Response:
    """Return an answer without the API key, which is removed here before anything of it is used.

    Reads at most `limit_bytes` of the body, counted after decoding, and never holds more than a chunk beyond them.
    A larger body is cut off at the limit, or with `shorten` it is what that returns for the body up to the limit and
    the pieces that follow, of which there are at most MAX_SKIPPED of the limit.
    Raises what urllib3 and the socket raise when the answer breaks off. With `shorten` that is in the answer.
    """
    if (fault := encoding_fault(response, scrubber)) is not None:
        return Response(response.status, response.headers, fault=fault)
    body, capped, broken = bytearray(), False, None
    pieces = _pieces(response, MAX_SKIPPED * limit_bytes)
    try:
        for piece in pieces:
            body += piece
            if len(body) > limit_bytes:
                capped = True
                body = body[:limit_bytes] if shorten is None else shorten(body, pieces)
                break
    except urllib3.exceptions.DecodeError:
        return Response(
            response.status, response.headers, fault=_encoding_fault(response, scrubber, "broken")
        )
    except CONNECTION_ERRORS as error:
        if shorten is None or not body:
            raise
        broken = error
    return Response(
        response.status,
        response.headers,
        scrubber.redact(body),
        capped=capped,
        broken=broken,
        is_whole=not capped and broken is None and _ends_clearly(response),
    )


def _pieces(response: urllib3.BaseHTTPResponse, limit_bytes: int) -> Iterator[bytes]:
    """Yield the decoded body, until its end or more than `limit_bytes`."""
    while limit_bytes > 0 and (piece := response.read1(_CHUNK_BYTES, decode_content=True)):
        limit_bytes -= len(piece)
        yield piece


def encoding_fault(response: urllib3.BaseHTTPResponse, scrubber: KeyRedactor) -> str | None:
    """Return why the body of an answer can't be read, or None when it can."""
    headers = response.headers
    if response.status < HTTPStatus.OK:
        return "it is not a final answer"
    # http.client ignores any other list of transfer encodings, even one that ends in `chunked`.
    if (transfer := headers.get("Transfer-Encoding", "").strip().lower()) not in {"", "identity", "chunked"}:
        return f"its transfer encoding is {clip(scrubber.redact_text(transfer), 40)}"
    lengths = {part.strip() for part in headers.get("Content-Length", "0").split(",")}
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths.pop()):
        return "its Content-Length is not a number"
    encodings = [part.strip() for part in headers.get("Content-Encoding", "").lower().split(",")]
    if encodings not in ([""], ["identity"]) and not _ENCODINGS.issuperset(encodings):
        return _encoding_fault(response, scrubber, "not one we can read")
    return None


def _encoding_fault(response: urllib3.BaseHTTPResponse, scrubber: KeyRedactor, what: str) -> str:
    encoding = scrubber.redact_text(response.headers.get("Content-Encoding", ""))
    return f"its encoding {clip(encoding, 40)} is {what}"


def _ends_clearly(response: urllib3.BaseHTTPResponse) -> bool:
    """Return whether client and server surely agree on where the body ended (RFC 9112, 6.3)."""
    headers = response.headers
    is_chunked, length = "Transfer-Encoding" in headers, headers.get("Content-Length")
    said_to_end = "close" in headers.get("Connection", "").lower()
    return not said_to_end and not (is_chunked and length) and "," not in (length or "")


def error_from_response(answer: Response) -> UpstreamError:
    """Return the error for an answer that is no success."""
    detail = clip(_detail(answer), _MAX_DETAIL_CHARS)
    message = f"HTTP {answer.status}" + (f": {detail}" if detail else "")
    status, wait_s = answer.status, retry_after_s(answer)
    if status < HTTPStatus.OK:
        return unusable_response(status, "it is not a final answer")
    if answer.is_unavailable:
        return UpstreamUnavailableError("unavailable", message, status=status, retry_after_s=wait_s)
    if 300 <= status < 400:  # noqa: PLR2004 - the redirections of RFC 9110
        return UpstreamRefusedError(
            "redirected", f"HTTP {status}: redirects are not followed", status=status, retry_after_s=wait_s
        )
    if 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT:  # noqa: PLR2004 - 408 leaves it open
        return UpstreamRefusedError("refused", message, status=status, retry_after_s=wait_s)
    return PerhapsAcceptedError("server_error", message, status=status, retry_after_s=wait_s)


def unusable_response(status: int, why: str) -> PerhapsAcceptedError:
    """Return the error for an answer whose content can't be used."""
    return PerhapsAcceptedError("unusable_answer", f"HTTP {status}, but {clip(why, 100)}", status=status)


def _detail(answer: Response) -> str:
    """Return the `detail` of an error body; an HTML page of a gateway has none."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail if isinstance(detail, str) else ""


def retry_after_s(answer: Response) -> float | None:
    """Return the seconds of a Retry-After header in either of its forms (RFC 9110, 10.2.3), or None."""
    value = (answer.headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
