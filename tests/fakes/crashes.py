"""Crashes of a process between any two of its calls."""

from typing import Any


class Killed(BaseException):
    """The process ends here. No `except Exception` may catch it."""


class StepCounter:
    """Names of the steps that a run takes, in their order; it kills the run at step number `kill_at`."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.steps: list[str] = []
        self._kill_at = kill_at

    def step(self, name: str) -> None:
        """Count a step. Raises Killed at the chosen one."""
        self.steps.append(name)
        if len(self.steps) - 1 == self._kill_at:
            raise Killed(name)


class CountedClient:
    """A client whose every call is two steps: about to be sent, and answered."""

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
