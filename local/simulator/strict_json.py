"""Reads and writes strict JSON. Every value that it reads can be written again."""

import json
import math
from typing import Any, NoReturn

# Limits the recursion of the parser and the writer.
MAX_DEPTH = 200

type JsonObject = dict[str, Any]


class InvalidJsonError(ValueError):
    """Raised when a body is not strict JSON. The message has the reason."""


class InvalidValueError(ValueError):
    """Raised when a value has a wrong type or range, for example `input_data: expected object, got list`."""


def read_object(body: bytes) -> JsonObject:
    """Return the JSON object in `body`. Raises InvalidJsonError or InvalidValueError."""
    return as_object("body", _read_json(body))


def write_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate is valid in JSON but not in UTF-8. Python's escape for it is also valid JSON.
    return text.encode("utf-8", "backslashreplace")


def as_object(where: str, value: Any) -> JsonObject:
    """Return `value`. Raises `InvalidValueError` unless it is an object."""
    if not isinstance(value, dict):
        raise InvalidValueError(f"{where}: expected object, got {json_type(value)}")
    return value


def as_number(where: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float. Raises `InvalidValueError` unless it is a number in `low`..`high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(f"{where}: expected number, got {json_type(value)}")
    if not low <= value <= high:
        raise InvalidValueError(f"{where}: expected {low:g} to {high:g}")
    return float(value)


def json_type(value: Any) -> str:
    """Return the JSON name of the type of `value`."""
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _read_json(body: bytes) -> Any:
    try:
        # Decoded here, because `json.loads` also accepts UTF-16 and lone surrogates.
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
    except RecursionError:
        raise InvalidJsonError(f"body: nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # malformed, not UTF-8, or an integer with more digits than Python parses
        raise InvalidJsonError(f"body: {error}") from None
    if _is_deeper_than(MAX_DEPTH, value):
        raise InvalidJsonError(f"body: nested deeper than {MAX_DEPTH} levels")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # JSON has no Infinity
        raise ValueError("a number is too large")
    return number


def _is_deeper_than(limit: int, value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        children = (parent.values() if isinstance(parent, dict) else parent for parent in level)
        level = [child for group in children for child in group if isinstance(child, dict | list)]
    return bool(level)
