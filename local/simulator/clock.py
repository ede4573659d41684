"""Simulated time. It can run faster or slower than the wall clock, but never backwards."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

SLOWEST, FASTEST = 0.01, 1_000.0

# Maximum number of speed changes to keep. Timestamps before the oldest kept change are estimates.
_MAX_SPEED_CHANGES = 256


@dataclass(frozen=True, slots=True)
class _Interval:
    """An interval at one speed. `real_s` and `simulated_s` are its start on both clocks."""

    real_s: float
    simulated_s: float
    factor: float


class SimulatedClock:
    """Counts simulated seconds from its creation on: `factor` of them in each real second."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._epoch_s = wall() - monotonic()
        first = _Interval(real_s=monotonic(), simulated_s=0.0, factor=1.0)
        self._intervals = deque([first], maxlen=_MAX_SPEED_CHANGES)

    @property
    def factor(self) -> float:
        """Simulated seconds in each real second."""
        return self._intervals[-1].factor

    def now_s(self) -> float:
        """Return the simulated seconds since the creation of the clock."""
        current = self._intervals[-1]
        return current.simulated_s + (self._monotonic() - current.real_s) * current.factor

    def past_s(self, real_s: float) -> float:
        """Return the simulated time of `real_s` real seconds ago; 0 before the creation of the clock."""
        moment_s = self._monotonic() - real_s
        earlier = (interval for interval in reversed(self._intervals) if interval.real_s <= moment_s)
        interval = next(earlier, self._intervals[0])
        return max(interval.simulated_s + (moment_s - interval.real_s) * interval.factor, 0.0)

    def set_factor(self, factor: float) -> None:
        """Change the speed from now on."""
        now = _Interval(real_s=self._monotonic(), simulated_s=self.now_s(), factor=factor)
        self._intervals.append(now)

    def real_delay_s(self, simulated_s: float) -> float:
        """Return `simulated_s` as real seconds at the current speed."""
        return simulated_s / self.factor

    def wall_time(self, simulated_s: float) -> datetime:
        """Return the wall clock time of a simulated moment. For the future this assumes the current speed.

        Timestamps in responses are real times at any speed, because clients compare them with their own clock.
        """
        earlier = (interval for interval in reversed(self._intervals) if interval.simulated_s <= simulated_s)
        interval = next(earlier, self._intervals[0])
        real_s = interval.real_s + (simulated_s - interval.simulated_s) / interval.factor
        return datetime.fromtimestamp(self._epoch_s + real_s, UTC)
