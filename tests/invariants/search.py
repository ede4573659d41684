"""Runs many histories, and simplifies one that violates an invariant.

    PYTHONPATH=layers/waterhook python -m tests.invariants.search 4711

runs the history of a seed, or of choices in hexadecimal digits, and prints its violations.
"""

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tests.invariants.choice_sequence import ChoiceSequence, choices_of_seed
from tests.invariants.history import History
from tests.invariants.invariants import Invariant, Violation
from tests.invariants.scheduler import Scheduler
from tests.invariants.simulation import Components


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The choices of a history that violates an invariant, and its violations."""

    choices: bytes
    violations: list[Violation]
    seed: int | None = None


def run_history(choices: bytes, scheduler: Scheduler, components: Components) -> list[Violation]:
    """Return the violations of one history."""
    return History(ChoiceSequence(choices), components, scheduler).run()


def find_counterexample(
    seeds: Iterable[int], components: Components, invariant: Invariant | None = None
) -> Counterexample | None:
    """Return the first history that violates `invariant`, or any invariant without it, or None."""
    scheduler = Scheduler()
    try:
        for seed in seeds:
            choices = choices_of_seed(seed)
            violations = run_history(choices, scheduler, components)
            if violations and (invariant is None or invariant in {found.invariant for found in violations}):
                return Counterexample(choices, violations, seed)
    finally:
        scheduler.close()
    return None


def simplify(counterexample: Counterexample, components: Components) -> Counterexample:
    """Return a counterexample with as many choices set to 0 as possible: fewer faults and fewer events."""
    scheduler, simplest = Scheduler(), counterexample
    try:
        for size in (128, 32, 8, 2, 1):
            for start in range(0, len(simplest.choices), size):
                end = min(start + size, len(simplest.choices))
                choices = simplest.choices[:start] + bytes(max(end - start, 0)) + simplest.choices[end:]
                if choices == simplest.choices:
                    continue
                if violations := run_history(choices, scheduler, components):
                    simplest = Counterexample(choices.rstrip(b"\0"), violations)
    finally:
        scheduler.close()
    return simplest


def main(seed_or_choices: str) -> None:
    """Run one history and print its violations."""
    logging.disable()
    # A seed has far fewer digits than choices.
    is_seed = seed_or_choices.isdigit() and len(seed_or_choices) < 10
    choices = choices_of_seed(int(seed_or_choices)) if is_seed else bytes.fromhex(seed_or_choices)
    scheduler = Scheduler()
    violations = run_history(choices, scheduler, Components())
    scheduler.close()
    print("\n".join(map(str, violations)) or "every invariant is true")  # noqa: T201 - the output of a command


if __name__ == "__main__":
    main(sys.argv[1])
