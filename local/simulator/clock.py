"""Simulated time: it can run faster than the wall clock, and never runs backwards."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

SLOWEST, FASTEST = 0.01, 1_000.0

# One entry for each change of speed. Beyond that number, the oldest timestamps become estimates.
_MAX_SPEED_CHANGES = 256


@dataclass(frozen=True, slots=True)
class _Interval:
    """A span of time at one speed, from its first moment on."""

    real_s: float
    simulated_s: float
    factor: float


class SimulatedClock:
    """Counts simulated seconds since it was made, `factor` of them in each real one."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._epoch_s = wall() - monotonic()
        first = _Interval(real_s=monotonic(), simulated_s=0.0, factor=1.0)
        self._intervals = deque([first], maxlen=_MAX_SPEED_CHANGES)

    @property
    def factor(self) -> float:
        """Simulated seconds in a real one."""
        return self._intervals[-1].factor

    def now_s(self) -> float:
        """Return the simulated seconds gone by."""
        current = self._intervals[-1]
        return current.simulated_s + (self._monotonic() - current.real_s) * current.factor

    def past_s(self, real_s: float) -> float:
        """Return the simulated seconds that had gone by `real_s` real seconds ago; 0 before the clock was made."""
        moment_s = self._monotonic() - real_s
        earlier = (interval for interval in reversed(self._intervals) if interval.real_s <= moment_s)
        interval = next(earlier, self._intervals[0])
        return max(interval.simulated_s + (moment_s - interval.real_s) * interval.factor, 0.0)

    def set_factor(self, factor: float) -> None:
        """Go on from the present moment at another speed."""
        now = _Interval(real_s=self._monotonic(), simulated_s=self.now_s(), factor=factor)
        self._intervals.append(now)

    def real_delay_s(self, simulated_s: float) -> float:
        """Return the real seconds that `simulated_s` take at the present speed."""
        return simulated_s / self.factor

    def wall_time(self, simulated_s: float) -> datetime:
        """Return when, on the wall clock, a simulated moment was, or will be at the present speed.

        Clients compare an upstream's timestamps with their own clock, so these are real ones at any speed.
        """
        earlier = (interval for interval in reversed(self._intervals) if interval.simulated_s <= simulated_s)
        interval = next(earlier, self._intervals[0])
        real_s = interval.real_s + (simulated_s - interval.simulated_s) / interval.factor
        return datetime.fromtimestamp(self._epoch_s + real_s, UTC)
