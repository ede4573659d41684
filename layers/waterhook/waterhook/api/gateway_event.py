"""Fields of an event of API Gateway (REST API, Lambda proxy integration)."""

from collections.abc import Mapping
from typing import Any

from waterhook.errors import InvalidRequestError
from waterhook.text import clip

type Event = Mapping[str, Any]


def header(event: Event, name: str) -> str | None:
    """Return the value of a header, or None."""
    headers = event.get("headers") or {}
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def header_values(event: Event, name: str) -> list[str]:
    """Return the values of a header that may occur several times, in their order."""
    several = event.get("multiValueHeaders") or {}
    values = [value for key, values in several.items() if key.lower() == name.lower() for value in values]
    if not values and (value := header(event, name)) is not None:
        return [value]
    return values


def query_parameters(event: Event) -> Mapping[str, str]:
    """Return the decoded query parameters. Raises InvalidRequestError for one that occurs twice."""
    for name, values in (event.get("multiValueQueryStringParameters") or {}).items():
        if len(values) > 1:
            # API Gateway passes the last value as the only one.
            raise InvalidRequestError(f"{clip(name, 40)}: occurs {len(values)} times; send it once")
    return event.get("queryStringParameters") or {}
