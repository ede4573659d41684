"""Watching an execution to its end: a bar by node on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from waterhook.domain.status import Status
from waterhook_cli.api import Document
from waterhook_cli.errors import ExitCode, Problem, Refused, plain
from waterhook_cli.output import Output, console, style_of

# The API asks the upstream once in two seconds at most; later on, nobody sees the difference.
_FIRST_S, _LAST_S = 1.0, 5.0
_PER_AGE = 0.02
# How long the API may be away while we watch: the execution does not depend on it.
_PATIENCE_S = 120.0
_ROOM = 28  # what 80 columns leave beside bar, percentage and time


class Display(Protocol):
    """Whatever shows how far an execution is."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""

    def show(self, document: Document) -> None:
        """Show where it stands now."""


def is_final(document: Document) -> bool:
    """Whether nothing can follow; a status of another version of Waterhook is taken for one that goes on."""
    return document.status in Status.__members__ and Status(document.status).is_final


def exit_code(document: Document) -> ExitCode:
    """Return how a command ends that has watched this execution to its end."""
    return ExitCode.OK if document.status == Status.COMPLETED else ExitCode.ENDED_OTHERWISE


def watched(
    ask: Callable[[], Document],
    display: Display,
    output: Output,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Document:
    """Return the last document of an execution, having shown the ones before.

    An API that is away for a while is waited for. Raises Problem when it stays away, or refuses.
    """
    began = heard = clock()
    complained = False
    with display:
        while True:
            try:
                document = ask()
            except Problem as problem:
                passing = problem.exit_code == ExitCode.UNAVAILABLE and not isinstance(problem, Refused)
                if not passing or clock() - heard > _PATIENCE_S:
                    raise
                if not complained:
                    output.warn(f"{problem.message}; still asking")
                complained = True
            else:
                heard, complained = clock(), False
                display.show(document)
                if is_final(document):
                    return document
            pause(pace_s(clock() - began))


def pace_s(age_s: float) -> float:
    """Return how long to wait before asking again about an execution that has been watched for so long."""
    return min(max(_FIRST_S, age_s * _PER_AGE), _LAST_S)


def display(*, quiet: bool = False) -> Display:
    """Return what suits standard error."""
    if quiet:
        return Nothing()
    screen = console(stderr=True)
    return Bar(screen) if screen.is_terminal else Lines()


class Nothing:
    """No display at all."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, document: Document) -> None:
        """Show nothing."""


class Bar:
    """A bar of completed nodes, in place."""

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

    def show(self, document: Document) -> None:
        """Move the bar."""
        if self._task is None:
            return
        fields = document.fields
        percent = percent_of(fields)
        description = Text(plain(document.status).ljust(9), style=style_of(document.status))
        self._progress.update(
            self._task,
            description=description.markup,
            completed=percent or 0.0,
            percent="" if percent is None else f"{percent:.0f} %",
            nodes=Text(_cut(nodes_of(fields))).markup,
        )

    @property
    def picture(self) -> RenderableType:
        """What is on the screen now."""
        return self._progress.get_renderable()


def _cut(text: str) -> str:
    return text if len(text) <= _ROOM else text[: _ROOM - 3] + "..."


class Lines:
    """A line for every change."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._told = ""

    def __enter__(self) -> Self:
        self._began = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, document: Document) -> None:
        """Say what is new."""
        percent = percent_of(document.fields)
        parts = ["" if percent is None else f"{percent:.0f} %", nodes_of(document.fields)]
        told = "  ".join([plain(document.status).ljust(9), *filter(None, parts)]).rstrip()
        if told != self._told:
            console(stderr=True).print(Text(f"{self._clock() - self._began:6.1f} s  {told}"))
            self._told = told


def percent_of(fields: Mapping[str, Any]) -> float | None:
    """Return how far it is: by its nodes where it knows them, else by what it says."""
    done, total = fields.get("completed_nodes"), fields.get("total_nodes")
    if fields.get("status") == Status.COMPLETED:
        return 100.0
    said = fields.get("progress")
    if isinstance(done, int) and isinstance(total, int) and total > 0:
        said = 100.0 * done / total
    return min(max(float(said), 0.0), 100.0) if isinstance(said, int | float) else None


def nodes_of(fields: Mapping[str, Any]) -> str:
    """Return `1/3 nodes, at node-2`, as far as it is known."""
    return plain(", ".join(_nodes(fields)))


def _nodes(fields: Mapping[str, Any]) -> Iterator[str]:
    done, total = fields.get("completed_nodes"), fields.get("total_nodes")
    if isinstance(total, int):
        yield f"{done if isinstance(done, int) else 0}/{total} nodes"
    if fields.get("current_node"):
        yield f"at {fields['current_node']}"
