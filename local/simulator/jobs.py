"""Simulates a job: pure functions of its script and the simulated seconds since its acceptance.

A job waits in the queue, then runs its nodes in sequence. Each node takes the same time. A job with the outcome
FAILED or CANCELLED stops in the middle of its middle node. An ENDLESS job stays in its last node.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from local.simulator.fault_rules import FaultRule
from local.simulator.strict_json import JsonObject, write_json

DAY_S = 86_400.0

# Enough events for a progress bar, and few enough for hundreds of concurrent streams.
_PROGRESS_PER_NODE = 4
_SHORTEST_PROGRESS_S = 0.5


class Status(StrEnum):
    """The statuses in the documentation of the API."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a job with this status has ended and can't be cancelled."""
        return self not in {Status.PENDING, Status.RUNNING}


class Outcome(StrEnum):
    """The outcome of a job that no client cancels."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ENDLESS = "ENDLESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScript:
    """The script of a job. Times are simulated seconds."""

    nodes: int = 3
    queue_seconds: float = 0.5
    seconds: float = 3.0
    outcome: Outcome = Outcome.COMPLETED
    output: JsonObject = field(default_factory=dict)
    output_kib: int = 0
    error_message: str | None = None
    cleanup_seconds: float = 7 * DAY_S
    faults: tuple[FaultRule, ...] = ()  # affect the responses about the job, not the job

    @property
    def finish_s(self) -> float:
        """Seconds from acceptance to the end of the job; infinite for ENDLESS."""
        return math.inf if self.outcome is Outcome.ENDLESS else self.queue_seconds + self.seconds

    @property
    def finished_nodes(self) -> int:
        """Number of nodes that the job completes."""
        match self.outcome:
            case Outcome.COMPLETED:
                return self.nodes
            case Outcome.ENDLESS:
                return self.nodes - 1
            case _:
                return self.nodes // 2

    @property
    def node_s(self) -> float:
        """Duration of one node in seconds."""
        match self.outcome:
            case Outcome.COMPLETED:
                return self.seconds / self.nodes
            case Outcome.ENDLESS:  # never 0, because the last node never ends
                return max(self.seconds / self.nodes, _SHORTEST_PROGRESS_S)
            case _:
                return self.seconds / (self.finished_nodes + 0.5)

    def node_ends_s(self, number: int) -> float:
        """Return the end of node `number`, from 1, in seconds after acceptance. The last node ends with the job."""
        if number == self.nodes:  # without a rounding error
            return self.finish_s
        return min(self.queue_seconds + number * self.node_s, self.finish_s)

    def final_output(self) -> JsonObject:
        """Return the output, padded to at least `output_kib` KiB of JSON."""
        if not self.output_kib:
            return dict(self.output)
        unpadded = {**self.output, "padding": ""}
        missing_bytes = self.output_kib * 1024 - len(write_json(unpadded))
        return {**unpadded, "padding": "x" * max(missing_bytes, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """The state of a job at one time. `started_s` and `finished_s` are seconds after acceptance."""

    status: Status
    progress: float
    current_node: str | None
    completed_nodes: int
    started_s: float | None
    finished_s: float | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of the stream. `at_s`: seconds after the acceptance of the job."""

    at_s: float
    body: JsonObject


def snapshot(script: JobScript, elapsed_s: float, cancelled_s: float | None = None) -> JobSnapshot:
    """Return the state of the job `elapsed_s` after acceptance. `cancelled_s`: when a client cancelled it."""
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
    """Yield the events of the stream from `after_s` on, in order. The last event is always yielded.

    An ENDLESS job has events without end.
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
    # The last node of a completed job ends with the job. Comparing its own end would add a rounding error.
    max_completed = min(script.finished_nodes, script.nodes - 1)
    return bisect.bisect_right(range(1, max_completed + 1), at_s, key=script.node_ends_s)


def _progress(script: JobScript, at_s: float, completed: int) -> float:
    """Return the progress in percent, rounded down to two decimals. Only a completed job has 100."""
    if at_s < script.queue_seconds:
        return 0.0
    if completed == script.nodes:
        return 100.0
    node_begins_s = script.queue_seconds + completed * script.node_s
    in_node = (at_s - node_begins_s) / script.node_s if script.node_s else 0.5
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
