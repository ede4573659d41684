"""A clock that only moves when somebody waits: hours of a state machine pass in milliseconds."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIDNIGHT = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Clock:
    """Stands in for the module `time` in the handlers, and for every wait of the interpreter."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again at midnight with nothing waited."""
        self.now = MIDNIGHT
        self.waits: list[float] = []
        self.pauses: list[float] = []
        self.while_waiting: Callable[[], None] | None = None

    def time(self) -> float:
        """Return epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """Return seconds that pass as they do for a socket, and when somebody waits as well."""
        return time.monotonic() + self.elapsed_s

    def wait(self, seconds: float) -> None:
        """Pass the time of a Wait state; what a test planned for the meantime happens first."""
        self.waits.append(seconds)
        if self.while_waiting is not None:
            self.while_waiting()
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Pass the time between two attempts of a Task."""
        self.pauses.append(seconds)
        self.now += seconds

    @property
    def elapsed_s(self) -> float:
        """Seconds since midnight."""
        return self.now - MIDNIGHT
