"""What a benchmark is held to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A sentence that holds or doesn't, with the figures it was measured by."""

    name: str
    held: bool
    figures: str


def at_most(name: str, found: float, limit: float, unit: str = " times") -> Target:
    """Return the target that a figure stays within a limit."""
    return Target(f"{name} at most {limit:g}{unit}", found <= limit, f"{found:.2f}{unit}")


def table(found: Iterable[Target]) -> Iterator[str]:
    """Yield the lines of a table in markdown."""
    yield from ("| target | figures | |", "|---|---|---|")
    yield from (
        f"| {each.name} | {each.figures} | {'held' if each.held else '**missed**'} |" for each in found
    )


def lines(found: Iterable[Target]) -> Iterator[str]:
    """Yield a line each, for the terminal."""
    yield from (f"{'held  ' if each.held else 'MISSED'} {each.name} ({each.figures})" for each in found)


def verdict(found: Sequence[Target]) -> str:
    """Return the last line."""
    return f"{sum(each.held for each in found)} of {len(found)} targets hold."
