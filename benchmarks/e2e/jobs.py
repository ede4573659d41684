"""The jobs: as long as chats take, the same for the same seed."""

import random
from dataclasses import dataclass
from math import log
from typing import Any

SEED = 1
MEDIAN_S, SPREAD = 8.0, 0.6
# So that the last one of a wave does not keep the next waiting for long.
SHORTEST_S, LONGEST_S = 2.0, 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the simulated Waterflai."""

    marker: str
    seconds: float

    @property
    def input_data(self) -> dict[str, Any]:
        """What starts it."""
        return {"marker": self.marker, "simulate": {"seconds": self.seconds, "queue_seconds": 0}}


def chats(count: int, seed: int = SEED) -> list[Job]:
    """Return so many jobs, log-normal in length and cut off at both ends."""
    dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    lengths = (dice.lognormvariate(log(MEDIAN_S), SPREAD) for _ in range(count))
    return [
        Job(f"chat-{number}", round(min(max(each, SHORTEST_S), LONGEST_S), 2))
        for number, each in enumerate(lengths)
    ]


def shorts(count: int, seed: int = SEED) -> list[Job]:
    """Return so many jobs of one to three seconds, to be started at once."""
    dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    return [Job(f"burst-{number}", round(dice.uniform(1.0, 3.0), 2)) for number in range(count)]
