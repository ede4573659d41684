"""What all commands have in common: options, types of values, and how a fault is told."""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from waterhook_cli.errors import ExitCode, Problem, explained, one_line
from waterhook_cli.output import Output, busy
from waterhook_cli.stack import Stack, Wanted, find

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Waterhook(click.Group):
    """The commands. Whatever a user can run into is told in words; a traceback is none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click names it
        """Return them in the order in which they are used."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            Output().warn("Interrupted.", "")
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if problem := explained(error):
                raise problem from error
            if "WATERHOOK_DEBUG" in os.environ:
                raise
            raise Problem(
                ExitCode.BUG,
                f"this is a fault of the command itself: {type(error).__name__}: {one_line(error)}",
                "WATERHOOK_DEBUG=1 shows where it happened.",
            ) from error


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option wherever it stands, before the command's name or after it; the latter goes first."""
    kept = context.ensure_object(dict)
    if value:
        kept[parameter.name] = value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which stack, and how to tell the result.

    The group has them too, so they are remembered instead of handed over.
    """
    for names, given in reversed(_COMMON):
        command = click.option(*names, **given, expose_value=False, callback=_remember)(command)
    return command


_COMMON: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("--stack",), {"metavar": "NAME", "help": "The stack on AWS.  [WATERHOOK_STACK; waterhook]"}),
    (("--local",), {"is_flag": True, "help": "The stack that `make up` started."}),
    (("--profile",), {"metavar": "NAME", "help": "AWS profile.  [AWS_PROFILE]"}),
    (("--region",), {"metavar": "NAME", "help": "AWS region.  [AWS_REGION; the profile's]"}),
    (("--json",), {"is_flag": True, "help": "JSON on standard output, nothing else there."}),
    (("--quiet", "-q"), {"is_flag": True, "help": "Standard error for errors and warnings only."}),
]


def output_of(context: click.Context) -> Output:
    """Return where this command prints."""
    given = context.ensure_object(dict)
    return Output(as_json=bool(given.get("json")), quiet=bool(given.get("quiet")))


def stack_of(context: click.Context) -> Stack:
    """Return the stack that is asked for, and name it on standard error."""
    given = context.ensure_object(dict)
    wanted = Wanted(
        **{name: given[name] for name in ("stack", "local", "profile", "region") if name in given}
    )
    output = output_of(context)
    with nullcontext() if output.quiet else busy("Looking for the stack"):
        stack = find(wanted)
    output.say(str(stack), "dim")
    return stack


def require_consent(*, yes: bool) -> None:
    """Raise a usage error where `agreed` could not ask."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("Standard input is not a terminal, so this can't be confirmed: add --yes.")


def agreed(question: str, output: Output, *, yes: bool) -> bool:
    """Return whether the user wants it: `yes`, or the answer at the terminal."""
    if yes or click.confirm(question, err=True):
        return True
    output.warn("Nothing was done.", "")
    return False


def same_stack(context: click.Context) -> str:
    """Return the options to add to a command that we tell the user of, so that it finds the same stack."""
    given = context.ensure_object(dict)
    named = [
        f" --{name} {shlex.quote(given[name])}" for name in ("stack", "profile", "region") if name in given
    ]
    return "".join(named) + (" --local" if "local" in given else "")


def aws_options(context: click.Context) -> str:
    """Return the options with which an `aws` command reaches the account of this one."""
    given = context.ensure_object(dict)
    return " ".join(f"--{name} {shlex.quote(given[name])}" for name in ("profile", "region") if name in given)


class JsonObject(click.ParamType):
    """A JSON object: as text, in a file (`@FILE`), or from standard input (`-`)."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the object; a usage error says what is wrong with it."""
        if isinstance(value, dict):
            return value
        try:
            text = _text(value)
            found = json.loads(text)
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail("not text in UTF-8", param, ctx)
        except json.JSONDecodeError as error:
            self.fail(f"not JSON (line {error.lineno}, column {error.colno})", param, ctx)
        except RecursionError:
            self.fail("nested too deeply", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"expected a JSON object, got {_KINDS.get(type(found), 'a number')}", param, ctx)
        return found


_KINDS = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _text(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value


class ExecutionId(click.ParamType):
    """An execution's id."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it; a usage error says that it is none."""
        if not re.fullmatch(r"[0-9a-f]{32}", value):
            self.fail("expected 32 hexadecimal digits", param, ctx)
        return str(value)


class Moment(click.ParamType):
    """A time: RFC 3339 (without a zone: UTC), or how long ago (`90m`, `24h`, `7d`)."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return it with its zone; a usage error says that it is none."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := _AGO.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("expected a time: 2026-01-31T09:00Z, 90m, 24h", param, ctx)
