"""The published workloads: seeded, so that every run and every strategy meets the same jobs."""

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """How long the jobs of a workload take."""

    CHAT = "chat"  # log-normal, median 12 s
    FLOW = "flow"  # log-normal, median 90 s
    BATCH = "batch"  # log-uniform, 10 min to 4 h


class Progress(StrEnum):
    """What a job lets one see of how far it is."""

    SMOOTH = "smooth"  # percent by percent, faster or slower at first
    STEPWISE = "stepwise"  # nodes of very different length, 3 to 8 of them
    NONE = "none"  # nothing before its end


class Behaviour(StrEnum):
    """What is wrong with the stream or the status of a job."""

    GOOD = "good stream"
    HEARTBEATS = "heartbeats only"
    LOST_OPEN = "final event lost, the stream stays open"
    LOST_CLOSED = "final event lost, the stream closes"
    EVENTS_GO_ON = "events every second, the final one lost"
    BUFFERED = "buffered, released at the end"
    HELD_BACK = "buffered, never released"
    NONE = "no stream"
    LATE = "404 for the first second"
    LAGGING = "status 2 s behind"


MEDIAN_S = {Kind.CHAT: 12.0, Kind.FLOW: 90.0}
# The spread of the one distribution we were given: median 47 s, p90 238 s.
SIGMA = math.log(238 / 47) / 1.2816
BATCH_S = (600.0, 4 * 3600.0)
# Nearly half of the jobs queue before they run, for a tenth of the kind's usual duration on average.
QUEUED_SHARE = 0.4
QUEUE_MEAN_S = {Kind.CHAT: 3.0, Kind.FLOW: 20.0, Kind.BATCH: 150.0}
# A quarter of the jobs is silent about its progress.
PROGRESS_MIX = (Progress.SMOOTH, Progress.STEPWISE, Progress.NONE)
PROGRESS_WEIGHTS = (3, 3, 2)
IN_FLIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Task:
    """One job as the upstream runs it. Seconds; `steps` and `finish_s` count from its start."""

    arrives_s: float
    finish_s: float
    progress: Progress
    steps: tuple[float, ...]
    """When its progress moves; of n + 1 equal parts each has one done more."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs, the upstream's habit of ending streams, and how many may be followed at a time."""

    kind: Kind
    tasks: tuple[Task, ...] = field(repr=False)
    stream_limit_s: float = math.inf
    units: int = 1000
    behaviour: Behaviour = Behaviour.GOOD


def tasks(kind: Kind, count: int, *, in_flight: float = IN_FLIGHT, seed: int = 1) -> tuple[Task, ...]:
    """Return so many jobs, arriving at random so that about `in_flight` of them run at a time."""
    # Deterministic on purpose, and not for secrets.
    dice = random.Random(f"{kind} {seed}")  # noqa: S311
    shapes = [_shape(kind, dice) for _ in range(count)]
    apart_s = sum(finish_s for finish_s, _, _ in shapes) / count / in_flight
    found, now = [], 0.0
    for finish_s, progress, steps in shapes:
        found.append(Task(now, finish_s, progress, steps))
        now += dice.expovariate(1 / apart_s)
    return tuple(found)


def _shape(kind: Kind, dice: random.Random) -> tuple[float, Progress, tuple[float, ...]]:
    if kind is Kind.BATCH:
        run_s = math.exp(dice.uniform(*map(math.log, BATCH_S)))
    else:
        run_s = MEDIAN_S[kind] * math.exp(dice.gauss(0, SIGMA))
    queue_s = dice.expovariate(1 / QUEUE_MEAN_S[kind]) if dice.random() < QUEUED_SHARE else 0.0
    progress = dice.choices(PROGRESS_MIX, PROGRESS_WEIGHTS)[0]
    parts: tuple[float, ...] = ()
    if progress is Progress.SMOOTH:
        # Up to a third slower or faster at first than on average.
        bend = math.exp(dice.gauss(0, 0.25))
        parts = tuple((percent / 100) ** bend for percent in range(1, 100))
    elif progress is Progress.STEPWISE:
        lengths = [dice.gammavariate(1.5, 1) for _ in range(dice.randint(3, 8))]
        total, at = sum(lengths), 0.0
        ends = []
        for length in lengths[:-1]:
            at += length / total
            ends.append(at)
        parts = tuple(ends)
    return queue_s + run_s, progress, tuple(queue_s + run_s * part for part in parts)
