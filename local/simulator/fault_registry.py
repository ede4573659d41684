"""Selects the fault rule for each call. Holds the rules for all executions and counts the calls of each execution."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from local.simulator.fault_rules import ActiveFault, CallCounts, FaultRule, Operation, find_active_fault
from local.simulator.strict_json import JsonObject

_MAX_SUBJECTS = 20_000


class CallCounter:
    """Counts calls by subject: the execution id, or for a start a hash of chatbot and input."""

    def __init__(self) -> None:
        self._by_subject: dict[str, Counter[tuple[Operation, bool]]] = {}

    def count(self, subject: str, operation: Operation, *, is_final: bool) -> CallCounts:
        """Count a call and return the counts of its operation, including it."""
        if subject not in self._by_subject and len(self._by_subject) >= _MAX_SUBJECTS:
            del self._by_subject[next(iter(self._by_subject))]  # the oldest
        counts = self._by_subject.setdefault(subject, Counter())
        counts[operation, is_final] += 1
        return CallCounts(running=counts[operation, False], final=counts[operation, True], is_final=is_final)

    def totals(self, subject: str) -> JsonObject:
        """Return the number of calls of each operation."""
        counts = self._by_subject.get(subject, Counter())
        return {
            operation.value: counts[operation, False] + counts[operation, True] for operation in Operation
        }

    def clear(self) -> None:
        """Delete all counts."""
        self._by_subject.clear()


class FaultRegistry:
    """Selects the rule that applies to a call: the first of the execution's own rules, else of the global ones.

    For a global rule, only calls since the rules were set count. They count for each execution separately.
    """

    def __init__(self) -> None:
        self._calls = CallCounter()
        self._global: tuple[FaultRule, ...] = ()
        self._calls_since_set = CallCounter()
        # `clear` sets it, to end the responses that are still being sent.
        self.cleared = asyncio.Event()

    def next_fault(
        self, operation: Operation, subject: str, own_rules: Iterable[FaultRule], *, is_final: bool = False
    ) -> ActiveFault | None:
        """Count a call and return the rule that applies to it; None if none applies."""
        calls = self._calls.count(subject, operation, is_final=is_final)
        calls_since_set = self._calls_since_set.count(subject, operation, is_final=is_final)
        return find_active_fault(own_rules, operation, calls) or find_active_fault(
            self._global, operation, calls_since_set
        )

    def set_global(self, rules: tuple[FaultRule, ...]) -> None:
        """Replace the rules for all executions."""
        self._global = rules
        self._calls_since_set.clear()

    def totals(self, execution_id: str) -> JsonObject:
        """Return the number of calls of each operation for an execution."""
        return self._calls.totals(execution_id)

    def clear(self) -> None:
        """Delete the rules and counts, and end the responses that are still being sent."""
        self.set_global(())
        self._calls.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()
