"""What is printed where: results on standard output, everything for people's eyes on standard error."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from waterhook_cli.errors import plain

_STYLES = {"COMPLETED": "green", "ACCEPTED": "cyan", "STARTING": "cyan", "RUNNING": "cyan"}
_LABEL = 12
# What is below these, JSON escapes itself.
_STEERING = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Output:
    """With `as_json`, standard output gets JSON and nothing else. With `quiet`, standard error gets no `say`.

    No line is wrapped: a command in it stays in one piece, on a terminal and in a pipe.
    """

    as_json: bool = False
    quiet: bool = False

    def say(self, text: str, style: str = "") -> None:
        """Print what is only of interest to a person on standard error, unless `quiet`."""
        if not self.quiet:
            self.warn(text, style)

    def warn(self, text: str, style: str = "yellow") -> None:
        """Print a line on standard error."""
        console(stderr=True).print(Text(plain(text), style=style))

    def result(self, text: str | Text = "") -> None:
        """Print a line of the result."""
        console().print(text if isinstance(text, Text) else Text(plain(text)))

    def rows(self, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Print a table: aligned, with its heads, on a terminal; elsewhere tab-separated, without heads, as gh does."""
        found = [tuple(map(plain, row)) for row in rows]
        if not console().is_terminal:
            click.echo("".join("\t".join(row) + "\n" for row in found), nl=False)
        elif found:
            widths = [max(map(len, column)) for column in zip(heads, *found, strict=True)]
            for row, style in ((heads, "bold"), *((row, "") for row in found)):
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                self.result(Text("  ".join(cells).rstrip(), style=style))

    def json(self, value: Any) -> None:
        """Print JSON: on a terminal indented; elsewhere on one line, and word for word if it is text already."""
        if console().is_terminal:
            found = read_json(value) if isinstance(value, str) else value
            click.echo(_indented(found))
        else:
            click.echo(value if isinstance(value, str) else json.dumps(value))

    def document(self, document: Any) -> None:
        """Print JSON for people: indented, on a terminal in colours."""
        text = _indented(document)
        if console().is_terminal:
            console().print_json(text)
        else:
            click.echo(text)

    def fields(self, named: Mapping[str, object]) -> None:
        """Print what has a value, a line each."""
        for name, value in named.items():
            if value not in (None, "", {}):
                told = plain(str(value))
                self.result(Text.assemble((name.ljust(_LABEL), "dim"), (told, style_of(told))))

    def point(self, mark: str, style: str, text: str, then: str = "") -> None:
        """Print a marked line, and below it what to do."""
        width = _LABEL - 3
        self.result(Text.assemble((mark.ljust(width), style), plain(text)))
        if then:
            self.result(Text(f"{'':{width}}-> {plain(then)}"))


def read_json(text: str) -> Any:
    """Return the value of a JSON text; a number beyond Python's own is kept as the text it is. Raises ValueError."""
    return json.loads(text, parse_int=_whole, parse_float=_fraction)


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else text


def _fraction(text: str) -> float | str:
    return value if isfinite(value := float(text)) else text


def _indented(value: Any) -> str:
    """Return JSON for people: in their letters, but with nothing in it that steers a terminal or has no bytes."""
    return _STEERING.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=2, ensure_ascii=False)
    )


def console(*, stderr: bool = False) -> Console:
    """Return a console on the stream as it is now; lines are as long as they are."""
    stream = sys.stderr if stderr else sys.stdout
    # A terminal that can't show a character gets a question mark, not a traceback.
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return Console(file=stream, highlight=False, soft_wrap=True)


def style_of(status: str) -> str:
    """Return the colour of a status; of anything else none."""
    if not (status.isupper() and status.replace("_", "").isalpha()):
        return ""
    return _STYLES.get(status, "red")


def moment(text: object) -> str:
    """Return an RFC 3339 time in UTC, to the second; any other text as it is. A time without zone is UTC."""
    try:
        found = datetime.fromisoformat(str(text))
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return str(text or "")


@contextmanager
def busy(title: str) -> Iterator[None]:
    """On a terminal, a sign of life while the block runs."""
    screen = console(stderr=True)
    if screen.is_terminal:
        with screen.status(Text(title)):
            yield
    else:
        yield
