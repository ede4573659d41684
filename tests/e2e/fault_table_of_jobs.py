"""Faults of status requests, cancels and streams of a running job, each with the expected outcome."""

from collections.abc import Mapping
from typing import Any

from tests.e2e.executions import NO_STREAM
from tests.e2e.fault_table import ANOTHER_HOST, NOT_RECEIVED, PERHAPS_RECEIVED, Row

DEADLINE_S = 10
"""A short deadline, but later than a start takes on a loaded machine."""


def _status(name: str, kind: str, *, stream: bool = False, **fault: Any) -> Row:
    """A failed status request is not a failed job. Most rows let the first one fail. `stream`: the job has a stream."""
    fields = (
        "outcome",
        "error_code",
        "max_status_requests",
        "output_error",
        "request",
        "simulate",
        "shortest_s",
    )
    row = {key: fault.pop(key) for key in fields if key in fault}
    other_faults = () if stream else (NO_STREAM,)
    return Row(name, {"on": "status", "kind": kind, **fault}, other_faults=other_faults, **row)


def _first_response(code: int, name: str = "", **fault: Any) -> Row:
    return _status(
        name or f"{code}", "status_code", **{"code": code, "times": 1, "max_status_requests": 3, **fault}
    )


OVERDUE: Mapping[str, Any] = {
    "outcome": "TIMED_OUT",
    "error_code": "deadline",
    "request": {"timeout_seconds": DEADLINE_S},
    "shortest_s": DEADLINE_S + 11,
}

STATUS = (
    _status("reset", "reset", times=1, max_status_requests=3),
    _status("reset at the end of the stream", "reset", times=1, stream=True, max_status_requests=3),
    _status("no response", "stall", times=1, shortest_s=14, max_status_requests=4),
    _status("a response after two seconds", "stall", seconds=2, times=1, max_status_requests=3),
    _first_response(401),
    _first_response(404),
    _first_response(404, "404 at the end of the stream", times=1, stream=True, max_status_requests=3),
    _status(
        "404 for more than a minute",
        "status_code",
        code=404,
        outcome="LOST",
        error_code="not_found",
        max_status_requests=20,
        shortest_s=62,
    ),
    _first_response(408),
    _first_response(409),
    _first_response(422),
    _first_response(429, "429 twice", times=2, max_status_requests=4),
    _first_response(429, "429 with Retry-After in seconds", retry_after=1),
    _first_response(429, "429 with Retry-After as a date", retry_after_date=1),
    _first_response(429, "429 with Retry-After as a past date", retry_after_date=-9000),
    _first_response(500),
    _first_response(500, "500 at the end of the stream", times=1, stream=True, max_status_requests=3),
    _first_response(502, html=True),
    _first_response(503, html=True, retry_after=1),
    _first_response(504, html=True),
    _first_response(200, "200 with an HTML page", html=True),
    _first_response(200, "200 with a list", body="[]"),
    _first_response(204),
    *(_first_response(code, f"{code} of a CDN", html=True) for code in (*NOT_RECEIVED, *PERHAPS_RECEIVED)),
    _status("103 before each response", "interim"),
    _status("102 and 103 before each response", "interim", codes=[102, 103]),
    _status("gzip", "encoded", encoding="gzip"),
    _status("deflate", "encoded", encoding="deflate"),
    _status(
        "an unsupported content encoding, once", "encoded", encoding="br", times=1, max_status_requests=3
    ),
    _status("200 MiB in gzip, once", "bomb", times=1, max_status_requests=3),
    _status("the document of another execution, once", "foreign_document", times=1, max_status_requests=3),
    _status("the document of another execution, always", "foreign_document", **OVERDUE),
    _status("a second response in the same bytes", "pipelined_document"),
    _status("a second response 50 ms later", "pipelined_document", pause_seconds=0.05),
    _status("a connection that is closed after each response", "closes_idle", after_seconds=0.1),
    _status("a connection that is reset after each response", "closes_idle", after_seconds=0.1, reset=True),
    _status("two seconds behind", "lag"),
    _status("two seconds behind the final event", "lag", stream=True, max_status_requests=8),
    _status("404 in the first second", "not_found_for"),
    _status(
        "Retry-After while the job runs",
        "slow_down",
        retry_after=3,
        simulate={"seconds": 3},
        max_status_requests=4,
    ),
    _status("progress of 1e-200", "tiny_progress", simulate={"seconds": 3}),
    _status("redirect 302", "redirect", to=ANOTHER_HOST, times=1, max_status_requests=3),
    _status("redirect 307", "redirect", to=ANOTHER_HOST, code=307, times=1, max_status_requests=3),
    _status("in chunks of 32 bytes", "drip", chunk_bytes=32, pause_seconds=0.02),
    _status("cut off by a reset", "cut_off", times=1, max_status_requests=3),
    _status("truncated JSON", "truncated", times=1, max_status_requests=3),
    _status("wrong types at first", "wrong_types", times=1),
    _status(
        "wrong types except for the status and the output",
        "wrong_types",
        fields=[
            "progress",
            "created_at",
            "started_at",
            "completed_at",
            "cleanup_after",
            "retry_count",
            "error_message",
        ],
    ),
    _status("wrong types, always", "wrong_types", **OVERDUE),
    _status("all fields null at first", "nulls", times=1),
    _status("all fields null, always", "nulls", **OVERDUE),
    _status("null as the output", "nulls", fields=["final_output"], output_error="missing"),
    _status("all fields missing at first", "missing", times=1),
    _status(
        "only the status and the output",
        "missing",
        fields=["progress", "completed_at", "cleanup_after"],
    ),
    _status("60 MiB at the end", "huge", mib=60, when="final", output_error="too_large"),
    _status("NaN in the output", "invalid_output", output_error="unreadable", shortest_s=12),
    _status(
        "a byte that is no UTF-8 in the output, with a stream",
        "invalid_output",
        how="bad_byte",
        stream=True,
        output_error="unreadable",
        shortest_s=12,
    ),
    _status("NaN in the output, once", "invalid_output", when="final", times=1),
    _status("the key in all texts", "echo_key"),
    _status("the key in base64 in all texts, with a stream", "echo_key", form="base64", stream=True),
    _status("20 MiB while the job runs", "huge", when="running", simulate={"seconds": 2}),
    _status("an unknown status", "unknown_status", times=1),
    # The simulated job ends after a second, and its document then has a `completed_at`.
    _status(
        "an unknown status, always",
        "unknown_status",
        outcome="FAILED",
        error_code="upstream_status",
        shortest_s=11,
    ),
    _status(
        "an unknown status of a job that never ends",
        "unknown_status",
        simulate={"outcome": "ENDLESS"},
        **OVERDUE,
    ),
    _status("COMPLETED in lower case", "unknown_status", status="completed", when="final"),
    _status("SUCCESS", "unknown_status", status="SUCCESS", when="final"),
    _status("progress that decreases", "progress_back", simulate={"seconds": 3}),
    _status("COMPLETED without output", "no_output", output_error="missing"),
    _status("COMPLETED without output, with a stream", "no_output", stream=True, output_error="missing"),
    _status("cleaned up two seconds after the first request", "cleanup_soon", simulate={"seconds": 0.7}),
    _status("cleaned up two seconds after the first request, with a stream", "cleanup_soon", stream=True),
)


def _cancel(name: str, kind: str, **fault: Any) -> Row:
    """The job never ends and is cancelled at its deadline. The fault acts on the first cancel request."""
    shortest_s = fault.pop("shortest_s", DEADLINE_S + 6)
    return Row(
        name,
        {"on": "cancel", "kind": kind, "times": 1, **fault},
        outcome="TIMED_OUT",
        error_code="deadline",
        request={"timeout_seconds": DEADLINE_S},
        simulate={"outcome": "ENDLESS"},
        other_faults=(NO_STREAM,),
        shortest_s=shortest_s,
    )


CANCEL = (
    _cancel("reset before it was processed", "reset"),
    _cancel("reset after it was processed", "reset", processed=True),
    _cancel("no response and not cancelled", "stall", shortest_s=DEADLINE_S + 18),
    _cancel("no response, but cancelled", "stall", processed=True, shortest_s=DEADLINE_S + 18),
    *(_cancel(f"{code}", "status_code", code=code) for code in (401, 404, 408, 409, 422, 500)),
    _cancel("429", "status_code", code=429, retry_after=1),
    _cancel("503", "status_code", code=503, retry_after_date=1),
    _cancel("502 of a gateway", "status_code", code=502, html=True),
    _cancel("504 of a gateway, but cancelled", "status_code", code=504, html=True, processed=True),
    _cancel("500 at every attempt", "status_code", code=500, times=3, shortest_s=DEADLINE_S + 21),
    _cancel("200 with an HTML page", "status_code", code=200, html=True),
    _cancel("redirect 302", "redirect", to=ANOTHER_HOST),
    _cancel("in chunks of 8 bytes", "drip", chunk_bytes=8, pause_seconds=0.02),
    _cancel("521 of a CDN", "status_code", code=521, html=True),
    _cancel("524 of a CDN, but cancelled", "status_code", code=524, html=True, processed=True),
    _cancel("103 before the response", "interim"),
    _cancel("gzip", "encoded", encoding="gzip"),
    _cancel("an unsupported content encoding", "encoded", encoding="br"),
    _cancel("200 MiB in gzip", "bomb"),
    _cancel("the document of another execution", "foreign_document"),
    _cancel("a second response in the same bytes", "pipelined_document"),
    _cancel("a connection that is closed after the response", "closes_idle", after_seconds=0.1),
    *(_cancel(f"an empty {code}", "empty_answer", code=code) for code in (200, 202, 204)),
    _cancel("cut off by a reset", "cut_off"),
    _cancel("truncated JSON", "truncated"),
    _cancel("wrong types", "wrong_types"),
    _cancel("all fields null", "nulls"),
    _cancel("all fields missing", "missing"),
    _cancel("20 MiB", "huge"),
)


def _stream(name: str, kind: str, max_status_requests: int, **fault: Any) -> Row:
    """The status decides. Where the stream is useless, the polls of the same invocation find the outcome."""
    row = {key: fault.pop(key) for key in ("request", "simulate", "shortest_s") if key in fault}
    return Row(name, {"on": "stream", "kind": kind, **fault}, max_status_requests=max_status_requests, **row)


# Most status requests that a stream may cause: it works, it never shows the end, or it shows a false one. A stream that
# works needs one. On a loaded machine a poll may come before its first event.
WORKS, USELESS, FALSE_EVENT = 2, 4, 9

STREAM = (
    *(
        _stream(f"lines that end in {newline}", "format", WORKS, newline=newline)
        for newline in ("lf", "crlf", "cr")
    ),
    _stream("a byte at a time", "format", WORKS, newline="crlf", chunk_bytes=1),
    _stream(
        "a BOM, comments, all fields, data in several lines",
        "format",
        WORKS,
        bom=True,
        comments=True,
        event_fields=True,
        multiline=True,
    ),
    _stream("invalid events in between", "junk", WORKS),
    _stream("in chunks of 16 bytes", "drip", WORKS, chunk_bytes=16, pause_seconds=0.005),
    _stream("reset", "reset", USELESS),
    _stream("no response", "stall", USELESS),
    _stream("no response for a second", "stall", WORKS, seconds=1),
    *(_stream(f"{code}", "status_code", USELESS, code=code) for code in (401, 404, 429, 500, 204)),
    _stream("404 after the end", "status_code", USELESS, code=404, when="final", simulate={"seconds": 0}),
    _stream("502 of a gateway", "status_code", USELESS, code=502, html=True),
    _stream("200 with an HTML page", "status_code", USELESS, code=200, html=True),
    _stream("redirect 302", "redirect", USELESS, to=ANOTHER_HOST),
    _stream("over immediately", "ends", USELESS),
    _stream("over after an event", "ends", USELESS, after_events=1),
    _stream("reset after an event", "ends", USELESS, after_events=1, reset=True),
    _stream("over after half a second", "ends", USELESS, after_seconds=0.5),
    _stream("silent from the beginning", "falls_silent", USELESS),
    _stream("silent after two events", "falls_silent", USELESS, after_events=2),
    _stream("2000 events a second", "flood", USELESS),
    _stream("a line without an end", "flood", USELESS, endless_line=True),
    _stream("a false final event", "false_end", FALSE_EVENT, simulate={"seconds": 3}),
    _stream(
        "a false final event, then closed", "false_end", FALSE_EVENT, closes=True, simulate={"seconds": 3}
    ),
    _stream("a false failure event", "false_end", FALSE_EVENT, status="FAILED", simulate={"seconds": 3}),
    _stream("no final event, and it stays open", "no_end", USELESS),
    _stream("no final event, and it closes", "no_end", WORKS, closes=True),
    _stream("103 before the response", "interim", WORKS),
    _stream("gzip", "encoded", WORKS, encoding="gzip"),
    _stream("deflate", "encoded", WORKS, encoding="deflate"),
    _stream("an unsupported content encoding", "encoded", USELESS, encoding="br"),
    _stream("200 MiB in gzip", "bomb", USELESS),
    _stream("comments only", "heartbeats", USELESS, every_seconds=0.5),
    _stream("ping events only", "heartbeats", USELESS, every_seconds=0.5, as_events=True),
    _stream("comments only, and it closes", "heartbeats", WORKS, every_seconds=0.5, closes=True),
    _stream("events every second, but not the final one", "events_go_on", USELESS, shortest_s=30),
    _stream("buffered until the end", "buffered", WORKS),
    _stream("buffered until the end, with the response headers", "buffered", WORKS, head=False),
    _stream("buffered forever", "buffered", USELESS, released=False),
    _stream("buffered forever, with the response headers", "buffered", USELESS, head=False, released=False),
    _stream("replayed from the beginning", "replays", WORKS),
    _stream("a comment of a mebibyte", "long_comment", WORKS),
    _stream("404 in the first second", "not_found_for", USELESS, simulate={"seconds": 3}),
    _stream("progress of 1e-200", "tiny_progress", WORKS),
    _stream("a connection that is closed after the response", "closes_idle", WORKS, after_seconds=0.1),
)
