"""What the runner prints: readable at 80 columns, plain where it is not a terminal."""

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


class Screen:
    """Lines for the user; on a terminal also what is going on right now."""

    def __init__(self, *, silent: bool = False) -> None:
        # A terminal that can't show a character gets a question mark, not a traceback.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False, soft_wrap=True, quiet=silent)

    def line(self, text: str = "", style: str = "") -> None:
        """One line, as it is: no markup is read from it."""
        self._console.print(Text(text, style=style))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Something that takes a while: shown with its time once it is done, and not at all when it fails."""
        began = time.monotonic()
        with self.busy(title):
            yield
        self.line(f"{title} ".ljust(WIDTH - 10, ".") + f"{time.monotonic() - began:8.1f} s")

    @contextmanager
    def busy(self, title: str) -> Iterator[None]:
        """On a terminal, a sign of life while the block runs; lines printed meanwhile scroll above it."""
        if self._console.is_terminal and not self._console.quiet:
            with self._console.status(Text(title)):
                yield
        else:
            yield

    def document(self, document: Any) -> None:
        """JSON, indented, each line cut to the width."""
        for line in json.dumps(document, indent=2, ensure_ascii=False, default=_plain).splitlines():
            self.line("  " + (line if len(line) <= WIDTH - 2 else line[: WIDTH - 3] + "…"))


def _plain(value: Any) -> Any:
    """What JSON has no form for: a number of DynamoDB's as a number, anything else as text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
