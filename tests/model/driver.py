"""Histories in bulk, and the smallest of those that break a promise."""

from dataclasses import dataclass

from tests.model.baton import Stage
from tests.model.history import History
from tests.model.tape import Tape, data_of
from tests.model.world import Parts


@dataclass(frozen=True, slots=True)
class Violation:
    """A tape, and what was broken along it."""

    tape: bytes
    broken: list[str]


def run(data: bytes, stage: Stage, parts: Parts) -> list[str]:
    """Return what the history on a tape breaks."""
    return History(Tape(data), parts, stage).run()


def search(seeds: range, parts: Parts) -> Violation | None:
    """Return the first violation among the histories of some seeds."""
    stage = Stage()
    try:
        for seed in seeds:
            data = data_of(seed)
            if found := run(data, stage, parts):
                return Violation(data, found)
    finally:
        stage.close()
    return None


def smallest(violation: Violation, parts: Parts) -> Violation:
    """Return the violation on the calmest tape we find: for whoever has to understand it."""
    stage, best = Stage(), violation
    try:
        for size in (128, 32, 8, 2, 1):
            for at in range(0, len(best.tape), size):
                data = best.tape[:at] + bytes(len(best.tape[at : at + size])) + best.tape[at + size :]
                if data != best.tape and (found := run(data, stage, parts)):
                    best = Violation(data.rstrip(b"\0"), found)
    finally:
        stage.close()
    return best
