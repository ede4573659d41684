"""The upstream's status document, read as a stranger's."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from waterhook.models import (
    MAX_ID_CHARS,
    MAX_MESSAGE_CHARS,
    UPSTREAM_FINAL,
    UPSTREAM_RUNNING,
    Status,
    clip,
    epoch,
)

# The most that is read of a status document; the rest of a larger one is never fetched.
MAX_STATUS_BYTES = 6 * 1024 * 1024

# What stands between the parts of a JSON object.
_OPENING, _COLON, _COMMA = (re.compile(rf"[ \t\n\r]*{mark}[ \t\n\r]*") for mark in (r"\{", ":", ","))
_CLOSING = re.compile(r"[ \t\n\r]*\}[ \t\n\r]*\Z")
_INT_DIGITS = 18
FOREIGN = "the document of another execution"


def _lenient_int(digits: str) -> int | None:
    # CPython refuses to convert integers of thousands of digits; no field we read is that long.
    return int(digits) if len(digits) <= _INT_DIGITS else None


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


_DECODER = json.JSONDecoder(parse_int=_lenient_int, parse_constant=_no_constant)


def members(text: str) -> Iterator[tuple[str, Any, str | None]]:
    """Yield name, value and source text of each member of a JSON object.

    The source text is what makes `final_output` leave as it came: no float is rounded, no integer
    shortened. A text that breaks off in a value (the body was capped) ends with the name of that value
    and no source text. Raises ValueError when the text is not a JSON object, or is nested too deeply.
    """
    mark = _OPENING.match(text)
    if mark is None:
        message = "expected a JSON object"
        raise ValueError(message)
    at = mark.end()
    more = text[at : at + 1] != "}"
    while more:
        if text[at : at + 1] != '"':
            message = "expected the name of a member"
            raise ValueError(message)
        name, at = _DECODER.raw_decode(text, at)
        mark = _COLON.match(text, at)
        if mark is None:
            message = "expected a member of a JSON object"
            raise ValueError(message)
        start = mark.end()
        try:
            value, at = _DECODER.raw_decode(text, start)
        except RecursionError as error:
            # Its name stays out of the message: it is the upstream's word, and might be the key.
            message = "a member is nested too deeply"
            raise ValueError(message) from error
        except ValueError:
            # Cut off here or in the middle of `null` there may have been no value at all.
            if text[start : start + 1] not in {"", "n"}:
                yield name, None, None
            raise
        yield name, value, text[start:at]
        mark = _COMMA.match(text, at)
        more = mark is not None
        at = mark.end() if mark else at
    if _CLOSING.match(text, at) is None:
        message = "the JSON object breaks off or goes on after its end"
        raise ValueError(message)


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
    """What the upstream says of an execution. Every field may be missing; unknown ones are passed over."""

    status: str | None = None
    progress: float | None = None
    current_node: str | None = None
    completed_nodes: int | None = None
    total_nodes: int | None = None
    final_output_json: str | None = None
    error_message: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    retry_count: int | None = None
    cleanup_after: float | None = None
    too_large: bool = False
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
    def from_text(cls, text: str, *, capped: bool = False, execution_id: str | None = None) -> Self:
        """Read a body. `capped` says that it was cut off at our limit, so it may end anywhere.

        An oversized document is told apart by what came before the cut; one that was cut inside
        `final_output` is COMPLETED, since the upstream fills that field only then.
        Raises ValueError when a whole body is not a JSON object, or when it names an execution other than
        `execution_id`.
        """
        found: dict[str, Any] = {}
        output: str | None = None
        broke_in_output = False
        try:
            for name, value, source in members(text):
                if name == "final_output":
                    output = None if source == "null" else source
                    broke_in_output = source is None
                else:
                    found[name] = value
        except ValueError:
            if not capped:
                raise
        if execution_id is not None and is_foreign(found.get("execution_id"), execution_id):
            raise ValueError(FOREIGN)
        status = found.get("status")
        if capped and broke_in_output and status is None:
            status = Status.COMPLETED.value
        return cls(
            status=_text(status, MAX_ID_CHARS),
            progress=_number(found.get("progress")),
            current_node=_text(found.get("current_node"), MAX_ID_CHARS),
            completed_nodes=_count(found.get("completed_nodes")),
            total_nodes=_count(found.get("total_nodes")),
            final_output_json=None if capped else output,
            error_message=_text(found.get("error_message")),
            created_at=epoch(found.get("created_at")),
            started_at=epoch(found.get("started_at")),
            completed_at=epoch(found.get("completed_at")),
            retry_count=_count(found.get("retry_count")),
            cleanup_after=epoch(found.get("cleanup_after")),
            too_large=capped,
        )
