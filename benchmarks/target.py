"""Targets of a benchmark."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A target, whether it holds, and the measured result."""

    name: str
    held: bool
    result: str


def at_most(name: str, measured: float, limit: float, unit: str = " times") -> Target:
    """Return the target that a measured number is at most `limit`."""
    return Target(f"{name} at most {limit:g}{unit}", measured <= limit, f"{measured:.2f}{unit}")


def table(targets: Iterable[Target]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield from ("| target | result | |", "|---|---|---|")
    yield from (
        f"| {each.name} | {each.result} | {'held' if each.held else '**missed**'} |" for each in targets
    )


def lines(targets: Iterable[Target]) -> Iterator[str]:
    """Yield a line for each target, for the terminal."""
    yield from (f"{'held  ' if each.held else 'MISSED'} {each.name} ({each.result})" for each in targets)


def summary(targets: Sequence[Target]) -> str:
    """Return the number of targets that hold, as a sentence."""
    return f"{sum(each.held for each in targets)} of {len(targets)} targets hold."
