"""The body of a POST to the API. It is checked here and passed to the state machine as the text that was sent."""

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
    """The body of a POST, split into fields. Request checks the fields later."""

    text: str
    """The body as sent. Serialized again, it could exceed the limit of Step Functions, and numbers could change."""
    parameters: Mapping[str, str]
    """The fields from the path and the header."""
    fields: Mapping[str, Any]
    """The fields of the body and the parameters together."""

    @classmethod
    def read(cls, body: str, *, chatbot_id: str, idempotency_key: str | None) -> Self:
        """Read a body with the chatbot id of its path, and the key of its header or None.

        A field in both the body and the parameters must have the same value; null counts as missing. Raises
        InvalidRequestError if the body is not one JSON object, and RequestTooLargeError.
        """
        text = body.removeprefix("\ufeff")
        fields = _parse(text)
        optional = {"chatbot_id": chatbot_id, "idempotency_key": idempotency_key}
        parameters = {name: value for name, value in optional.items() if value is not None}
        for name, place in (("chatbot_id", "path"), ("idempotency_key", "Idempotency-Key header")):
            if name in parameters and fields.get(name) not in (None, parameters[name]):
                raise InvalidRequestError(f"{name}: body and {place} differ; send it in one of the two")
        return cls(text, parameters, {**fields, **parameters})

    @property
    def input(self) -> dict[str, str]:
        """The members of the state machine's input as JSON text. The body is not serialized again."""
        return {"parameters": to_json(self.parameters), "request": self.text}


def _parse(text: str) -> dict[str, Any]:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequestError(f"body: not UTF-8. {_EXAMPLE}") from None
    if size_bytes > MAX_REQUEST_BYTES:
        raise RequestTooLargeError(f"body: {size_bytes} bytes, at most {MAX_REQUEST_BYTES} are allowed")
    if not text.strip():
        raise InvalidRequestError(f"body: empty. {_EXAMPLE}")
    try:
        value = json.loads(text, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequestError(f"body: invalid JSON at {place}. {_EXAMPLE}") from None
    except RecursionError:
        raise InvalidRequestError(f"request: {TOO_DEEP}") from None
    except ValueError:
        # The only other ValueError: Python does not parse integers of thousands of digits.
        raise InvalidRequestError("body: a number has too many digits; send it as a string") from None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"body: expected object, got {json_type(value)}. {_EXAMPLE}")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object. Raises InvalidRequestError for a name that occurs twice.

    Parsers differ in which of the two values they use, so a request could be checked with one and run with the other.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidRequestError(
            f"body: {clip(repeated, _MAX_NAME_CHARS)} occurs twice in one object; send it once"
        )
    return members
