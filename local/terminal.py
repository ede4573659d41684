"""Output of the local commands: 80 columns, plain text where it is not a terminal."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

WIDTH = 80


class Terminal:
    """Prints lines, JSON and progress. The spinner appears on a terminal only."""

    def __init__(self, *, silent: bool = False) -> None:
        # A character that the terminal can't encode is printed as a question mark.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False, soft_wrap=True, quiet=silent)

    def print_line(self, text: str = "", style: str = "") -> None:
        """Print one line as it is, without markup."""
        self._console.print(Text(text, style=style))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title with the duration of the block once it has ended, and nothing if it raises."""
        began = time.monotonic()
        with self.spinner(title):
            yield
        self.print_line(f"{title} ".ljust(WIDTH - 10, ".") + f"{time.monotonic() - began:8.1f} s")

    @contextmanager
    def spinner(self, title: str) -> Iterator[None]:
        """Show a spinner on a terminal while the block runs."""
        if self._console.is_terminal and not self._console.quiet:
            with self._console.status(Text(title)):
                yield
        else:
            yield

    def print_json(self, document: Any) -> None:
        """Print indented JSON, each line cut to the width."""
        for line in json.dumps(document, indent=2, ensure_ascii=False, default=_plain).splitlines():
            self.print_line("  " + (line if len(line) <= WIDTH - 2 else line[: WIDTH - 3] + "…"))


def _plain(value: Any) -> Any:
    """Return a Decimal as a number, anything else that JSON has no type for as text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
