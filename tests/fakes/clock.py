"""A clock that moves only when a test, or code under test that sleeps, moves it."""

from dataclasses import dataclass

# 2026-01-01T00:00:00Z
NOW = 1_767_225_600.0


@dataclass
class Clock:
    """Epoch seconds, called like `time.time` and `time.monotonic`; every reading takes `step_s`."""

    now: float = NOW
    step_s: float = 0.0

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Let the time pass immediately."""
        self.advance(seconds)
