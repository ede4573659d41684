"""JSON as text: serialization, sizes in bytes, nesting limits and type names."""

import json

# The JSON parsers of the services in between stop at about 1,000 levels, including the levels around the request.
MAX_NESTING = 200
TOO_DEEP = f"nested too deeply, more than {MAX_NESTING} levels; send deeper values as JSON text in a string"


def to_json_bytes(value: object) -> bytes:
    """Return compact JSON in UTF-8. Request sizes are counted in this form.

    Raises ValueError for NaN and infinity, and UnicodeEncodeError (also a ValueError) for half of a surrogate pair.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def is_nested_too_deeply(value: object) -> bool:
    """Return whether arrays and objects are nested more than MAX_NESTING deep. Uses a loop, not recursion."""
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
    """Return compact JSON in ASCII. Raises ValueError for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False)


def json_type(value: object) -> str:
    """Return the JSON name of a value's type."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def join_members(members: dict[str, str]) -> str:
    """Return a JSON object from names and values; the values are JSON text already."""
    return "{" + ",".join(f"{to_json(name)}:{value}" for name, value in members.items()) + "}"
