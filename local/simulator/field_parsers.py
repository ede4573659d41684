"""Parsers of JSON fields. Each takes the path of the field and its value. Each raises InvalidValueError."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from local.simulator.strict_json import InvalidValueError, JsonObject, as_number, as_object, json_type

type FieldParser = Callable[[str, Any], Any]


def parse_fields(where: str, value: Any, parsers: Mapping[str, FieldParser]) -> JsonObject:
    """Return the parsed fields of an object. Raises InvalidValueError, also for a field without a parser."""
    parsed: JsonObject = {}
    for name, each in as_object(where, value).items():
        if name not in parsers:
            raise InvalidValueError(f"{where}: no such field: {name}. Expected any of {', '.join(parsers)}")
        parsed[name] = parsers[name](f"{where}.{name}", each)
    return parsed


def as_list(where: str, value: Any, max_items: int) -> list[Any]:
    """Return `value`. Raises `InvalidValueError` unless it is a list of at most `max_items`."""
    if not isinstance(value, list):
        raise InvalidValueError(f"{where}: expected list, got {json_type(value)}")
    if len(value) > max_items:
        raise InvalidValueError(f"{where}: expected at most {max_items} items, got {len(value)}")
    return value


def as_text(where: str, value: Any) -> str:
    """Return `value`. Raises `InvalidValueError` unless it is a string."""
    if not isinstance(value, str):
        raise InvalidValueError(f"{where}: expected string, got {json_type(value)}")
    return value


def as_boolean(where: str, value: Any) -> bool:
    """Return `value`. Raises `InvalidValueError` unless it is true or false."""
    if not isinstance(value, bool):
        raise InvalidValueError(f"{where}: expected boolean, got {json_type(value)}")
    return value


def as_names(where: str, value: Any) -> frozenset[str]:
    """Return a list of at most 50 strings as a set. Raises `InvalidValueError`."""
    return frozenset(
        as_text(f"{where}[{index}]", each) for index, each in enumerate(as_list(where, value, 50))
    )


def as_header(where: str, value: Any) -> str:
    """Return `value`. Raises `InvalidValueError` unless it is a string that is valid in an HTTP header."""
    text = as_text(where, value)
    if not text.strip() or text.strip() != text or not (text.isascii() and text.isprintable()):
        raise InvalidValueError(f"{where}: expected printable ASCII without spaces at either end")
    return text


def as_address(where: str, value: Any) -> str:
    """Return an HTTP or HTTPS URL without a slash at its end. Raises `InvalidValueError` for any other text."""
    text = as_header(where, value)
    try:
        is_web = urlsplit(text).scheme in {"http", "https"} and bool(urlsplit(text).hostname)
    except ValueError:
        is_web = False
    if not is_web:
        raise InvalidValueError(f"{where}: expected a URL, for example http://127.0.0.1:8080")
    return text.rstrip("/")


def number(low: float, high: float) -> FieldParser:
    """Return a parser of numbers in `low`..`high`."""
    return lambda where, value: as_number(where, value, low, high)


def integer(low: int, high: int) -> FieldParser:
    """Return a parser of whole numbers in `low`..`high`."""

    def read(where: str, value: Any) -> int:
        if not as_number(where, value, low, high).is_integer():
            raise InvalidValueError(f"{where}: expected a whole number")
        return int(value)

    return read


def list_of(read: FieldParser, max_items: int) -> FieldParser:
    """Return a parser of lists of 1 to `max_items` values. `read` parses each value."""

    def read_each(where: str, value: Any) -> tuple[Any, ...]:
        values = as_list(where, value, max_items)
        if not values:
            raise InvalidValueError(f"{where}: expected at least 1 item")
        return tuple(read(f"{where}[{index}]", each) for index, each in enumerate(values))

    return read_each


def one_of_numbers(*allowed: int) -> FieldParser:
    """Return a parser that accepts only the `allowed` whole numbers."""

    def read(where: str, value: Any) -> int:
        if isinstance(value, bool) or value not in allowed:
            raise InvalidValueError(f"{where}: expected one of {', '.join(map(str, allowed))}")
        return int(value)

    return read


def one_of[Word: StrEnum](words: type[Word]) -> Callable[[str, Any], Word]:
    """Return a parser that accepts only the values of an enumeration."""

    def read(where: str, value: Any) -> Word:
        if value not in list(words):
            raise InvalidValueError(f"{where}: expected one of {', '.join(words)}")
        return words(value)

    return read
