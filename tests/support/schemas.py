"""The JSON Schemas in schemas/, as published and without room for unknown fields."""

import json
from functools import cache
from typing import Any

import jsonschema_rs

from local.schemas import FOLDER

Validator = jsonschema_rs.Draft202012Validator


def read(name: str) -> dict[str, Any]:
    """Return a schema as published: `request`, `notification` or `webhook`."""
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def without_unknown_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the definition of an object that refuses other fields. A published one accepts those of later versions."""
    return {"additionalProperties": False, **schema} if "properties" in schema else schema


@cache
def published(name: str) -> Validator:
    """Return the validator of a schema as published."""
    return Validator(read(name), validate_formats=True)


@cache
def strict(name: str) -> Validator:
    """Return the validator that refuses unknown fields."""
    schema = read(name)
    definitions = {each: without_unknown_fields(entry) for each, entry in schema["$defs"].items()}
    return Validator(without_unknown_fields(schema) | {"$defs": definitions}, validate_formats=True)


def require_valid_event(text: str) -> None:
    """Fail if a published event is not as its schema describes it."""
    strict("notification").validate(json.loads(text))
