"""Every fault that a start can meet, and what must become of its execution.

A row's job takes a second and completes, unless the row says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANOTHER_HOST = "http://another.host"
"""Stands for the address of a listener that should hear nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """A fault, the outcome, and what it may cost: POSTs, jobs, and at most so many status requests."""

    name: str
    fault: Mapping[str, Any]
    outcome: str = "COMPLETED"
    code: str | None = None
    posts: int | tuple[int, ...] = 1
    """Several where the jitter between attempts decides."""
    jobs: int = 1
    statuses: int | None = None
    output_error: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    simulate: Mapping[str, Any] = field(default_factory=dict)
    more: tuple[Mapping[str, Any], ...] = ()
    least_s: float = 0
    """How long it takes at the least: the slow ones go first."""


def _start(name: str, kind: str, **fault: Any) -> Row:
    row = {
        key: fault.pop(key)
        for key in ("outcome", "code_", "posts", "jobs", "request", "least_s")
        if key in fault
    }
    return Row(name, {"on": "start", "kind": kind, **fault}, code=row.pop("code_", None), **row)


def _lost(name: str, kind: str, jobs: int, **fault: Any) -> Row:
    """A start after which nobody can say whether a job runs: one POST, never a second."""
    return _start(name, kind, jobs=jobs, outcome="UNCERTAIN", code_="start_uncertain", **fault)


def _refused(code: int, **fault: Any) -> Row:
    return _start(f"{code}", "status_code", code=code, jobs=0, outcome="REJECTED", code_="refused", **fault)


def _postponed(name: str, code: int, **fault: Any) -> Row:
    """A start that is refused for now: as many POSTs as it takes, one job."""
    return _start(name, "status_code", code=code, times=1, posts=2, **fault)


# Of a CDN: the origin never received the request; it may have received it.
NOT_RECEIVED, PERHAPS_RECEIVED = (521, 523, 525, 526, 530), (520, 522, 524, 527)


START = (
    _lost("reset before it was processed", "reset", 0),
    _lost("reset after it was processed", "reset", 1, processed=True),
    _lost("no answer, and no job", "stall", 0, least_s=13),
    _lost("no answer, but a job", "stall", 1, processed=True, least_s=13),
    _start("an answer after two seconds", "stall", seconds=2),
    _refused(401),
    _refused(404),
    _refused(409),
    _refused(422),
    _lost("408", "status_code", 0, code=408),
    _postponed("429 for so many seconds", 429, retry_after=1),
    _postponed("429 until a date", 429, retry_after_date=1),
    _postponed("429 without a word", 429),
    _postponed("429 with nonsense", 429, retry_after="soon"),
    _postponed("503 for so many seconds", 503, retry_after=1, html=True),
    _start(
        "429 until the deadline",
        "status_code",
        code=429,
        retry_after=1,
        # The second one comes after 4 s and jitter; with little of that, the last one before the deadline is a third.
        posts=(1, 2, 3),
        jobs=0,
        outcome="REJECTED",
        code_="start_deadline",
        request={"timeout_seconds": 6},
    ),
    _lost("500 without a job", "status_code", 0, code=500),
    _lost("500 with a job", "status_code", 1, code=500, processed=True),
    _lost("502 of a gateway", "status_code", 0, code=502, html=True),
    _lost("504 of a gateway, with a job", "status_code", 1, code=504, html=True, processed=True),
    _lost("200 with a page", "status_code", 0, code=200, html=True),
    _lost("202 with an id that climbs", "status_code", 0, code=202, body='{"execution_id": ".."}'),
    _lost("204", "status_code", 1, code=204, processed=True),
    *(_postponed(f"{code} of a CDN", code, html=True) for code in NOT_RECEIVED),
    *(
        _lost(f"{code} of a CDN, with a job", "status_code", 1, code=code, html=True, processed=True)
        for code in PERHAPS_RECEIVED
    ),
    _start("103 before the answer", "interim"),
    _start("102, 103 and 103 before the answer", "interim", codes=[102, 103, 103], pause_seconds=0.2),
    _start("gzip", "encoded", encoding="gzip"),
    _start("deflate", "encoded", encoding="deflate"),
    _lost("an encoding we cannot read", "encoded", 1, encoding="br"),
    _lost("200 MiB in gzip", "bomb", 1),
    _start("a connection that is closed afterwards", "closes_idle", after_seconds=0.1),
    _lost("cut off", "cut_off", 1),
    _lost("truncated", "truncated", 1),
    _lost("wrong types", "wrong_types", 1),
    _start("wrong types but for the id", "wrong_types", fields=["status_url", "stream_url", "cancel_url"]),
    _lost("nulls", "nulls", 1),
    _start("nulls but for the id", "nulls", fields=["status_url", "stream_url", "cancel_url"]),
    _lost("nothing in it", "missing", 1),
    _start("nothing but the id", "missing", fields=["status_url", "stream_url", "cancel_url"]),
    _lost("20 MiB", "huge", 1),
    _start("in drops", "drip", chunk_bytes=8, pause_seconds=0.02),
    _lost("in drops for longer than anybody waits", "drip", 1, pause_seconds=0.5, least_s=26),
    _start("redirected", "redirect", to=ANOTHER_HOST, jobs=0, outcome="REJECTED", code_="redirected"),
    _start(
        "redirected for good",
        "redirect",
        to=ANOTHER_HOST,
        code=308,
        jobs=0,
        outcome="REJECTED",
        code_="redirected",
    ),
    _start("addresses on another host", "foreign_urls", to=ANOTHER_HOST),
)
