"""What a job does, as a pure function of its script and the simulated seconds since it was accepted.

A job waits in the queue, then runs its nodes one after the other, each for the same time. One that fails or
is cancelled by the upstream stops half-way through its middle node; an endless one never leaves its last.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from local.simulator.faults import Fault
from local.simulator.strict_json import JsonObject, write_json

DAY_S = 86_400.0

# Often enough for a progress bar; seldom enough that hundreds of streams stay cheap.
_PROGRESS_PER_NODE = 4
_SHORTEST_PROGRESS_S = 0.5


class Status(StrEnum):
    """Every status that the API's text names."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a job with this status has ended and can't be cancelled any more."""
        return self not in {Status.PENDING, Status.RUNNING}


class Outcome(StrEnum):
    """The outcome of a job that is not cancelled."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ENDLESS = "ENDLESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScript:
    """What a job will do. Times are in simulated seconds."""

    nodes: int = 3
    queue_seconds: float = 0.5
    seconds: float = 3.0
    outcome: Outcome = Outcome.COMPLETED
    output: JsonObject = field(default_factory=dict)
    output_kib: int = 0
    error_message: str | None = None
    cleanup_seconds: float = 7 * DAY_S
    faults: tuple[Fault, ...] = ()  # of requests about the job; the job itself is not affected

    @property
    def finish_s(self) -> float:
        """When the job ends, counted from its acceptance; infinite if it never does."""
        return math.inf if self.outcome is Outcome.ENDLESS else self.queue_seconds + self.seconds

    @property
    def finished_nodes(self) -> int:
        """How many nodes are done at the end, or ever."""
        match self.outcome:
            case Outcome.COMPLETED:
                return self.nodes
            case Outcome.ENDLESS:
                return self.nodes - 1
            case _:
                return self.nodes // 2

    @property
    def node_s(self) -> float:
        """How long one node runs."""
        match self.outcome:
            case Outcome.COMPLETED:
                return self.seconds / self.nodes
            case Outcome.ENDLESS:  # never 0: its last node has to be slow
                return max(self.seconds / self.nodes, _SHORTEST_PROGRESS_S)
            case _:
                return self.seconds / (self.finished_nodes + 0.5)

    def node_ends_s(self, number: int) -> float:
        """When node `number`, counted from 1, is done. No node is done after the job, and the last one with it."""
        if number == self.nodes:  # not a rounding error sooner
            return self.finish_s
        return min(self.queue_seconds + number * self.node_s, self.finish_s)

    def final_output(self) -> JsonObject:
        """Return the output, padded to `output_kib` KiB of JSON where it is shorter."""
        if not self.output_kib:
            return dict(self.output)
        bare = {**self.output, "padding": ""}
        missing_bytes = self.output_kib * 1024 - len(write_json(bare))
        return {**bare, "padding": "x" * max(missing_bytes, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """A job at one moment. `started_s` and `finished_s` count from its acceptance."""

    status: Status
    progress: float
    current_node: str | None
    completed_nodes: int
    started_s: float | None
    finished_s: float | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of the stream and its time, counted from the job's acceptance."""

    at_s: float
    body: JsonObject


def snapshot(script: JobScript, elapsed_s: float, cancelled_s: float | None = None) -> JobSnapshot:
    """Return the job as it is `elapsed_s` after its acceptance, had it been cancelled at `cancelled_s`."""
    end_s, end = script.finish_s, script.outcome.value
    if cancelled_s is not None and cancelled_s < end_s:
        end_s, end = cancelled_s, Status.CANCELLED
    is_over = elapsed_s >= end_s
    at_s = min(elapsed_s, end_s)
    has_started = at_s >= script.queue_seconds
    completed = _completed_nodes(script, at_s)
    status = Status.RUNNING if has_started else Status.PENDING
    if is_over:
        status = Status(end)
    return JobSnapshot(
        status=status,
        progress=_progress(script, at_s, completed),
        current_node=_node_id(completed + 1) if status is Status.RUNNING else None,
        completed_nodes=completed,
        started_s=script.queue_seconds if has_started else None,
        finished_s=end_s if is_over else None,
    )


def timeline(script: JobScript, after_s: float = 0.0) -> Iterator[JobEvent]:
    """Yield the stream's events from `after_s` on, in order. The last one is yielded whatever `after_s` is.

    An endless job has endless events.
    """
    for event in heapq.merge(
        _node_events(script), _progress_events(script, after_s), key=lambda event: event.at_s
    ):
        if event.at_s >= after_s:
            yield event
    yield JobEvent(script.finish_s, completion_event(Status(script.outcome)))


def completion_event(status: Status) -> JsonObject:
    """Return the last event of a stream, with the job's status and without its output."""
    return {"type": "execution_completed", "status": status}


def _node_id(number: int) -> str:
    return f"node-{number}"


def _completed_nodes(script: JobScript, at_s: float) -> int:
    if at_s >= script.finish_s:
        return script.finished_nodes
    # The last node of a job that completes is done when the job is, and not a rounding error sooner.
    most = min(script.finished_nodes, script.nodes - 1)
    return bisect.bisect_right(range(1, most + 1), at_s, key=script.node_ends_s)


def _progress(script: JobScript, at_s: float, completed: int) -> float:
    """Return the percentage done, cut to two decimals. 100 is left to jobs that are."""
    if at_s < script.queue_seconds:
        return 0.0
    if completed == script.nodes:
        return 100.0
    begun_s = script.queue_seconds + completed * script.node_s
    in_node = (at_s - begun_s) / script.node_s if script.node_s else 0.5
    if script.outcome is Outcome.ENDLESS and completed == script.finished_nodes:
        in_node /= 1 + in_node
    percent = 100 * (completed + min(in_node, 1.0)) / script.nodes
    return min(math.floor(percent * 100) / 100, 99.99)


def _node_events(script: JobScript) -> Iterator[JobEvent]:
    begins_s = script.queue_seconds
    for number in range(1, script.nodes + 1):
        yield JobEvent(begins_s, {"type": "node_started", "node_id": _node_id(number)})
        if number > script.finished_nodes:
            return
        begins_s = script.node_ends_s(number)
        yield JobEvent(begins_s, {"type": "node_completed", "node_id": _node_id(number)})


def _progress_events(script: JobScript, after_s: float) -> Iterator[JobEvent]:
    step_s = max(script.node_s / _PROGRESS_PER_NODE, _SHORTEST_PROGRESS_S)
    first = max(1, math.ceil((after_s - script.queue_seconds) / step_s))
    for count in itertools.count(first):
        at_s = script.queue_seconds + count * step_s
        if at_s >= script.finish_s:
            return
        yield JobEvent(at_s, {"type": "progress_update", "progress": snapshot(script, at_s).progress})
