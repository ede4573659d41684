"""The faults that stand, and the count of calls by which they are chosen."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from local.simulator.faults import Calls, Fault, Met, Operation, choose
from local.simulator.strict_json import Object

_SUBJECTS_KEPT = 20_000


class Tally:
    """Counts calls by what they are about: an execution's id, or before there is one, what is to be started."""

    def __init__(self) -> None:
        self._by_subject: dict[str, Counter[tuple[Operation, bool]]] = {}

    def count(self, subject: str, operation: Operation, *, is_final: bool) -> Calls:
        """Count one call and return the counts with it."""
        if subject not in self._by_subject and len(self._by_subject) >= _SUBJECTS_KEPT:
            del self._by_subject[next(iter(self._by_subject))]  # the oldest
        counts = self._by_subject.setdefault(subject, Counter())
        counts[operation, is_final] += 1
        return Calls(running=counts[operation, False], final=counts[operation, True], is_final=is_final)

    def asked(self, subject: str) -> Object:
        """Return how often each operation was asked about the subject."""
        counts = self._by_subject.get(subject, Counter())
        return {
            operation.value: counts[operation, False] + counts[operation, True] for operation in Operation
        }

    def clear(self) -> None:
        """Count from nothing again."""
        self._by_subject.clear()


class Faults:
    """Which fault a call meets: one of its execution's own, else one of those that stand for all.

    The latter are counted from when they were set, for each execution by itself as well.
    """

    def __init__(self) -> None:
        self._calls = Tally()
        self._for_all: tuple[Fault, ...] = ()
        self._calls_since_set = Tally()
        # Set when everything is forgotten: answers that are being held up are given up.
        self.over = asyncio.Event()

    def meet(
        self, operation: Operation, subject: str, own: Iterable[Fault], *, is_final: bool = False
    ) -> Met | None:
        """Count one call and return the fault that acts on it."""
        calls = self._calls.count(subject, operation, is_final=is_final)
        calls_since_set = self._calls_since_set.count(subject, operation, is_final=is_final)
        return choose(own, operation, calls) or choose(self._for_all, operation, calls_since_set)

    def set_for_all(self, faults: tuple[Fault, ...]) -> None:
        """Let these, and no others, stand for every execution."""
        self._for_all = faults
        self._calls_since_set.clear()

    def asked(self, execution_id: str) -> Object:
        """Return how often each operation was asked of an execution."""
        return self._calls.asked(execution_id)

    def clear(self) -> None:
        """Forget faults and counts, and give up the answers that are being held up."""
        self.set_for_all(())
        self._calls.clear()
        self.over.set()
        self.over = asyncio.Event()
