"""How much bad input was tried on what, and what came of it: counted in the tests, told at the end of the run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

PROPERTY = "tried"

type Tried = Callable[[str, str], None]


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Tried]:
    """Count one example: on what it was tried, and what came of it."""
    counts: Counter[tuple[str, str]] = Counter()

    def count(target: str, result: str) -> None:
        counts[target, str(result)] += 1  # an enumeration's own class is not known to the other process

    yield count
    # With the report of the test it comes to whoever collects, from another process too.
    request.node.user_properties += [(PROPERTY, [*key, number]) for key, number in counts.items()]


def account(properties: Iterable[tuple[str, Any]]) -> list[str]:
    """A line for each target: how many examples, and how many of them came to what."""
    lines: dict[str, dict[str, int]] = {}
    for name, value in properties:
        if name == PROPERTY:
            target, result, number = value
            lines.setdefault(target, {})[result] = number
    return [
        f"{target}: {sum(results.values()):,} tried; "
        + ", ".join(f"{number:,} {result}" for result, number in sorted(results.items()))
        for target, results in sorted(lines.items())
    ]
