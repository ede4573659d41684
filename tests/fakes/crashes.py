"""Crashes of a process between two calls."""

from typing import Any


class Killed(BaseException):
    """The process crashes. A BaseException, so that no `except Exception` catches it."""


class StepCounter:
    """Records the names of the steps of a run. Raises Killed at step number `kill_at`, counted from 0."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.steps: list[str] = []
        self._kill_at = kill_at

    def step(self, name: str) -> None:
        """Count a step. Raises Killed at the chosen one."""
        self.steps.append(name)
        if len(self.steps) - 1 == self._kill_at:
            raise Killed(name)


class CountedClient:
    """A client whose calls have two steps each: before the request, and after the response."""

    def __init__(self, real: Any, counter: StepCounter) -> None:
        self._real = real
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(**arguments: Any) -> Any:
            self._counter.step(f"before {name}")
            answer = method(**arguments)
            self._counter.step(f"after {name}")
            return answer

        return call
