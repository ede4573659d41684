"""Virtual clock of the interpreted state machine."""

import time
from typing import TYPE_CHECKING

from tests.fakes.clock import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Callable

MIDNIGHT = NOW


class WorkflowClock(Clock):
    """Replaces the module `time` in the handlers, and the waits of the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Set the time to midnight, and delete the waits and the callback."""
        self.now = MIDNIGHT
        self.waits: list[float] = []
        self.pauses: list[float] = []
        self.while_waiting: Callable[[], None] | None = None

    def time(self) -> float:
        """Return epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """Return seconds of real time, plus the virtual seconds of waits and pauses."""
        return time.monotonic() + self.elapsed_s

    def wait(self, seconds: float) -> None:
        """Advance by the time of a Wait state, after calling `while_waiting`."""
        self.waits.append(seconds)
        if self.while_waiting is not None:
            self.while_waiting()
        self.advance(seconds)

    def sleep(self, seconds: float) -> None:
        """Advance by the time between two attempts of a Task."""
        self.pauses.append(seconds)
        self.advance(seconds)

    @property
    def elapsed_s(self) -> float:
        """Seconds since midnight."""
        return self.now - MIDNIGHT
