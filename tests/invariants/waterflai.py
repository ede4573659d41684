"""Waterflai in memory: jobs that end at a time of the simulated clock, HTTP responses, and event streams.

Waterhook's own client sends the requests and classifies the responses. Only its transport is replaced.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waterhook.errors import UpstreamUnavailableError
from waterhook.upstream import responses
from waterhook.upstream.client import MAX_RESPONSE_BYTES, WaterflaiClient
from waterhook.upstream.event_stream import StreamEnd, StreamEvent
from waterhook.upstream.responses import BodyShortener, Response
from waterhook.upstream.transport import no_answer

if TYPE_CHECKING:
    from tests.invariants.simulation import Simulation

_PATH = re.compile(r"/v1/executions/(?P<id>[^/]+)(/async)?")
_NOT_CARRIED_OUT: tuple[Response | Exception, ...] = (
    Response(503, {}),
    Response(429, {"Retry-After": "7"}),
    UpstreamUnavailableError("no_connection", "refused"),
    Response(500, {}),
    Response(401, {}),
    Response(404, {}),
)
_NO_ANSWER = no_answer(TimeoutError())
_GARBAGE = Response(200, {}, b"<html>")
_PERHAPS_CARRIED_OUT = (_NO_ANSWER, _GARBAGE, Response(500, {}))
_OTHER_DOCUMENT = Response(
    200, {}, b'{"execution_id": "job-of-another", "status": "COMPLETED", "final_output": "of another"}'
)
_UNKNOWN_STATUS = Response(200, {}, b'{"status": "PONDERING", "progress": -5}')
_TOO_LATE = Response(409, {}, b'{"detail": "too late"}')

_CLOSED = StreamEnd()
_IDLE = StreamEnd(no_answer(TimeoutError(), 200), idle=True)
_BROKEN = StreamEnd(_NO_ANSWER)
_STARTED = StreamEvent("node_started", progress=1.0)
_COMPLETED = StreamEvent("execution_completed")
# What a stream does. Only the first kind announces the end of the job.
_STREAMS = (
    "announces the end",
    "announces the end",
    "sends heartbeats",
    "closes at the end",
    "breaks off",
    "is buffered by a proxy",
    "announces the end too early",
    "is idle",
    "sends events",
)


@dataclass
class Job:
    """A job at Waterflai. Times are epoch seconds."""

    marker: str
    """The text in the request's `input_data` that differs between two requests. The job returns it as its output."""
    ends_at: float
    outcome: str
    removed_at: float
    started_at: float
    status_lag_s: float
    """The status shows the outcome this long after the job has ended."""
    stream: str
    ignores_cancel: bool = False
    """A cancel is confirmed, and the job runs on."""

    def status(self, now: float) -> str:
        return self.outcome if now >= self.ends_at + self.status_lag_s else "RUNNING"

    @property
    def output(self) -> str:
        return f'"{self.marker}"'


class JobStream:
    """The event stream of one job."""

    opened = True

    def __init__(self, simulation: "Simulation", job: Job) -> None:
        self._simulation, self._job = simulation, job
        self._opened_at = simulation.clock.now
        self._started = False

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        """Advance the clock to the next event or to the end of the timeout."""
        event_at, event = self._next_event()
        clock = self._simulation.clock
        if event_at > clock.now + timeout_s:
            clock.sleep(max(timeout_s, 0.01))
            return None
        clock.sleep(max(event_at - clock.now, 0.0))
        return _BROKEN if self._simulation.inject_fault() else event

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _next_event(self) -> tuple[float, StreamEvent | StreamEnd]:
        behaviour, now = self._job.stream, self._simulation.clock.now
        if behaviour in {"sends heartbeats", "is buffered by a proxy"}:
            return math.inf, _CLOSED
        if not self._started:
            self._started = True
            return now, _STARTED
        events: dict[str, tuple[float, StreamEvent | StreamEnd]] = {
            "announces the end": (self._job.ends_at, _COMPLETED),
            "closes at the end": (self._job.ends_at, _CLOSED),
            "sends events": (now + 1.0, _STARTED),
            "announces the end too early": (self._opened_at + 1.0, _COMPLETED),
            "breaks off": (self._opened_at + 2.0, _BROKEN),
            "is idle": (self._opened_at + 60.0, _IDLE),
        }
        return events[behaviour]


class Waterflai:
    """The jobs, and the answers to requests about them."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.client = InMemoryClient(self)
        self.jobs: dict[str, Job] = {}
        self.cancels: Counter[str] = Counter()
        """Cancel requests of each job."""
        self.not_found: Counter[str] = Counter()
        """Status requests of each job that were answered 404."""
        self.late_polls: Counter[str] = Counter()
        """Status requests of each job by a loop whose record was final before."""

    def respond(self, method: str, path: str, body: bytes | None) -> Response:
        """Return the response to a request, or raise the error of a connection that fails."""
        self._simulation.read_key()
        found = _PATH.fullmatch(path)
        assert found is not None, path
        if method == "POST":
            marker: str = json.loads(body or b"")["input_data"]["marker"]
            return self._call("start", lambda: self._start(marker), after=_PERHAPS_CARRIED_OUT)
        if method == "DELETE":
            self.cancels[found["id"]] += 1
            return self._call("cancel", lambda: self._cancel(found["id"]), after=_PERHAPS_CARRIED_OUT)
        self._count_late_poll(found["id"])
        response = self._call(
            "status",
            lambda: self._status(found["id"]),
            before=(*_NOT_CARRIED_OUT, _GARBAGE, _OTHER_DOCUMENT),
            after=(_NO_ANSWER,),
        )
        self.not_found[found["id"]] += response.status == HTTPStatus.NOT_FOUND
        return response

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> JobStream:
        """Return the stream of a job, also of one that has ended. Raises UpstreamError."""
        self._simulation.read_key()

        def effect() -> Response:
            return Response(404 if self._find(execution_id) is None else 200, {})

        response = self._call("stream", effect, after=(_NO_ANSWER,))
        if not response.is_success:
            raise responses.error_from_response(response)
        return JobStream(self._simulation, self.jobs[execution_id])

    def _call(
        self,
        operation: str,
        effect: Callable[[], Response],
        *,
        before: tuple[Response | Exception, ...] = _NOT_CARRIED_OUT,
        after: tuple[Response | Exception, ...],
    ) -> Response:
        return self._simulation.call(operation, effect, before=before, after=after)

    def _start(self, marker: str) -> Response:
        choices, now = self._simulation.choices, self._simulation.clock.now
        job_id = f"job-{len(self.jobs)}"
        ends_at = now + choices.pick(3.0, 0.2, 0.5, 8.0, 25.0, math.inf)
        outcome = choices.pick("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED")
        removed_at = ends_at + choices.pick(9e9, 9e9, 9e9, 3.0)
        status_lag_s = choices.pick(0.0, 0.0, 2.0)
        stream = choices.pick(*_STREAMS)
        ignores_cancel = ends_at == math.inf and choices.one_in(2)
        if self._simulation.outage.target:
            ends_at, removed_at, ignores_cancel = min(ends_at, now + 600.0), math.inf, False
        self.jobs[job_id] = Job(
            marker, ends_at, outcome, removed_at, now, status_lag_s, stream, ignores_cancel
        )
        return _json({"execution_id": job_id})

    def _status(self, job_id: str) -> Response:
        job, now = self._find(job_id), self._simulation.clock.now
        if job is None:
            return Response(404, {})
        status = job.status(now)
        document: dict[str, Any] = {"execution_id": job_id, "status": status}
        if status == "COMPLETED":
            return _json(document | {"progress": 100, "final_output": job.marker})
        headers = {}
        if status == "RUNNING":
            document["progress"] = min(99, round(now - job.started_at))
            if self._simulation.inject_fault():
                headers = {"Retry-After": "5"}
            elif self._simulation.inject_fault():
                return _UNKNOWN_STATUS
        return _json(document, headers)

    def _cancel(self, job_id: str) -> Response:
        job, now = self._find(job_id), self._simulation.clock.now
        if job is None:
            return Response(404, {})
        status = job.status(now)
        if status != "RUNNING" and self._simulation.choices.one_in(2):
            return _TOO_LATE
        if now >= job.ends_at:
            # A status that lags behind still shows RUNNING.
            return _json({"cancelled": False, "message": "too late", "previous_status": job.outcome})
        if not job.ignores_cancel:
            job.outcome, job.ends_at, job.status_lag_s = "CANCELLED", now, 0.0
        return _json({"cancelled": True, "previous_status": status})

    def _find(self, job_id: str) -> Job | None:
        job = self.jobs.get(job_id)
        return None if job is None or self._simulation.clock.now >= job.removed_at else job

    def _count_late_poll(self, job_id: str) -> None:
        task = self._simulation.scheduler.current
        for item in self._simulation.table.items.values():
            is_of_job = item.get("waterflai_execution_id", {}).get("S") == job_id
            is_by_loop = task is not None and task.name == item.get("owner_execution_arn", {}).get("S")
            if is_of_job and is_by_loop and "finished_at" in item:
                self.late_polls[job_id] += 1


class InMemoryClient(WaterflaiClient):
    """Waterhook's client with `Waterflai.respond` instead of HTTP."""

    def __init__(self, waterflai: Waterflai) -> None:
        # The base class would build a transport.
        self._waterflai = waterflai
        self._on_call = lambda _call: None

    def _call[T](
        self,
        method: str,
        path: str,
        read: Callable[[Response], T],
        body: bytes | None = None,
        limit_bytes: int = MAX_RESPONSE_BYTES,
        shorten: BodyShortener | None = None,
    ) -> T:
        """Read a response as `Transport.call` does."""
        response = self._waterflai.respond(method, path, body)
        if not response.is_success:
            raise responses.error_from_response(response)
        return read(response)


def _json(value: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(200, headers or {}, json.dumps(value).encode())
