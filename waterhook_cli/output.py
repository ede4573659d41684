"""What is printed where: results on standard output, everything for people's eyes on standard error."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from waterhook_cli.errors import WIDTH, plain, wrapped

_STYLES = {"COMPLETED": "green", "ACCEPTED": "cyan", "STARTING": "cyan", "RUNNING": "cyan"}
_LABEL = 12
# What is below these, JSON escapes itself.
_STEERING = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Output:
    """With `as_json`, standard output gets JSON and nothing else."""

    as_json: bool = False

    def say(self, text: str, style: str = "") -> None:
        """Tell the person at the terminal something."""
        for line in wrapped(text):
            console(stderr=True).print(Text(line, style=style))

    def result(self, text: str | Text = "") -> None:
        """Print a line of the result."""
        console().print(text if isinstance(text, Text) else Text(plain(text)))

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
        """Print a marked paragraph, and below it what to do."""
        margin = " " * (_LABEL - 3)
        head, *rest = wrapped(text, WIDTH - len(margin)) or [""]
        self.result(Text.assemble((mark.ljust(len(margin)), style), head))
        for line in rest:
            console().print(Text(margin + line))
        for index, line in enumerate(wrapped(then, WIDTH - len(margin) - 3)):
            console().print(Text(margin + ("-> " if index == 0 else "   ") + line))


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
    """Return an RFC 3339 time as the clock on the wall shows it, to the second."""
    try:
        return datetime.fromisoformat(str(text)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
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
