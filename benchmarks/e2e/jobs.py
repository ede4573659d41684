"""The jobs of the benchmark. Their durations are random but reproducible, similar to those of chats."""

import random
from dataclasses import dataclass
from math import log
from typing import Any

SEED = 1
MEDIAN_S, SPREAD = 8.0, 0.6
# Bounds in seconds, so that one long job does not delay the next wave.
SHORTEST_S, LONGEST_S = 2.0, 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the simulated Waterflai. `marker` identifies it in requests and notifications."""

    marker: str
    seconds: float

    @property
    def input_data(self) -> dict[str, Any]:
        """Input of the job, with its script for the simulator."""
        return {"marker": self.marker, "simulate": {"seconds": self.seconds, "queue_seconds": 0}}


def chats(count: int, seed: int = SEED) -> list[Job]:
    """Return `count` jobs with log-normal durations between SHORTEST_S and LONGEST_S."""
    generator = random.Random(seed)  # noqa: S311  # not used for security
    durations = (generator.lognormvariate(log(MEDIAN_S), SPREAD) for _ in range(count))
    return [
        Job(f"chat-{number}", round(min(max(each, SHORTEST_S), LONGEST_S), 2))
        for number, each in enumerate(durations)
    ]


def shorts(count: int, seed: int = SEED) -> list[Job]:
    """Return `count` jobs with durations of one to three seconds."""
    generator = random.Random(seed)  # noqa: S311  # not used for security
    return [Job(f"burst-{number}", round(generator.uniform(1.0, 3.0), 2)) for number in range(count)]
