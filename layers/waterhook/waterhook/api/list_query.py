"""The query parameters of a list of executions, and the cursor that leads from one page to the next."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from waterhook.api.callers import Caller
from waterhook.domain.execution_list import ListFilter, Position
from waterhook.domain.request import CHATBOT_ID, is_chatbot_id
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TRIGGERS
from waterhook.errors import InvalidRequestError
from waterhook.json_text import to_json
from waterhook.text import clip
from waterhook.timestamps import to_epoch_s, to_rfc3339

DEFAULT_PAGE = 20
MAX_PAGE = 100
ME = "me"
PARAMETERS = (
    "status",
    "chatbot_id",
    "trigger",
    "accepted_after",
    "accepted_before",
    "caller",
    "limit",
    "next",
)
# A signature in the query, see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
_SIGNATURE = "x-amz-"
_ID = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
# The longest key of an index that DynamoDB accepts.
_MAX_CALLER_BYTES = 2048
_MAX_SHOWN_CHARS = 40
_BAD_CURSOR = "next: expected the value of next from the previous page"


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which executions are listed, and which page of them."""

    caller: str | None
    """The caller of the listed executions. None: the executions of every caller and trigger, for an operator."""
    filters: ListFilter = ListFilter()  # noqa: RUF009 - it is frozen
    limit: int = DEFAULT_PAGE
    position: Position | None = None

    @classmethod
    def read(cls, parameters: Mapping[str, str], caller: Caller) -> Self:
        """Read the parameters of a request of `caller`. Raises InvalidRequestError, which names the parameter."""
        for name in parameters:
            if name not in PARAMETERS and not name.lower().startswith(_SIGNATURE):
                known = ", ".join(PARAMETERS)
                raise InvalidRequestError(f"{clip(name, _MAX_SHOWN_CHARS)}: unknown; known are {known}")
        cursor = parameters.get("next")
        return cls(
            _caller(parameters.get("caller"), caller),
            _filter(parameters),
            _limit(parameters.get("limit") or str(DEFAULT_PAGE)),
            read_cursor(cursor) if cursor else None,
        )


def write_cursor(position: Position) -> str:
    """Return the cursor of a position."""
    return base64.urlsafe_b64encode(to_json([position.execution_id, position.created_at]).encode()).decode()


def read_cursor(cursor: str) -> Position:
    """Return the position of a cursor. Raises InvalidRequestError.

    A cursor has no caller: it leads only through the list that its sender may read.
    """
    try:
        execution_id, created_at = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequestError(_BAD_CURSOR) from error
    is_id = execution_id is None or (isinstance(execution_id, str) and _ID.fullmatch(execution_id))
    # DynamoDB refuses a key that is empty or too long, and that would be reported as a failing table.
    if not is_id or not isinstance(created_at, str) or to_rfc3339(to_epoch_s(created_at)) != created_at:
        raise InvalidRequestError(_BAD_CURSOR)
    return Position(created_at, execution_id)


def _caller(value: str | None, caller: Caller) -> str | None:
    if value == ME or (value is None and not caller.is_operator):
        return caller.identity
    if value is None:
        return None
    if not caller.is_operator:
        raise InvalidRequestError(f"caller: expected {ME}; only an operator can list other executions")
    if not 1 <= len(value.encode(errors="replace")) <= _MAX_CALLER_BYTES or not value.isprintable():
        raise InvalidRequestError(f"caller: expected {ME}, or a caller as the list shows it")
    return value


def _filter(parameters: Mapping[str, str]) -> ListFilter:
    status, chatbot_id, trigger = (parameters.get(name) for name in ("status", "chatbot_id", "trigger"))
    if status is not None and status not in Status.__members__:
        raise InvalidRequestError(_expected("status", f"one of {', '.join(Status)}", status))
    if chatbot_id is not None and not is_chatbot_id(chatbot_id):
        raise InvalidRequestError(_expected("chatbot_id", CHATBOT_ID, chatbot_id))
    sources = {public: source for source, public in TRIGGERS.items()}
    if trigger is not None and trigger not in sources:
        raise InvalidRequestError(_expected("trigger", f"one of {', '.join(sources)}", trigger))
    after, before = (_milliseconds(parameters, name) for name in ("accepted_after", "accepted_before"))
    if after is not None and before is not None and after >= before:
        raise InvalidRequestError("accepted_before: expected a later time than accepted_after")
    return ListFilter(
        status,
        chatbot_id,
        None if trigger is None else sources[trigger],
        None if after is None else _text("accepted_after", after),
        None if before is None else _text("accepted_before", before - 1),
    )


def _limit(value: str) -> int:
    is_number = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_PAGE))
    if not is_number or not 1 <= int(value) <= MAX_PAGE:
        raise InvalidRequestError(_expected("limit", f"a whole number from 1 to {MAX_PAGE}", value))
    return int(value)


def _milliseconds(parameters: Mapping[str, str], name: str) -> int | None:
    """Return a time in milliseconds since 1970, rounded up, because records have whole milliseconds."""
    value = parameters.get(name)
    if value is None:
        return None
    seconds = to_epoch_s(value) if _TIME.fullmatch(value.upper()) else None
    if seconds is None:
        # An unencoded plus sign of a zone becomes a space.
        example = "a time such as 2026-01-31T10:00:00Z (RFC 3339; encode + as %2B)"
        raise InvalidRequestError(_expected(name, example, value))
    return -(-round(seconds * 1e6) // 1000)


def _text(name: str, milliseconds: int) -> str:
    try:
        return to_rfc3339(milliseconds / 1000) or ""
    except (ValueError, OverflowError):
        raise InvalidRequestError(f"{name}: expected a year from 1 to 9999") from None


def _expected(name: str, expected: str, value: str) -> str:
    return f"{name}: expected {expected}, got {clip(value, _MAX_SHOWN_CHARS)}"
