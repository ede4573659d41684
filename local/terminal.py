"""Output of the local commands: 80 columns, and plain text if standard output is not a terminal."""

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
    """Prints lines, JSON and the duration of steps. Shows a spinner only on a terminal."""

    def __init__(self, *, silent: bool = False) -> None:
        # Characters that the terminal can't encode are printed as question marks.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False, soft_wrap=True, quiet=silent)

    def print_line(self, text: str = "", style: str = "") -> None:
        """Print one line. Markup in the text is not interpreted."""
        self._console.print(Text(text, style=style))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the title and the duration of the block at its end. Print nothing if the block raises."""
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
        """Print indented JSON. Lines are cut to 80 columns."""
        for line in json.dumps(document, indent=2, ensure_ascii=False, default=_plain).splitlines():
            self.print_line("  " + (line if len(line) <= WIDTH - 2 else line[: WIDTH - 3] + "…"))


def _plain(value: Any) -> Any:
    """Return a Decimal as a number, and any other value without a JSON type as text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
