"""Time that moves only when a test moves it."""

from dataclasses import dataclass

# 2026-01-01T00:00:00Z
NOW = 1_767_225_600.0


@dataclass
class Clock:
    """Epoch seconds, called like `time.time`; every reading may take a while."""

    now: float = NOW
    step_s: float = 0.0

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
