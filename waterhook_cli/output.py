"""Printing: results go to standard output, messages for people to standard error."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from waterhook.timestamps import to_epoch_s
from waterhook_cli.errors import printable

_STATUS_STYLES = {"COMPLETED": "green", "ACCEPTED": "cyan", "STARTING": "cyan", "RUNNING": "cyan"}
_LABEL_WIDTH = 12
# Control characters, line separators and surrogates that json.dumps leaves as they are.
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Output:
    """With `as_json`, standard output gets JSON only. With `quiet`, standard error gets warnings and errors only.

    No line is wrapped, so a command in it stays in one piece, on a terminal and in a pipe.
    """

    as_json: bool = False
    quiet: bool = False

    def info(self, text: str, style: str = "") -> None:
        """Print a line on standard error, unless `quiet`."""
        if not self.quiet:
            self.warning(text, style)

    def warning(self, text: str, style: str = "yellow") -> None:
        """Print a line on standard error."""
        console(stderr=True).print(Text(printable(text), style=style))

    def line(self, text: str | Text) -> None:
        """Print a line of the result on standard output."""
        console().print(text if isinstance(text, Text) else Text(printable(text)))

    def table(self, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Print an aligned table with headings on a terminal; elsewhere tab-separated lines without headings."""
        cleaned = [tuple(map(printable, row)) for row in rows]
        if not console().is_terminal:
            click.echo("".join("\t".join(row) + "\n" for row in cleaned), nl=False)
        elif cleaned:
            widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
            for row, style in ((headings, "bold"), *((row, "") for row in cleaned)):
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                self.line(Text("  ".join(cells).rstrip(), style=style))

    def json(self, value: Any, text: str | None = None) -> None:
        """Print JSON: indented on a terminal; elsewhere on one line, or unchanged where the caller has its `text`."""
        if console().is_terminal:
            self.indented_json(value)
        else:
            click.echo(json.dumps(value) if text is None else text)

    def indented_json(self, value: Any) -> None:
        """Print indented JSON, coloured on a terminal. What a terminal would interpret is escaped."""
        indented = json.dumps(value, indent=2, ensure_ascii=False)
        text = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", indented)
        if console().is_terminal:
            console().print(JSONHighlighter()(text))
        else:
            click.echo(text)

    def fields(self, values: Mapping[str, object]) -> None:
        """Print a line for each label that has a value."""
        for label, value in values.items():
            if value not in (None, "", {}):
                text = printable(str(value))
                self.line(Text.assemble((label.ljust(_LABEL_WIDTH), "dim"), (text, status_style(text))))

    def marked_line(self, mark: str, style: str, text: str, hint: str = "") -> None:
        """Print a line behind a coloured mark, and below it what to do."""
        width = _LABEL_WIDTH - 3
        self.line(Text.assemble((mark.ljust(width), style), printable(text)))
        if hint:
            self.line(Text(f"{'':{width}}-> {printable(hint)}"))


def console(*, stderr: bool = False) -> Console:
    """Return a console on the current standard output or standard error that wraps no line."""
    stream = sys.stderr if stderr else sys.stdout
    # A character that the terminal's encoding lacks is printed as a question mark.
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return Console(file=stream, highlight=False, soft_wrap=True)


@contextmanager
def spinner(title: str) -> Iterator[None]:
    """Show a spinner on standard error while the block runs, if that is a terminal."""
    screen = console(stderr=True)
    if screen.is_terminal:
        with screen.status(Text(title)):
            yield
    else:
        yield


def status_style(status: str) -> str:
    """Return the colour of a status, an empty text for any other text."""
    if not (status.isupper() and status.replace("_", "").isalpha()):
        return ""
    return _STATUS_STYLES.get(status, "red")


def format_time(value: object) -> str:
    """Return a time of the API as RFC 3339 in UTC, to the second; any other value as text, None as an empty text."""
    seconds = to_epoch_s(value) if isinstance(value, str) else None
    if seconds is None:
        return str(value or "")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
