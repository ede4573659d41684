"""JSON as text: writing it, its sizes, and the names of its types."""

import json

# The parsers on the way stop at about 1,000 levels, those of what is wrapped around the request included.
MAX_NESTING = 200
TOO_DEEP = f"nested too deeply, more than {MAX_NESTING} levels; send deeper values as JSON text in a string"


def to_json_bytes(value: object) -> bytes:
    """Return JSON in UTF-8 without spaces: the form in which sizes are counted.

    Raises ValueError for NaN, and UnicodeEncodeError, a ValueError too, for half of a surrogate pair.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def is_nested_too_deeply(value: object) -> bool:
    """Return whether arrays and objects lie in each other more than MAX_NESTING deep. Does not recurse itself."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        containers = [entry for entry in level if isinstance(entry, list | dict)]
        if not containers:
            return False
        level = [
            inner for entry in containers for inner in (entry.values() if isinstance(entry, dict) else entry)
        ]
    return True


def to_json(value: object, *, sort_keys: bool = False) -> str:
    """Return JSON as ASCII without spaces, the same text for the same value. Raises ValueError for NaN."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False)


def json_type(value: object) -> str:
    """Return the JSON name of a value's type."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def join_members(members: dict[str, str]) -> str:
    """Return a JSON object from names and values that are JSON text already."""
    return "{" + ",".join(f"{to_json(name)}:{value}" for name, value in members.items()) + "}"
