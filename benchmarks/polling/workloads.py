"""The workloads. They are seeded, so that every run and every strategy has the same jobs."""

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Distribution of the durations of jobs."""

    CHAT = "chat"  # log-normal, median 12 s
    FLOW = "flow"  # log-normal, median 90 s
    BATCH = "batch"  # log-uniform, 10 min to 4 h


class Progress(StrEnum):
    """Progress that the status of a job shows."""

    SMOOTH = "smooth"  # in steps of 1 %, faster or slower at first
    STEPWISE = "stepwise"  # 3 to 8 nodes with very different durations
    NONE = "none"  # no progress before the end


class Behaviour(StrEnum):
    """Fault of the stream or of the status of a job."""

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
# Spread of a known distribution of durations: median 47 s, p90 238 s.
SIGMA = math.log(238 / 47) / 1.2816
BATCH_S = (600.0, 4 * 3600.0)
# 40 % of the jobs are queued before they run. The mean queue time depends on the kind.
QUEUED_SHARE = 0.4
QUEUE_MEAN_S = {Kind.CHAT: 3.0, Kind.FLOW: 20.0, Kind.BATCH: 150.0}
# A quarter of the jobs shows no progress.
PROGRESS_MIX = (Progress.SMOOTH, Progress.STEPWISE, Progress.NONE)
PROGRESS_WEIGHTS = (3, 3, 2)
IN_FLIGHT = 100.0


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """A job at Waterflai. Times are in seconds, `steps` and `finish_s` from the start of the job."""

    arrives_s: float
    finish_s: float
    progress: Progress
    steps: tuple[float, ...]
    """Times at which the progress changes."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs, the stream behaviour of Waterflai, and the follow concurrency (`units`)."""

    kind: Kind
    jobs: tuple[SimulatedJob, ...] = field(repr=False)
    stream_limit_s: float = math.inf
    units: int = 1000
    behaviour: Behaviour = Behaviour.GOOD


def make_jobs(
    kind: Kind, count: int, *, in_flight: float = IN_FLIGHT, seed: int = 1
) -> tuple[SimulatedJob, ...]:
    """Return `count` jobs with random arrivals. On average `in_flight` jobs run at the same time."""
    generator = random.Random(f"{kind} {seed}")  # noqa: S311 - not used for security
    shapes = [_shape(kind, generator) for _ in range(count)]
    apart_s = sum(finish_s for finish_s, _, _ in shapes) / count / in_flight
    jobs, now = [], 0.0
    for finish_s, progress, steps in shapes:
        jobs.append(SimulatedJob(now, finish_s, progress, steps))
        now += generator.expovariate(1 / apart_s)
    return tuple(jobs)


def _shape(kind: Kind, generator: random.Random) -> tuple[float, Progress, tuple[float, ...]]:
    if kind is Kind.BATCH:
        run_s = math.exp(generator.uniform(*map(math.log, BATCH_S)))
    else:
        run_s = MEDIAN_S[kind] * math.exp(generator.gauss(0, SIGMA))
    queue_s = generator.expovariate(1 / QUEUE_MEAN_S[kind]) if generator.random() < QUEUED_SHARE else 0.0
    progress = generator.choices(PROGRESS_MIX, PROGRESS_WEIGHTS)[0]
    parts: tuple[float, ...] = ()
    if progress is Progress.SMOOTH:
        # The beginning is up to a third slower or faster than the average.
        bend = math.exp(generator.gauss(0, 0.25))
        parts = tuple((percent / 100) ** bend for percent in range(1, 100))
    elif progress is Progress.STEPWISE:
        lengths = [generator.gammavariate(1.5, 1) for _ in range(generator.randint(3, 8))]
        total, at = sum(lengths), 0.0
        ends = []
        for length in lengths[:-1]:
            at += length / total
            ends.append(at)
        parts = tuple(ends)
    return queue_s + run_s, progress, tuple(queue_s + run_s * part for part in parts)
