"""Types of arguments and options. An invalid value is a usage error."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

_AGE = re.compile(r"([0-9]{1,6})([smhd])")
_AGE_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PORT = re.compile(r":[0-9]{1,5}")
# The last label of a name begins with a letter, so that no form of an IPv4 address is a name.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII
)
_JSON_TYPES = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class JsonObjectType(click.ParamType):
    """A JSON object: as text, in a file (`@FILE`), or from standard input (`-`)."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the object."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(_read_text(value))
        except OSError as error:
            self.fail(f"can't read the file {value[1:]}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail("the text is not UTF-8", param, ctx)
        except json.JSONDecodeError as error:
            self.fail(f"invalid JSON at line {error.lineno}, column {error.colno}", param, ctx)
        except RecursionError:
            self.fail("the JSON is nested too deeply", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"expected a JSON object, got {_JSON_TYPES.get(type(parsed), 'a number')}", param, ctx)
        return parsed


def _read_text(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value


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
        if not value.isascii():
            self.fail("expected ASCII: write an international host name in its form with xn--", param, ctx)
        host = _without_port(value.lower())
        try:
            return str(ip_address(host))
        except ValueError:
            host = host.removesuffix(".")
        if not _HOST_NAME.fullmatch(host):
            self.fail("expected a host name such as hooks.example.com, or an IP address", param, ctx)
        return host


def _without_port(host: str) -> str:
    """Return the host without port, and an IPv6 address also without brackets."""
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        return address if bracket and (not port or _PORT.fullmatch(port)) else ""
    name, colon, port = host.partition(":")
    return name if _PORT.fullmatch(colon + port) else host
