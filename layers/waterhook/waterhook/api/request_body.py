"""The body of a POST to the API: checked here, and handed to the state machine as the text that was sent."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from waterhook.domain.request import MAX_REQUEST_BYTES
from waterhook.errors import InvalidRequestError, RequestTooLargeError
from waterhook.json_text import TOO_DEEP, json_type, to_json
from waterhook.text import clip

_EXAMPLE = 'Send a JSON object such as {"input_data": {}}.'
_MAX_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A request as the API received it. It is not valid yet: see Request."""

    text: str
    """The body. Written anew it could be larger than Step Functions takes, and its numbers could change."""
    parameters: Mapping[str, str]
    """The fields that path and header name."""
    fields: Mapping[str, Any]
    """All fields, those of the body and the parameters."""

    @classmethod
    def read(cls, body: str, *, chatbot_id: str, idempotency_key: str | None) -> Self:
        """Read a body, the chatbot id of its path and the key of its header, which is None where it has none.

        A field that the body and the parameters both name must be the same in both; null counts as not named.
        Raises InvalidRequestError for anything that is not one JSON object, and RequestTooLargeError.
        """
        text = body.removeprefix("\ufeff")
        given = _parsed(text)
        named = {"chatbot_id": chatbot_id, "idempotency_key": idempotency_key}
        parameters = {name: value for name, value in named.items() if value is not None}
        for name, place in (("chatbot_id", "path"), ("idempotency_key", "Idempotency-Key header")):
            if name in parameters and given.get(name) not in (None, parameters[name]):
                raise InvalidRequestError(f"{name}: body and {place} differ; send it in one of the two")
        return cls(text, parameters, {**given, **parameters})

    @property
    def input(self) -> dict[str, str]:
        """The members of the state machine's input as JSON texts: the body is not written anew."""
        return {"parameters": to_json(self.parameters), "request": self.text}


def _parsed(text: str) -> dict[str, Any]:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequestError("body: not UTF-8") from None
    if size_bytes > MAX_REQUEST_BYTES:
        raise RequestTooLargeError(f"body: {size_bytes} bytes, at most {MAX_REQUEST_BYTES} are allowed")
    if not text.strip():
        raise InvalidRequestError(f"body: empty. {_EXAMPLE}")
    try:
        given = json.loads(text, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequestError(f"body: invalid JSON at {place}. {_EXAMPLE}") from None
    except RecursionError:
        raise InvalidRequestError(f"request: {TOO_DEEP}") from None
    except ValueError:
        # All that is left: Python reads no integer of thousands of digits.
        raise InvalidRequestError("body: a number has too many digits; send it as text in a string") from None
    if not isinstance(given, dict):
        raise InvalidRequestError(f"body: expected object, got {json_type(given)}. {_EXAMPLE}")
    return given


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object. Raises InvalidRequestError for a name that occurs twice.

    Parsers differ in which of the two they keep: a request would be checked with one value and run with the other.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidRequestError(
            f"body: {clip(twice, _MAX_NAME_CHARS)} occurs twice in one object; send it once"
        )
    return members
