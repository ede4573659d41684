"""Waterflai in memory: jobs that finish when the clock says so, and answers that go wrong as the tape says."""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waterhook.client import CancelAnswer
from waterhook.errors import PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.status import MAX_STATUS_BYTES, StatusDocument

if TYPE_CHECKING:
    from tests.model.world import World

_BEFORE: tuple[UpstreamError, ...] = (
    Unavailable("http_503", "overloaded", status=503),
    Unavailable("http_429", "slow down", status=429, retry_after_s=7.0),
    Unavailable("no_connection", "refused"),
    PerhapsAccepted("http_500", "a bad minute", status=500),
    Refused("http_401", "rotated", status=401),
    Refused("http_404", "no such thing", status=404),
)
_AFTER = PerhapsAccepted("no_answer", "read timeout")
_GARBAGE = PerhapsAccepted("garbage", "no JSON object", status=200)


@dataclass
class Job:
    """A remote job: what it was asked, when it ends and as what."""

    marker: str
    ends_at: float
    outcome: str
    cleaned_at: float
    started_at: float

    def status(self, now: float) -> str:
        return self.outcome if now >= self.ends_at else "RUNNING"

    @property
    def output(self) -> str:
        return f'"{self.marker}"'


class Upstream:
    """What the functions need of the client, over a dictionary."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.jobs: dict[str, Job] = {}

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        def effect() -> str:
            tape, now = self._world.tape, self._world.now
            job_id = f"job-{len(self.jobs)}"
            ends_at = now + tape.pick(3.0, 0.2, 0.5, 8.0, 25.0, math.inf)
            outcome = tape.pick("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED")
            self.jobs[job_id] = Job(
                input_data["marker"], ends_at, outcome, ends_at + tape.pick(9e9, 9e9, 9e9, 3.0), now
            )
            return job_id

        return self._world.call("start", effect, before=_BEFORE, after=(_AFTER, _GARBAGE))

    def status(self, execution_id: str, *, limit_bytes: int = MAX_STATUS_BYTES) -> StatusDocument:
        def effect() -> StatusDocument:
            job, now = self._found(execution_id), self._world.now
            status = job.status(now)
            if status == "COMPLETED":
                return StatusDocument(status, 100.0, final_output_json=job.output, completed_at=job.ends_at)
            return StatusDocument(status, min(99.0, round(now - job.started_at)))

        odd = StatusDocument(status="PONDERING", progress=-5.0)
        answer = self._world.call("status", effect, before=(*_BEFORE, _GARBAGE), after=(_AFTER,))
        return odd if answer.outcome is None and self._world.trouble() else answer

    def cancel(self, execution_id: str) -> CancelAnswer:
        def effect() -> CancelAnswer:
            job, now = self._found(execution_id), self._world.now
            previous = job.status(now)
            if previous != "RUNNING":
                if self._world.tape.one_in(2):
                    raise Refused("http_409", "too late", status=409)
                return CancelAnswer(cancelled=False, message="too late", previous_status=previous)
            job.outcome, job.ends_at = "CANCELLED", now
            return CancelAnswer(cancelled=True, message=None, previous_status=previous)

        return self._world.call("cancel", effect, before=_BEFORE, after=(_AFTER, _GARBAGE))

    def stream(
        self, execution_id: str, *, ends_at: float, idle_timeout_s: float
    ) -> Generator[dict[str, Any]]:
        """Listen until the job ends or the time is up; a broken stream ends a while before either."""
        job = self._world.call("stream", lambda: self._found(execution_id), before=_BEFORE, after=(_AFTER,))
        yield {"type": "node_started", "progress": 1}
        self._world.sleep(min(max(job.ends_at - self._world.now, 0.0), max(ends_at - self._world.now, 0.0)))
        if self._world.trouble():
            raise _AFTER
        if job.status(self._world.now) != "RUNNING" or self._world.trouble():
            yield {"type": "execution_completed"}

    def _found(self, execution_id: str) -> Job:
        job = self.jobs.get(execution_id)
        if job is None or self._world.now >= job.cleaned_at:
            raise Refused("http_404", "no such execution", status=404)
        return job
