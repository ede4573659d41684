"""The upstream's status document: what can be read of it is used, whatever the rest is like."""

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

# The largest output that is stored, and the most that is held of a document: the other fields take little.
MAX_OUTPUT_BYTES = 50 * 1024 * 1024
MAX_STATUS_BYTES = MAX_OUTPUT_BYTES + 1024 * 1024
# The most that a function reads whose time or memory is short; a larger document is left to the poll function.
MAX_SHORT_STATUS_BYTES = 6 * 1024 * 1024
# What is used of another field than the output, and the most that is read behind a value that was too large.
_MAX_FIELD_BYTES = 64 * 1024
# Largest output that is part of a record and a notification. A DynamoDB write unit is 1 KB, so past this size S3 is
# cheaper; far below it the limits of all services on the way are kept.
MAX_INLINE_BYTES = 32 * 1024
# An output that is nested deeper is stored: the parsers of subscribers end at 64 to 1,000 levels or more.
MAX_INLINE_DEPTH = 500

_INT_DIGITS = 18
_TEXT_START = re.compile(r'"(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*+')
_BOM = b"\xef\xbb\xbf"
_OUTPUT = "final_output"
FOREIGN = "the document of another execution"


class OutputError(StrEnum):
    """Why a completed job has no output: four of its document, one of the bucket, and one of GET."""

    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    STORAGE_FAILED = "storage_failed"
    NOT_STORED = "not_stored"


def _lenient_int(digits: str) -> int | None:
    # CPython refuses to convert integers of thousands of digits; no field we read is that long.
    return int(digits) if len(digits) <= _INT_DIGITS else None


_DECODER = json.JSONDecoder(parse_int=_lenient_int, strict=False)


class _Member(NamedTuple):
    """The value of one member: where it is in the body. `end` is None where the body breaks off in it."""

    start: int
    end: int | None
    is_valid: bool


class _Scan(NamedTuple):
    """The members of a document that are used, and whether it was read to its end."""

    members: dict[str, _Member]
    is_whole: bool
    open_at: int | None
    """Where the value begins that the body breaks off in."""


def _scan(body: Bytes) -> _Scan:
    """Return the members of a JSON object, of the same name the last one. Raises ValueError for anything else."""
    members: dict[str, _Member] = {}
    at = _past(body, len(_BOM) if body.startswith(_BOM) else 0, b"{")
    if at is None:
        message = "not a JSON object"
        raise ValueError(message)
    if (end := _past(body, at, b"}")) is not None:
        return _Scan(members, end == len(body), None)
    while (found := STRING.match(body, at)) is not None:
        name, start = _name(found.group()), _past(body, found.end(), b":")
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
    """Return where the space after `mark` ends, or None where `mark` is not the next character but space."""
    at = _space_end(body, at)
    return _space_end(body, at + 1) if body[at : at + 1] == mark else None


def _space_end(body: Bytes, at: int) -> int:
    found = SPACE.match(body, at)
    return at if found is None else found.end()


def _name(source: Bytes) -> str:
    return str(json.loads(source)) if len(source) <= MAX_ID_CHARS and source.isascii() else ""


def _value(body: Bytes, member: _Member | None) -> Any:
    """Return the value of a field, or None where it can't be read. Bytes that are no UTF-8 become U+FFFD."""
    if member is None or member.end is None:
        return None
    source = body[member.start : min(member.end, member.start + _MAX_FIELD_BYTES)]
    text = source.decode("utf-8", "replace")
    if member.end - member.start > len(source):
        # Of a long text the beginning is used.
        found = _TEXT_START.match(text)
        text = "" if found is None else found.group() + '"'
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def shorten_document(body: bytearray, rest: Iterator[bytes]) -> bytearray:
    """Return a document above the limit without the value in which it was met, which is `null` then.

    `body` is what was read up to the limit, and `rest` what follows: that value is skipped, and what comes
    after it is read. Where the value does not end in `rest`, the document breaks off in it.
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


def is_foreign(found: object, execution_id: str) -> bool:
    """Return whether `found`, the `execution_id` of a document or event, is there and names another execution."""
    return found is not None and str(found) != execution_id


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """The status of an execution. Every field may be missing, and a field that can't be read is."""

    status: str | None = None
    progress: float | None = None
    current_node: str | None = None
    completed_nodes: int | None = None
    total_nodes: int | None = None
    final_output_json: str | Bytes | None = None
    """Valid JSON, as it came. Text where it can be part of a notification, else UTF-8."""
    error_message: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    retry_count: int | None = None
    cleanup_after: float | None = None
    too_large: bool = False
    """The body was larger than the limit."""
    output_error: OutputError | None = None
    """Why there is no output, which matters only if the job has completed."""
    is_flawed: bool = False
    """The body breaks off or goes on after its end, or its output can't be read. Another request may find it whole."""
    retry_after_s: float | None = None
    """Of the answer's `Retry-After` header, not of the document."""

    @property
    def outcome(self) -> Status | None:
        """The terminal outcome this document declares, or None while there is none."""
        return UPSTREAM_FINAL.get(_word(self.status))

    @property
    def unknown_status(self) -> str | None:
        """The status where it is neither a known final one nor a known running one, else None."""
        word = _word(self.status)
        return self.status if word and word not in UPSTREAM_FINAL and word not in UPSTREAM_RUNNING else None

    @classmethod
    def from_body(
        cls, body: Bytes, *, cut: OutputError | None = None, execution_id: str | None = None
    ) -> Self:
        """Read a body. `cut` is why it may break off: at the limit, at the end of the time, or by a fault.

        A document that breaks off inside of `final_output` is COMPLETED where its status is not known: the upstream
        fills that field only then. A large output is taken out of `body` in place, to save a copy.
        Raises ValueError for what is not a JSON object, for one that breaks off before it shows an outcome (unless
        at the limit), and for one that names an execution other than `execution_id`.
        """
        scan = _scan(body) if cut is not OutputError.TOO_LARGE else _scan_part(body)
        found = {name: _value(body, member) for name, member in scan.members.items() if name != _OUTPUT}
        if scan.is_whole and cut is not OutputError.TOO_LARGE:
            # Nothing is missing, whatever came after it.
            cut = None
        if execution_id is not None and is_foreign(found.get("execution_id"), execution_id):
            raise ValueError(FOREIGN)
        member = scan.members.get(_OUTPUT)
        status = _text(found.get("status"), MAX_ID_CHARS)
        if status is None and not scan.is_whole and not _is_null(body, member):
            status = Status.COMPLETED.value
        output_error = _output_error(body, member, scan, cut)
        is_cut = not scan.is_whole and cut is not OutputError.TOO_LARGE
        outcome = UPSTREAM_FINAL.get(_word(status))
        if is_cut and outcome is None:
            message = "the JSON object breaks off or goes on after its end"
            raise ValueError(message)
        is_flawed = is_cut or (
            outcome is Status.COMPLETED and output_error in {OutputError.UNREADABLE, OutputError.TOO_SLOW}
        )
        return cls(
            status=status,
            progress=_number(found.get("progress")),
            current_node=_text(found.get("current_node"), MAX_ID_CHARS),
            completed_nodes=_count(found.get("completed_nodes")),
            total_nodes=_count(found.get("total_nodes")),
            error_message=_text(found.get("error_message")),
            created_at=to_epoch_s(found.get("created_at")),
            started_at=to_epoch_s(found.get("started_at")),
            completed_at=to_epoch_s(found.get("completed_at")),
            retry_count=_count(found.get("retry_count")),
            cleanup_after=to_epoch_s(found.get("cleanup_after")),
            too_large=cut is OutputError.TOO_LARGE,
            output_error=output_error,
            is_flawed=is_flawed,
            # The last one, since it may change `body`.
            final_output_json=None if output_error else _output(body, member),
        )


_FIELDS = {field.name for field in fields(StatusDocument)} | {"execution_id", _OUTPUT}


_FLAWS = {
    OutputError.UNREADABLE: "the output is no valid JSON, or it breaks off",
    OutputError.TOO_SLOW: "the output arrives too slowly",
}


class FlawedDocumentError(PerhapsAcceptedError):
    """A status document that shows the outcome, and yet is not whole or has an output that can't be read."""

    def __init__(self, http_status: int, document: StatusDocument) -> None:
        why = "the document breaks off or goes on after its end"
        if document.output_error is not None:
            why = _FLAWS.get(document.output_error, why)
        message = f"HTTP {http_status} and {document.status}, but {why}"
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
    """Return why there is no usable output, or None where there is one."""
    if _is_null(body, member):
        return cut or (None if scan.is_whole else OutputError.UNREADABLE)
    if member is None or member.end is None:
        return cut or OutputError.UNREADABLE
    if member.end - member.start > MAX_OUTPUT_BYTES:
        return OutputError.TOO_LARGE
    is_valid = member.is_valid and is_utf8(body, member.start, member.end)
    return None if is_valid else OutputError.UNREADABLE


def _is_null(body: Bytes, member: _Member | None) -> bool:
    """Return whether there is no output, or its value breaks off before it shows that there is one."""
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
