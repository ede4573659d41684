"""The upstream's status document. Each readable field is used, even if other fields or the end are unreadable."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple, Self

from waterhook.domain.status import UPSTREAM_FINAL, UPSTREAM_RUNNING, Status
from waterhook.errors import PerhapsAcceptedError
from waterhook.json_scanner import SPACE, STRING, Bytes, ValueSkipper, depth_of, is_utf8, value_end
from waterhook.text import MAX_ID_CHARS, MAX_MESSAGE_CHARS, clip
from waterhook.timestamps import to_epoch_s

# Largest output that is stored, and largest document that is held in memory. The other fields are small.
MAX_OUTPUT_BYTES = 50 * 1024 * 1024
MAX_STATUS_BYTES = MAX_OUTPUT_BYTES + 1024 * 1024
# Limit for a function with little time or memory. A larger document is left to the poll function.
MAX_SHORT_STATUS_BYTES = 6 * 1024 * 1024
# Longest part that is used of a field other than the output, and that is read after a value above the limit.
_MAX_FIELD_BYTES = 64 * 1024
# Largest output that is inline in a record and a notification. A DynamoDB write unit is 1 KB, so above this size S3 is
# cheaper. It is far below the limits of every service that carries it.
MAX_INLINE_BYTES = 32 * 1024
# A more deeply nested output is stored in S3: the JSON parsers of subscribers stop at 64 to 1,000 levels or more.
MAX_INLINE_DEPTH = 500

_INT_DIGITS = 18
_TEXT_START = re.compile(r'"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+')
_BOM = b"\xef\xbb\xbf"
_OUTPUT = "final_output"
FOREIGN = "the document belongs to another execution"


class OutputError(StrEnum):
    """Why a completed job has no output."""

    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    STORAGE_FAILED = "storage_failed"
    NOT_STORED = "not_stored"


def _lenient_int(digits: str) -> int | None:
    # CPython refuses to convert integers of thousands of digits. No field that is used is that long.
    return int(digits) if len(digits) <= _INT_DIGITS else None


_DECODER = json.JSONDecoder(parse_int=_lenient_int, strict=False)


class _Member(NamedTuple):
    """Where the value of a member is in the body. `end` is None if the body breaks off in the value."""

    start: int
    end: int | None
    is_valid: bool


class _Scan(NamedTuple):
    """The members of a document that are used, and whether the document is complete."""

    members: dict[str, _Member]
    is_whole: bool
    open_at: int | None
    """Start of the value in which the body breaks off."""


def _scan(body: Bytes) -> _Scan:
    """Return the members of a JSON object; the last one of each name counts. Raises ValueError for other JSON."""
    members: dict[str, _Member] = {}
    at = _past(body, len(_BOM) if body.startswith(_BOM) else 0, b"{")
    if at is None:
        message = "not a JSON object"
        raise ValueError(message)
    if (end := _past(body, at, b"}")) is not None:
        return _Scan(members, end == len(body), None)
    while (match := STRING.match(body, at)) is not None:
        name, start = _name(match.group()), _past(body, match.end(), b":")
        if start is None:
            break
        valid_end = value_end(body, start)
        end = ValueSkipper().feed(body, start) if valid_end is None else valid_end
        if end == len(body):
            end = None
        if name in _FIELDS:
            members[name] = _Member(start, end, valid_end is not None)
        if end is None:
            return _Scan(members, is_whole=False, open_at=start)
        if (closed := _past(body, end, b"}")) is not None:
            return _Scan(members, closed == len(body), None)
        if (following := _past(body, end, b",")) is None:
            break
        at = following
    return _Scan(members, is_whole=False, open_at=None)


def _past(body: Bytes, at: int, mark: bytes) -> int | None:
    """Return the index after `mark` and the space behind it, or None if `mark` is not next."""
    at = _space_end(body, at)
    return _space_end(body, at + 1) if body[at : at + 1] == mark else None


def _space_end(body: Bytes, at: int) -> int:
    match = SPACE.match(body, at)
    return at if match is None else match.end()


def _name(source: Bytes) -> str:
    return str(json.loads(source)) if len(source) <= MAX_ID_CHARS and source.isascii() else ""


def _value(body: Bytes, member: _Member | None) -> Any:
    """Return the value of a field, or None if it can't be read. Invalid UTF-8 becomes U+FFFD."""
    if member is None or member.end is None:
        return None
    source = body[member.start : min(member.end, member.start + _MAX_FIELD_BYTES)]
    text = source.decode("utf-8", "replace")
    if member.end - member.start > len(source):
        # Only the beginning of a long string is used.
        match = _TEXT_START.match(text)
        text = "" if match is None else match.group() + '"'
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def shorten_document(body: bytearray, rest: Iterator[bytes]) -> bytearray:
    """Return a document above the limit, with `null` instead of the value in which the limit was reached.

    `body` is the document up to the limit, `rest` is what follows. The value is skipped and the members after it are
    read. If the value does not end in `rest`, the result breaks off in it.
    """
    start = _scan(body).open_at
    if start is None:
        return body
    skipper = ValueSkipper()
    if skipper.feed(body, start) is None:
        del body[start + 1 :]
        for piece in rest:
            if (end := skipper.feed(piece)) is not None:
                body[start:] = b"null" + piece[end:]
                break
        else:
            return body
    limit_bytes = len(body) + _MAX_FIELD_BYTES
    while len(body) < limit_bytes and (piece := next(rest, b"")):
        body += piece
    return body


def _text(value: object, limit: int = MAX_MESSAGE_CHARS) -> str | None:
    return clip(value, limit) if isinstance(value, str) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _word(status: str | None) -> str:
    return (status or "").strip().upper()


def is_foreign(document_id: object, execution_id: str) -> bool:
    """Return whether the `execution_id` of a document or event is present and names another execution."""
    return document_id is not None and str(document_id) != execution_id


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """The status of a job. A missing or unreadable field is None."""

    status: str | None = None
    progress: float | None = None
    current_node: str | None = None
    completed_nodes: int | None = None
    total_nodes: int | None = None
    final_output_json: str | Bytes | None = None
    """Valid JSON as received. A string if it can be inline in a notification, else UTF-8 bytes."""
    error_message: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    retry_count: int | None = None
    cleanup_after: float | None = None
    too_large: bool = False
    """The body was larger than the limit."""
    output_error: OutputError | None = None
    """Why there is no output. Only relevant if the job has completed."""
    is_flawed: bool = False
    """The body breaks off, continues after its end, or its output is unreadable. A new request may return it whole."""
    retry_after_s: float | None = None
    """The `Retry-After` header of the response, in seconds."""

    @property
    def outcome(self) -> Status | None:
        """The outcome of the job, or None if it is not final."""
        return UPSTREAM_FINAL.get(_word(self.status))

    @property
    def unknown_status(self) -> str | None:
        """The status if it is none of the known words, else None."""
        word = _word(self.status)
        return self.status if word and word not in UPSTREAM_FINAL and word not in UPSTREAM_RUNNING else None

    @classmethod
    def from_body(
        cls, body: Bytes, *, cut: OutputError | None = None, execution_id: str | None = None
    ) -> Self:
        """Read a body. `cut` is why it may be incomplete: the size limit, the time limit, or a broken transfer.

        A document that breaks off in `final_output` and has no status counts as COMPLETED, because Waterflai sets that
        field only then. A large output is cut out of `body` in place, to save a copy.

        Raises ValueError if the body is not a JSON object, if it breaks off before it shows an outcome (unless at the
        size limit), or if it names another execution than `execution_id`.
        """
        scan = _scan(body) if cut is not OutputError.TOO_LARGE else _scan_part(body)
        values = {name: _value(body, member) for name, member in scan.members.items() if name != _OUTPUT}
        if scan.is_whole and cut is not OutputError.TOO_LARGE:
            # The document is complete, only bytes after its end are missing.
            cut = None
        if execution_id is not None and is_foreign(values.get("execution_id"), execution_id):
            raise ValueError(FOREIGN)
        member = scan.members.get(_OUTPUT)
        status = _text(values.get("status"), MAX_ID_CHARS)
        if status is None and not scan.is_whole and not _is_null(body, member):
            status = Status.COMPLETED.value
        output_error = _output_error(body, member, scan, cut)
        is_cut = not scan.is_whole and cut is not OutputError.TOO_LARGE
        outcome = UPSTREAM_FINAL.get(_word(status))
        if is_cut and outcome is None:
            message = "the JSON object breaks off, or has bytes after its end"
            raise ValueError(message)
        is_flawed = is_cut or (
            outcome is Status.COMPLETED and output_error in {OutputError.UNREADABLE, OutputError.TOO_SLOW}
        )
        return cls(
            status=status,
            progress=_number(values.get("progress")),
            current_node=_text(values.get("current_node"), MAX_ID_CHARS),
            completed_nodes=_count(values.get("completed_nodes")),
            total_nodes=_count(values.get("total_nodes")),
            error_message=_text(values.get("error_message")),
            created_at=to_epoch_s(values.get("created_at")),
            started_at=to_epoch_s(values.get("started_at")),
            completed_at=to_epoch_s(values.get("completed_at")),
            retry_count=_count(values.get("retry_count")),
            cleanup_after=to_epoch_s(values.get("cleanup_after")),
            too_large=cut is OutputError.TOO_LARGE,
            output_error=output_error,
            is_flawed=is_flawed,
            # Must be the last call: it may change `body`.
            final_output_json=None if output_error else _output(body, member),
        )


_FIELDS = {field.name for field in fields(StatusDocument)} | {"execution_id", _OUTPUT}


_FLAWS = {
    OutputError.UNREADABLE: "the output is invalid JSON or breaks off",
    OutputError.TOO_SLOW: "the output was not received in time",
}


class FlawedDocumentError(PerhapsAcceptedError):
    """A status document shows the outcome, but it is incomplete or its output is unreadable."""

    def __init__(self, http_status: int, document: StatusDocument) -> None:
        why = "the document breaks off, or has bytes after its end"
        if document.output_error is not None:
            why = _FLAWS.get(document.output_error, why)
        message = f"HTTP {http_status} with status {document.status}, but {why}"
        super().__init__("unusable_answer", message, status=http_status, retry_after_s=document.retry_after_s)
        self.document = document


def _scan_part(body: Bytes) -> _Scan:
    try:
        return _scan(body)
    except ValueError:
        return _Scan({}, is_whole=False, open_at=None)


def _output_error(
    body: Bytes, member: _Member | None, scan: _Scan, cut: OutputError | None
) -> OutputError | None:
    """Return why there is no usable output, or None if there is one."""
    if _is_null(body, member):
        return cut or (None if scan.is_whole else OutputError.UNREADABLE)
    if member is None or member.end is None:
        return cut or OutputError.UNREADABLE
    if member.end - member.start > MAX_OUTPUT_BYTES:
        return OutputError.TOO_LARGE
    is_valid = member.is_valid and is_utf8(body, member.start, member.end)
    return None if is_valid else OutputError.UNREADABLE


def _is_null(body: Bytes, member: _Member | None) -> bool:
    """Return whether the output is missing or null, or breaks off within `null`."""
    return member is None or b"null".startswith(body[member.start : member.start + 4])


def _output(body: Bytes, member: _Member | None) -> str | Bytes | None:
    if member is None or member.end is None or _is_null(body, member):
        return None
    end = member.end
    if end - member.start <= MAX_INLINE_BYTES:
        output = body[member.start : end]
        return output if depth_of(output) > MAX_INLINE_DEPTH else output.decode()
    if isinstance(body, bytes):
        return body[member.start : end]
    del body[end:]
    del body[: member.start]
    return body
