"""Types of arguments and options. An invalid value is a usage error."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import click

from waterhook.domain.webhook import EVENTS
from waterhook.domain.webhook_url import WebhookUrl
from waterhook.errors import InvalidWebhookUrlError

_AGE = re.compile(r"([0-9]{1,6})([smhd])")
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_JSON_TYPES = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class JsonObjectType(click.ParamType):
    """A JSON object: as text, in a file (`@FILE`), or from standard input (`-`)."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the object."""
        if isinstance(value, dict):
            return value
        try:
            parsed = _parse(_read_text(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"expected a JSON object, got {_JSON_TYPES.get(type(parsed), 'a number')}", param, ctx)
        return parsed


class InputFieldType(click.ParamType):
    """A field of the input: `KEY=TEXT` or `KEY:=JSON`. After the sign, `@FILE` reads the text or the JSON from a file.

    The first sign separates, so the value may contain both.
    """

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Return the key and the value."""
        if isinstance(value, tuple):
            return value
        key, sign, text = value.partition("=")
        is_json = key.endswith(":")
        key = key.removesuffix(":")
        if not sign or not key:
            self.fail(f"{value!r}: expected KEY=TEXT, or KEY:=JSON for a number, true, a list", param, ctx)
        try:
            content = _read_text(text) if text.startswith("@") else text
            return key, _parse(content) if is_json else content
        except ValueError as error:
            is_text = text.startswith("@") and not is_json
            hint = f". A text that begins with @ is written as JSON: {key}:='\"@...\"'" if is_text else ""
            self.fail(f"{key}: {error}{hint}", param, ctx)


def _read_text(value: str) -> str:
    """Return the text, that of the file in `@FILE`, or standard input for `-`. Raises ValueError."""
    try:
        if value == "-":
            return sys.stdin.read()
        return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
    except OSError as error:
        raise ValueError(f"can't read the file {value[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("the text is not UTF-8") from error


def _parse(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError with the position of the error."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise ValueError("JSON has no NaN and no Infinity, and a number must fit in 64 bits") from error
    return value


class ExecutionIdType(click.ParamType):
    """The id of an execution: 32 hexadecimal digits."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id."""
        if not re.fullmatch(r"[0-9a-f]{32}", value):
            self.fail(
                f"{value!r} is not an execution id: expected 32 hexadecimal digits, as `submit` prints them",
                param,
                ctx,
            )
        return str(value)


class TimeType(click.ParamType):
    """A time: RFC 3339 (UTC if it has no zone), or an age such as `90m`, `24h` or `7d`."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            if age := _AGE.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time: expected a time such as 2026-01-31T09:00Z or an age such as 90m, 24h, 7d",
                param,
                ctx,
            )


class HostType(click.ParamType):
    """The host of a webhook URL: a name or an IP address. Upper case, a port and a trailing dot are removed.

    No message contains the value: it may be a whole URL, which may contain a token.
    """

    name = "HOST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the host as in `WebhookUrl.host`."""
        if re.search(r"[/?#@%\\]", value):
            self.fail("expected only the host of the URL, for example hooks.example.com", param, ctx)
        try:
            return WebhookUrl.parse(f"https://{_bracketed(value)}").host
        except InvalidWebhookUrlError as error:
            self.fail(
                f"expected a host name such as hooks.example.com, or an IP address: {error}", param, ctx
            )


def _bracketed(host: str) -> str:
    """Return an IPv6 address in the brackets that it has in a URL, and any other text unchanged."""
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return host


class WebhookUrlType(click.ParamType):
    """The URL of a webhook. No message contains it, because it may contain a token."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL as it was given."""
        try:
            WebhookUrl.parse(value)
        except InvalidWebhookUrlError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class EventsType(click.ParamType):
    """Events of a webhook, separated by commas: `completed,failed`."""

    name = "EVENTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the events."""
        if isinstance(value, list):
            return value
        events = [event.strip().lower() for event in value.split(",")]
        if unknown := [event for event in events if event not in EVENTS]:
            self.fail(f"{unknown[0]!r} is not an event: expected one of {', '.join(EVENTS)}", param, ctx)
        return events
