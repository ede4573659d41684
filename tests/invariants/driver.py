"""Histories in bulk, and the smallest of those that break a promise."""

from dataclasses import dataclass

from tests.invariants.choice_sequence import ChoiceSequence, data_of
from tests.invariants.history import History
from tests.invariants.scheduler import Scheduler
from tests.invariants.world import Parts


@dataclass(frozen=True, slots=True)
class Violation:
    """A choices, and what was broken along it."""

    choices: bytes
    broken: list[str]


def run(data: bytes, scheduler: Scheduler, parts: Parts) -> list[str]:
    """Return what the history on a choices breaks."""
    return History(ChoiceSequence(data), parts, scheduler).run()


def search(seeds: range, parts: Parts) -> Violation | None:
    """Return the first violation among the histories of some seeds."""
    scheduler = Scheduler()
    try:
        for seed in seeds:
            data = data_of(seed)
            if found := run(data, scheduler, parts):
                return Violation(data, found)
    finally:
        scheduler.close()
    return None


def smallest(violation: Violation, parts: Parts) -> Violation:
    """Return the violation with the simplest choices that are found, so that it is easy to understand."""
    scheduler, best = Scheduler(), violation
    try:
        for size in (128, 32, 8, 2, 1):
            for at in range(0, len(best.choices), size):
                data = (
                    best.choices[:at] + bytes(len(best.choices[at : at + size])) + best.choices[at + size :]
                )
                if data != best.choices and (found := run(data, scheduler, parts)):
                    best = Violation(data.rstrip(b"\0"), found)
    finally:
        scheduler.close()
    return best
