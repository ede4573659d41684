"""Waterflai in memory: jobs that finish at a time of the clock, and responses that fail by choice."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from waterhook.domain.status_document import MAX_STATUS_BYTES, StatusDocument
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.upstream.client import CancelResult
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

if TYPE_CHECKING:
    from tests.invariants.world import World

_BEFORE: tuple[UpstreamError, ...] = (
    UpstreamUnavailableError("http_503", "overloaded", status=503),
    UpstreamUnavailableError("http_429", "slow down", status=429, retry_after_s=7.0),
    UpstreamUnavailableError("no_connection", "refused"),
    PerhapsAcceptedError("http_500", "a bad minute", status=500),
    UpstreamRefusedError("http_401", "rotated", status=401),
    UpstreamRefusedError("http_404", "no such thing", status=404),
)
_AFTER = PerhapsAcceptedError("no_answer", "read timeout")
_GARBAGE = PerhapsAcceptedError("garbage", "no JSON object", status=200)
_FOREIGN = PerhapsAcceptedError("unusable_answer", "the document belongs to another execution", status=200)
_CLOSED = StreamEnd()
_IDLE = StreamEnd(PerhapsAcceptedError("no_answer", "silent", status=200), idle=True)
_BROKEN = StreamEnd(_AFTER)
_STARTED = StreamEvent("node_started", progress=1.0)
_DONE = StreamEvent("execution_completed")
# How a stream behaves. Of these only the first makes the end of the job known.
_STREAMS = ("good", "good", "heartbeats", "closes", "breaks", "held back", "false end", "idle", "chatters")


@dataclass
class Job:
    """A remote job: the marker of its request, when it ends and with what outcome."""

    marker: str
    ends_at: float
    outcome: str
    cleaned_at: float
    started_at: float
    lag_s: float
    """How far the status is behind the truth."""
    stream: str
    is_stubborn: bool = False
    """Its cancel is confirmed, and it runs on for ever."""

    def status(self, now: float) -> str:
        return self.outcome if now >= self.ends_at + self.lag_s else "RUNNING"

    @property
    def output(self) -> str:
        return f'"{self.marker}"'


class Stream:
    """The event stream of one job."""

    opened = True

    def __init__(self, world: "World", job: Job) -> None:
        self._world, self._job = world, job
        self._opened_at = world.clock.now
        self._started = False

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Let time pass until something happens or the timeout ends."""
        at, event = self._next()
        until = self._world.clock.now + timeout_s
        if at > until:
            self._world.clock.sleep(max(timeout_s, 0.01))
            return None
        self._world.clock.sleep(max(at - self._world.clock.now, 0.0))
        return _BROKEN if self._world.trouble() else event

    def close(self) -> None:
        """Close nothing."""

    def _next(self) -> tuple[float, StreamEvent | StreamEnd]:
        behaviour, ends_at = self._job.stream, self._job.ends_at
        if behaviour in {"heartbeats", "held back"}:
            return math.inf, _CLOSED
        if not self._started:
            self._started = True
            return self._world.clock.now, _STARTED
        opened_at = self._opened_at
        moments: dict[str, tuple[float, StreamEvent | StreamEnd]] = {
            "good": (ends_at, _DONE),
            "closes": (ends_at, _CLOSED),
            "chatters": (self._world.clock.now + 1.0, _STARTED),
            "false end": (opened_at + 1.0, _DONE),
            "breaks": (opened_at + 2.0, _BROKEN),
            "idle": (opened_at + 60.0, _IDLE),
        }
        return moments[behaviour]


class Upstream:
    """What the functions need of the client, over a dictionary."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.jobs: dict[str, Job] = {}
        self.cancels: Counter[str] = Counter()
        """How often the cancel of a job was tried."""
        self.late_polls: Counter[str] = Counter()
        """Status requests of a loop whose record was final before."""

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        def effect() -> str:
            choices, now = self._world.choices, self._world.clock.now
            job_id = f"job-{len(self.jobs)}"
            ends_at = now + choices.pick(3.0, 0.2, 0.5, 8.0, 25.0, math.inf)
            outcome = choices.pick("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED")
            cleaned_at = ends_at + choices.pick(9e9, 9e9, 9e9, 3.0)
            lag_s = choices.pick(0.0, 0.0, 2.0)
            stream = choices.pick(*_STREAMS)
            stubborn = ends_at == math.inf and choices.one_in(2)
            if self._world.outage.what:
                ends_at, cleaned_at, stubborn = min(ends_at, now + 600.0), math.inf, False
            self.jobs[job_id] = Job(
                input_data["marker"], ends_at, outcome, cleaned_at, now, lag_s, stream, stubborn
            )
            return job_id

        return self._world.call("start", effect, before=_BEFORE, after=(_AFTER, _GARBAGE))

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        self._world.read_key()
        self._count_late_poll(execution_id)

        def effect() -> StatusDocument:
            job, now = self._found(execution_id), self._world.clock.now
            status = job.status(now)
            if status == "COMPLETED":
                return StatusDocument(status, 100.0, final_output_json=job.output, completed_at=job.ends_at)
            return StatusDocument(status, min(99.0, round(now - job.started_at)))

        odd = StatusDocument(status="PONDERING", progress=-5.0)
        answer = self._world.call("status", effect, before=(*_BEFORE, _GARBAGE, _FOREIGN), after=(_AFTER,))
        if answer.outcome is None and self._world.trouble():
            return replace(answer, retry_after_s=5.0)
        return odd if answer.outcome is None and self._world.trouble() else answer

    def cancel(self, execution_id: str) -> CancelResult:
        self.cancels[execution_id] += 1
        self._world.read_key()

        def effect() -> CancelResult:
            job, now = self._found(execution_id), self._world.clock.now
            previous = job.status(now)
            if previous != "RUNNING":
                if self._world.choices.one_in(2):
                    raise UpstreamRefusedError("http_409", "too late", status=409)
                return CancelResult(cancelled=False, message="too late", previous_status=previous)
            if now >= job.ends_at:
                # The status lags: the job is over, and only the answer shows it.
                return CancelResult(cancelled=False, message="too late", previous_status=job.outcome)
            if not job.is_stubborn:
                job.outcome, job.ends_at, job.lag_s = "CANCELLED", now, 0.0
            return CancelResult(cancelled=True, message=None, previous_status=previous)

        return self._world.call("cancel", effect, before=_BEFORE, after=(_AFTER, _GARBAGE))

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> Stream:
        """Open the stream of a job, whatever has become of it."""
        self._world.read_key()
        job = self._world.call("stream", lambda: self._found(execution_id), before=_BEFORE, after=(_AFTER,))
        return Stream(self._world, job)

    def _count_late_poll(self, job_id: str) -> None:
        current = self._world.scheduler.current
        for item in self._world.table.items.values():
            mine = item.get("waterflai_execution_id", {}).get("S") == job_id
            looped = current is not None and current.name == item.get("owner_execution_arn", {}).get("S")
            if mine and looped and "finished_at" in item:
                self.late_polls[job_id] += 1

    def _found(self, execution_id: str) -> Job:
        job = self.jobs.get(execution_id)
        if job is None or self._world.clock.now >= job.cleaned_at:
            raise UpstreamRefusedError("http_404", "no such execution", status=404)
        return job
