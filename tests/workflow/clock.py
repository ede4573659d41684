"""The clock of a state machine that is interpreted: hours pass in milliseconds."""

import time
from typing import TYPE_CHECKING

from tests.fakes.clock import NOW, Clock

if TYPE_CHECKING:
    from collections.abc import Callable

MIDNIGHT = NOW


class WorkflowClock(Clock):
    """Stands in for the module `time` in the handlers, and for every wait of the interpreter."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Return to midnight, with nothing waited and nothing planned."""
        self.now = MIDNIGHT
        self.waits: list[float] = []
        self.pauses: list[float] = []
        self.while_waiting: Callable[[], None] | None = None

    def time(self) -> float:
        """Return epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """Return seconds of real time, plus those that waits and pauses have passed."""
        return time.monotonic() + self.elapsed_s

    def wait(self, seconds: float) -> None:
        """Pass the time of a Wait state. `while_waiting` is called first."""
        self.waits.append(seconds)
        if self.while_waiting is not None:
            self.while_waiting()
        self.advance(seconds)

    def sleep(self, seconds: float) -> None:
        """Pass the time between two attempts of a Task."""
        self.pauses.append(seconds)
        self.advance(seconds)

    @property
    def elapsed_s(self) -> float:
        """Seconds since midnight."""
        return self.now - MIDNIGHT
