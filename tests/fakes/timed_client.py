"""A client whose calls take time."""

from collections.abc import Mapping
from typing import Any

from tests.fakes.clock import Clock


class TimedClient:
    """Moves the clock before each call: by the same seconds, or by the seconds of the operation."""

    def __init__(self, real: object, clock: Clock, latency_s: float | Mapping[str, float]) -> None:
        self._real, self._clock, self._latency_s = real, clock, latency_s

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **arguments: Any) -> Any:
            self._clock.advance(
                self._latency_s[name] if isinstance(self._latency_s, Mapping) else self._latency_s
            )
            return getattr(self._real, name)(*args, **arguments)

        return call
