"""Faults of a start request, each with the expected outcome of its execution.

The job of a row takes one second and completes, unless the row states otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANOTHER_HOST = "http://another.host"
"""Placeholder for the address of a server that must receive no request."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, the expected outcome, and how many requests and jobs it may cause."""

    name: str
    fault: Mapping[str, Any]
    outcome: str = "COMPLETED"
    error_code: str | None = None
    posts: int | tuple[int, ...] = 1
    """Start requests. Several numbers are allowed where the jitter between attempts decides."""
    jobs: int = 1
    max_status_requests: int | None = None
    """Not checked if None."""
    output_error: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    simulate: Mapping[str, Any] = field(default_factory=dict)
    other_faults: tuple[Mapping[str, Any], ...] = ()
    shortest_s: float = 0
    """Shortest possible duration. The slowest rows are started first."""


def _start(name: str, kind: str, **fault: Any) -> Row:
    fields = ("outcome", "error_code", "posts", "jobs", "request", "shortest_s")
    row = {key: fault.pop(key) for key in fields if key in fault}
    return Row(name, {"on": "start", "kind": kind, **fault}, **row)


def _uncertain(name: str, kind: str, jobs: int, **fault: Any) -> Row:
    """After this response it is unknown whether a job runs: one POST, never a second one."""
    return _start(name, kind, jobs=jobs, outcome="UNCERTAIN", error_code="start_uncertain", **fault)


def _refused(code: int, **fault: Any) -> Row:
    return _start(
        f"{code}", "status_code", code=code, jobs=0, outcome="REJECTED", error_code="refused", **fault
    )


def _postponed(name: str, code: int, **fault: Any) -> Row:
    """The first POST is refused for now, the second one creates the job."""
    return _start(name, "status_code", code=code, times=1, posts=2, **fault)


# Status codes of a CDN: the origin did not receive the request, or it may have received it.
NOT_RECEIVED, PERHAPS_RECEIVED = (521, 523, 525, 526, 530), (520, 522, 524, 527)


START = (
    _uncertain("reset before it was processed", "reset", 0),
    _uncertain("reset after it was processed", "reset", 1, processed=True),
    _uncertain("no response and no job", "stall", 0, shortest_s=13),
    _uncertain("no response, but a job", "stall", 1, processed=True, shortest_s=13),
    _start("a response after two seconds", "stall", seconds=2),
    _refused(401),
    _refused(404),
    _refused(409),
    _refused(422),
    _uncertain("408", "status_code", 0, code=408),
    _postponed("429 with Retry-After in seconds", 429, retry_after=1),
    _postponed("429 with Retry-After as a date", 429, retry_after_date=1),
    _postponed("429 without Retry-After", 429),
    _postponed("429 with an invalid Retry-After", 429, retry_after="soon"),
    _postponed("503 with Retry-After in seconds", 503, retry_after=1, html=True),
    _start(
        "429 until the deadline",
        "status_code",
        code=429,
        retry_after=1,
        # The second POST follows after 4 s and jitter. With little jitter, the last one before the deadline is a third.
        posts=(1, 2, 3),
        jobs=0,
        outcome="REJECTED",
        error_code="start_deadline",
        request={"timeout_seconds": 6},
    ),
    _uncertain("500 without a job", "status_code", 0, code=500),
    _uncertain("500 with a job", "status_code", 1, code=500, processed=True),
    _uncertain("502 of a gateway", "status_code", 0, code=502, html=True),
    _uncertain("504 of a gateway, with a job", "status_code", 1, code=504, html=True, processed=True),
    _uncertain("200 with an HTML page", "status_code", 0, code=200, html=True),
    _uncertain("202 with a path as the id", "status_code", 0, code=202, body='{"execution_id": ".."}'),
    _uncertain("204", "status_code", 1, code=204, processed=True),
    *(_postponed(f"{code} of a CDN", code, html=True) for code in NOT_RECEIVED),
    *(
        _uncertain(f"{code} of a CDN, with a job", "status_code", 1, code=code, html=True, processed=True)
        for code in PERHAPS_RECEIVED
    ),
    _start("103 before the response", "interim"),
    _start("102, 103 and 103 before the response", "interim", codes=[102, 103, 103], pause_seconds=0.2),
    _start("gzip", "encoded", encoding="gzip"),
    _start("deflate", "encoded", encoding="deflate"),
    _uncertain("an unsupported content encoding", "encoded", 1, encoding="br"),
    _uncertain("200 MiB in gzip", "bomb", 1),
    _start("a connection that is closed after the response", "closes_idle", after_seconds=0.1),
    _uncertain("cut off by a reset", "cut_off", 1),
    _uncertain("truncated JSON", "truncated", 1),
    _uncertain("wrong types", "wrong_types", 1),
    _start("wrong types except for the id", "wrong_types", fields=["status_url", "stream_url", "cancel_url"]),
    _uncertain("all fields null", "nulls", 1),
    _start("all fields null except for the id", "nulls", fields=["status_url", "stream_url", "cancel_url"]),
    _uncertain("all fields missing", "missing", 1),
    _start("only the id", "missing", fields=["status_url", "stream_url", "cancel_url"]),
    _uncertain("20 MiB", "huge", 1),
    _start("in chunks of 8 bytes", "drip", chunk_bytes=8, pause_seconds=0.02),
    _uncertain("a byte every half second", "drip", 1, pause_seconds=0.5, shortest_s=26),
    _start("redirect 302", "redirect", to=ANOTHER_HOST, jobs=0, outcome="REJECTED", error_code="redirected"),
    _start(
        "redirect 308",
        "redirect",
        to=ANOTHER_HOST,
        code=308,
        jobs=0,
        outcome="REJECTED",
        error_code="redirected",
    ),
    _start("addresses on another host", "foreign_urls", to=ANOTHER_HOST),
)
