"""The faults of executions and those for all, and the counts of calls by which they are selected."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from local.simulator.faults import ActiveFault, CallCounts, Fault, Operation, find_active_fault
from local.simulator.strict_json import JsonObject

_MAX_SUBJECTS = 20_000


class CallCounter:
    """Counts calls by subject: an execution's id, or for a start its chatbot and input."""

    def __init__(self) -> None:
        self._by_subject: dict[str, Counter[tuple[Operation, bool]]] = {}

    def count(self, subject: str, operation: Operation, *, is_final: bool) -> CallCounts:
        """Count one call and return the counts with it."""
        if subject not in self._by_subject and len(self._by_subject) >= _MAX_SUBJECTS:
            del self._by_subject[next(iter(self._by_subject))]  # the oldest
        counts = self._by_subject.setdefault(subject, Counter())
        counts[operation, is_final] += 1
        return CallCounts(running=counts[operation, False], final=counts[operation, True], is_final=is_final)

    def totals(self, subject: str) -> JsonObject:
        """Return the calls of each operation for the subject."""
        counts = self._by_subject.get(subject, Counter())
        return {
            operation.value: counts[operation, False] + counts[operation, True] for operation in Operation
        }

    def clear(self) -> None:
        """Reset all counts."""
        self._by_subject.clear()


class FaultRegistry:
    """Selects the fault of each call: one of its execution's own, else one of those for all executions.

    The calls of the latter are counted from when they were set, for each execution separately.
    """

    def __init__(self) -> None:
        self._calls = CallCounter()
        self._global: tuple[Fault, ...] = ()
        self._calls_since_set = CallCounter()
        # Set by `clear`: responses that are still being sent end.
        self.cleared = asyncio.Event()

    def next_fault(
        self, operation: Operation, subject: str, own: Iterable[Fault], *, is_final: bool = False
    ) -> ActiveFault | None:
        """Count one call and return the fault that acts on it."""
        calls = self._calls.count(subject, operation, is_final=is_final)
        calls_since_set = self._calls_since_set.count(subject, operation, is_final=is_final)
        return find_active_fault(own, operation, calls) or find_active_fault(
            self._global, operation, calls_since_set
        )

    def set_global(self, faults: tuple[Fault, ...]) -> None:
        """Replace the faults for all executions."""
        self._global = faults
        self._calls_since_set.clear()

    def totals(self, execution_id: str) -> JsonObject:
        """Return the calls of each operation for an execution."""
        return self._calls.totals(execution_id)

    def clear(self) -> None:
        """Delete faults and counts, and end the responses that are still being sent."""
        self.set_global(())
        self._calls.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()
