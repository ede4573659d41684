"""Prints results on standard output and messages on standard error."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import click
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from waterhook.text import format_duration
from waterhook.timestamps import to_epoch_s
from waterhook_cli.errors import printable


class OutputFormat(StrEnum):
    """Form of the results on standard output."""

    JSON = "json"
    TABLE = "table"
    TEXT = "text"


_STATUS_STYLES = {"COMPLETED": "green", "ACCEPTED": "cyan", "STARTING": "cyan", "RUNNING": "cyan"}
_LABEL_WIDTH = 12
# Control characters, line separators and surrogates that json.dumps leaves as they are.
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Output:
    """JSON: standard output gets only JSON. TABLE: aligned, with headings and colours. TEXT: separated by tabs.

    `format` None is TABLE on a terminal, else TEXT. With `quiet`, standard error gets only warnings and errors.
    Lines are not wrapped, so a command in a line can be copied.
    """

    format: OutputFormat | None = None
    quiet: bool = False

    @property
    def as_json(self) -> bool:
        """Whether standard output gets only JSON."""
        return self.format is OutputFormat.JSON

    @property
    def as_table(self) -> bool:
        """Whether results are aligned, with headings and colours."""
        return console().is_terminal if self.format is None else self.format is OutputFormat.TABLE

    def info(self, text: str, style: str = "") -> None:
        """Print a line on standard error, unless `quiet`."""
        if not self.quiet:
            self.warning(text, style)

    def warning(self, text: str, style: str = "yellow") -> None:
        """Print a line on standard error."""
        console(stderr=True).print(Text(printable(text), style=style))

    def line(self, text: str | Text) -> None:
        """Print a line of the result on standard output."""
        text = text if isinstance(text, Text) else Text(printable(text))
        if self.as_table:
            console().print(text)
        else:
            _print_text(text.plain + "\n")

    def table(self, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Print an aligned table with headings, or tab-separated lines without headings."""
        cleaned = [tuple(map(printable, row)) for row in rows]
        if not self.as_table:
            _print_text("".join("\t".join(row) + "\n" for row in cleaned))
        elif cleaned:
            widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
            for row, style in ((headings, "bold"), *((row, "") for row in cleaned)):
                self.line(_aligned(row, widths, style))

    def row_printer(
        self, headings: tuple[str, ...], widths: tuple[int, ...]
    ) -> Callable[[*tuple[str, ...]], None]:
        """Return a function that prints a row immediately, as `table` does. It prints the headings before the first.

        `widths` are the widths of the columns in characters. A longer value moves the rest of its row.
        """
        is_first = True

        def print_row(*row: str) -> None:
            nonlocal is_first
            if is_first and self.as_table:
                self.line(_aligned(headings, widths, "bold"))
            is_first = False
            cleaned = tuple(map(printable, row))
            if self.as_table:
                self.line(_aligned(cleaned, widths))
            else:
                _print_text("\t".join(cleaned) + "\n")

        return print_row

    def json(self, value: Any, text: str | None = None) -> None:
        """Print JSON: indented on a terminal, else on one line. `text` is printed unchanged in place of it."""
        if console().is_terminal:
            self.indented_json(value)
        else:
            click.echo(json.dumps(value) if text is None else text)

    def indented_json(self, value: Any) -> None:
        """Print indented JSON, coloured on a terminal. Control characters are escaped."""
        indented = json.dumps(value, indent=2, ensure_ascii=False)
        text = _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", indented)
        if console().is_terminal and self.format is not OutputFormat.TEXT:
            console().print(JSONHighlighter()(text))
        else:
            _print_text(text + "\n")

    def fields(self, values: Mapping[str, object]) -> None:
        """Print a line with label and value for each value that is not empty."""
        for label, value in values.items():
            if value not in (None, "", {}):
                text = printable(str(value))
                if self.as_table:
                    self.line(Text.assemble((label.ljust(_LABEL_WIDTH), "dim"), (text, status_style(text))))
                else:
                    _print_text(f"{label}\t{text}\n")

    def marked_line(self, mark: str, style: str, text: str, hint: str = "") -> None:
        """Print a coloured mark and a text, and the hint on the next line. As TEXT: all on one line."""
        if not self.as_table:
            _print_text("\t".join(map(printable, filter(None, (mark, text, hint)))) + "\n")
            return
        width = _LABEL_WIDTH - 3
        self.line(Text.assemble((mark.ljust(width), style), printable(text)))
        if hint:
            self.line(Text(f"{'':{width}}-> {printable(hint)}"))


def _print_text(text: str) -> None:
    """Print text on standard output without colours. Characters that can't be encoded become question marks."""
    console()
    click.echo(text, nl=False)


def _aligned(row: tuple[str, ...], widths: Iterable[int], style: str = "") -> Text:
    """Return a row of a table."""
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return Text("  ".join(cells).rstrip(), style=style)


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error that does not wrap lines."""
    stream = sys.stderr if stderr else sys.stdout
    # Characters that the terminal can't encode are printed as question marks.
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
    """Return the style of a status; an empty text if `status` is not a status."""
    if not (status.isupper() and status.replace("_", "").isalpha()):
        return ""
    return _STATUS_STYLES.get(status, "red")


def format_time(value: object) -> str:
    """Return a time of the API in UTC without fractions of a second; any other value as text, None as empty text."""
    seconds = to_epoch_s(value) if isinstance(value, str) else None
    if seconds is None:
        return str(value or "")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_age(seconds: float) -> str:
    """Return an age: `45 s`, `15 min`, `6 h`, `12 d`."""
    days = seconds / 86_400
    return f"{days:.0f} d" if days >= 2 else format_duration(seconds)  # noqa: PLR2004  # as the smaller units
