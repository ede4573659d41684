"""Number of bad inputs by target and result: counted in the tests, and printed at the end of the run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

PROPERTY = "example_count"

type CountExample = Callable[[str, str], None]


@pytest.fixture
def count_example(request: pytest.FixtureRequest) -> Iterator[CountExample]:
    """Return a function that counts one example by its target and its result."""
    counts: Counter[tuple[str, str]] = Counter()

    def count(target: str, result: str) -> None:
        counts[target, str(result)] += 1  # as a plain str, because the report is sent to another process

    yield count
    # The report of the test carries the counts, also from a worker process of xdist.
    request.node.user_properties += [(PROPERTY, [*key, number]) for key, number in counts.items()]


def summarize_examples(properties: Iterable[tuple[str, Any]]) -> list[str]:
    """Return a line for each target: the number of examples, and the number by result."""
    lines: dict[str, dict[str, int]] = {}
    for name, value in properties:
        if name == PROPERTY:
            target, result, number = value
            lines.setdefault(target, {})[result] = number
    return [
        f"{target}: {sum(results.values()):,} examples; "
        + ", ".join(f"{number:,} {result}" for result, number in sorted(results.items()))
        for target, results in sorted(lines.items())
    ]
