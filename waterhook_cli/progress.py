"""Shows the progress of an execution on standard error: a bar on a terminal, otherwise a line for each change."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from waterhook.domain.status import Status
from waterhook_cli.api_client import ApiResponse
from waterhook_cli.errors import printable
from waterhook_cli.output import console, status_style

# Rest of 80 columns beside bar, percentage and time.
_NODES_WIDTH = 28


class ProgressDisplay(Protocol):
    """Shows status documents. A context manager: leaving it removes the progress bar."""

    def __enter__(self) -> Self:
        """Start the display."""

    def __exit__(self, *_: object) -> None:
        """End it."""

    def show(self, document: ApiResponse) -> None:
        """Show a status document."""


def progress_display(*, quiet: bool = False) -> ProgressDisplay:
    """Return the display for standard error: a bar, lines, or nothing if `quiet`."""
    if quiet:
        return NoProgress()
    screen = console(stderr=True)
    return ProgressBar(screen) if screen.is_terminal else ProgressLines()


class NoProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, document: ApiResponse) -> None:
        """Do nothing."""


class ProgressBar:
    """A progress bar of completed nodes."""

    def __init__(self, screen: Console) -> None:
        columns = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[percent]:>5}  {task.fields[nodes]}"),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(*columns, console=screen, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("", total=100.0, percent="", nodes="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, document: ApiResponse) -> None:
        """Update the bar."""
        if self._task is None:
            return
        percent = percent_of(document.fields)
        description = Text(printable(document.status).ljust(9), style=status_style(document.status))
        self._progress.update(
            self._task,
            description=description.markup,
            completed=percent or 0.0,
            percent="" if percent is None else f"{percent:.0f} %",
            nodes=Text(_shorten(nodes_text(document.fields))).markup,
        )

    @property
    def renderable(self) -> RenderableType:
        """Current content of the bar."""
        return self._progress.get_renderable()


def _shorten(text: str) -> str:
    return text if len(text) <= _NODES_WIDTH else text[: _NODES_WIDTH - 3] + "..."


class ProgressLines:
    """A line for each change, with the seconds since the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self._last_text = ""

    def __enter__(self) -> Self:
        self._started_at = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, document: ApiResponse) -> None:
        """Print the document's status and progress if they have changed."""
        progress = progress_text(document.fields, separator="  ")
        text = f"{printable(document.status):9}  {progress}".rstrip()
        if text != self._last_text:
            console(stderr=True).print(Text(f"{self._clock() - self._started_at:6.1f} s  {text}"))
            self._last_text = text


def progress_text(fields: Mapping[str, Any], separator: str = ", ") -> str:
    """Return for example `33 %, 1/3 nodes, at node-2`, without the parts that the status document lacks."""
    percent = percent_of(fields)
    parts = ["" if percent is None else f"{percent:.0f} %", nodes_text(fields)]
    return separator.join(filter(None, parts))


def percent_of(fields: Mapping[str, Any]) -> float | None:
    """Return the progress in percent: completed nodes, or `progress` if the number of nodes is unknown."""
    if fields.get("status") == Status.COMPLETED:
        return 100.0
    completed, total = fields.get("completed_nodes"), fields.get("total_nodes")
    percent = fields.get("progress")
    if isinstance(completed, int) and isinstance(total, int) and total > 0:
        percent = 100.0 * completed / total
    return min(max(float(percent), 0.0), 100.0) if isinstance(percent, int | float) else None


def nodes_text(fields: Mapping[str, Any]) -> str:
    """Return for example `1/3 nodes, at node-2`, without the parts that the status document lacks."""
    return printable(", ".join(_nodes(fields)))


def _nodes(fields: Mapping[str, Any]) -> Iterator[str]:
    completed, total = fields.get("completed_nodes"), fields.get("total_nodes")
    if isinstance(total, int):
        yield f"{completed if isinstance(completed, int) else 0}/{total} nodes"
    if fields.get("current_node"):
        yield f"at {fields['current_node']}"
