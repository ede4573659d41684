"""Every fault that a running job's status requests, cancel and stream can meet, and what must become of it."""

from collections.abc import Mapping
from typing import Any

from tests.e2e.fault_table import ANOTHER_HOST, NOT_RECEIVED, PERHAPS_RECEIVED, Row

SOON_S = 10
"""A deadline that is soon, and yet later than a busy machine takes for the start."""
NO_STREAM = {"on": "stream", "kind": "status_code", "code": 404}
"""Added to a row, this leaves the outcome to the polls."""


def _status(name: str, kind: str, *, polls: bool = True, **fault: Any) -> Row:
    """A failed status request is not a failed job: most rows let the first one fail."""
    names = ("outcome", "code_", "statuses", "output_error", "request", "simulate", "least_s")
    row = {key: fault.pop(key) for key in names if key in fault}
    more = (NO_STREAM,) if polls else ()
    code = row.pop("code_", None)
    return Row(name, {"on": "status", "kind": kind, **fault}, code=code, more=more, **row)


def _answers(code: int, name: str = "", **fault: Any) -> Row:
    return _status(name or f"{code}", "status_code", **{"code": code, "times": 1, "statuses": 3, **fault})


OVERDUE: Mapping[str, Any] = {
    "outcome": "TIMED_OUT",
    "code_": "deadline",
    "request": {"timeout_seconds": SOON_S},
    "least_s": SOON_S + 11,
}

STATUS = (
    _status("reset", "reset", times=1, statuses=3),
    _status("reset at the end of the stream", "reset", times=1, polls=False, statuses=3),
    _status("no answer", "stall", times=1, least_s=14, statuses=4),
    _status("an answer after two seconds", "stall", seconds=2, times=1, statuses=3),
    _answers(401),
    _answers(404),
    _answers(404, "404 at the end of the stream", times=1, polls=False, statuses=3),
    _status(
        "404 for more than a minute",
        "status_code",
        code=404,
        outcome="LOST",
        code_="not_found",
        statuses=20,
        least_s=62,
    ),
    _answers(408),
    _answers(409),
    _answers(422),
    _answers(429, "429 twice", times=2, statuses=4),
    _answers(429, "429 for so many seconds", retry_after=1),
    _answers(429, "429 until a date", retry_after_date=1),
    _answers(429, "429 until a date long past", retry_after_date=-9000),
    _answers(500),
    _answers(500, "500 at the end of the stream", times=1, polls=False, statuses=3),
    _answers(502, html=True),
    _answers(503, html=True, retry_after=1),
    _answers(504, html=True),
    _answers(200, "200 with a page", html=True),
    _answers(200, "200 with a list", body="[]"),
    _answers(204),
    *(_answers(code, f"{code} of a CDN", html=True) for code in (*NOT_RECEIVED, *PERHAPS_RECEIVED)),
    _status("103 before each answer", "interim"),
    _status("102 and 103 before each answer", "interim", codes=[102, 103]),
    _status("gzip", "encoded", encoding="gzip"),
    _status("deflate", "encoded", encoding="deflate"),
    _status("an encoding we cannot read, once", "encoded", encoding="br", times=1, statuses=3),
    _status("200 MiB in gzip, once", "bomb", times=1, statuses=3),
    _status("the document of another execution, once", "foreign_document", times=1, statuses=3),
    _status("the document of another execution for ever", "foreign_document", **OVERDUE),
    _status("a second answer in the same bytes", "pipelined_document"),
    _status("a second answer a moment later", "pipelined_document", pause_seconds=0.05),
    _status("a connection that is closed after each answer", "closes_idle", after_seconds=0.1),
    _status("a connection that is reset after each answer", "closes_idle", after_seconds=0.1, reset=True),
    _status("two seconds behind", "lag"),
    _status("two seconds behind the final event", "lag", polls=False, statuses=8),
    _status("404 in the first second", "not_found_for"),
    _status("Retry-After while it runs", "slow_down", retry_after=3, simulate={"seconds": 3}, statuses=4),
    _status("progress of 1e-200", "tiny_progress", simulate={"seconds": 3}),
    _status("redirected", "redirect", to=ANOTHER_HOST, times=1, statuses=3),
    _status("redirected in place", "redirect", to=ANOTHER_HOST, code=307, times=1, statuses=3),
    _status("in drops", "drip", chunk_bytes=32, pause_seconds=0.02),
    _status("cut off", "cut_off", times=1, statuses=3),
    _status("truncated", "truncated", times=1, statuses=3),
    _status("wrong types at first", "wrong_types", times=1),
    _status(
        "wrong types but for the outcome",
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
    _status("wrong types for ever", "wrong_types", **OVERDUE),
    _status("nulls at first", "nulls", times=1),
    _status("nulls for ever", "nulls", **OVERDUE),
    _status("null as output", "nulls", fields=["final_output"], output_error="missing"),
    _status("nothing in it at first", "missing", times=1),
    _status(
        "nothing in it but the status and the output",
        "missing",
        fields=["progress", "completed_at", "cleanup_after"],
    ),
    _status("60 MiB at the end", "huge", mib=60, when="final", output_error="too_large"),
    _status("NaN in the output", "invalid_output", output_error="unreadable", least_s=12),
    _status(
        "a byte that is no UTF-8 in the output, after a stream",
        "invalid_output",
        how="bad_byte",
        polls=False,
        output_error="unreadable",
        least_s=12,
    ),
    _status("NaN in the output, once", "invalid_output", when="final", times=1),
    _status("the key in all texts", "echo_key"),
    _status("the key in base64 in all texts, after a stream", "echo_key", form="base64", polls=False),
    _status("20 MiB while it runs", "huge", when="running", simulate={"seconds": 2}),
    _status("an unknown status", "unknown_status", times=1),
    # The simulated job has ended after a second, and its `completed_at` is there.
    _status(
        "an unknown status for ever",
        "unknown_status",
        outcome="FAILED",
        code_="upstream_status",
        least_s=11,
    ),
    _status(
        "an unknown status while it runs for ever",
        "unknown_status",
        simulate={"outcome": "ENDLESS"},
        **OVERDUE,
    ),
    _status("COMPLETED in lower case", "unknown_status", status="completed", when="final"),
    _status("SUCCESS", "unknown_status", status="SUCCESS", when="final"),
    _status("progress that goes back", "progress_back", simulate={"seconds": 3}),
    _status("COMPLETED without output", "no_output", output_error="missing"),
    _status("COMPLETED without output, heard", "no_output", polls=False, output_error="missing"),
    _status("cleaned up in two seconds", "cleanup_soon", simulate={"seconds": 0.7}),
    _status("cleaned up two seconds after its end", "cleanup_soon", polls=False),
)


def _cancel(name: str, kind: str, **fault: Any) -> Row:
    """A job that never ends, soon overdue: cancelled at the first, second or no attempt."""
    least_s = fault.pop("least_s", SOON_S + 6)
    return Row(
        name,
        {"on": "cancel", "kind": kind, "times": 1, **fault},
        outcome="TIMED_OUT",
        code="deadline",
        request={"timeout_seconds": SOON_S},
        simulate={"outcome": "ENDLESS"},
        more=(NO_STREAM,),
        least_s=least_s,
    )


CANCEL = (
    _cancel("reset before it was processed", "reset"),
    _cancel("reset after it was processed", "reset", processed=True),
    _cancel("no answer, and not cancelled", "stall", least_s=SOON_S + 18),
    _cancel("no answer, but cancelled", "stall", processed=True, least_s=SOON_S + 18),
    *(_cancel(f"{code}", "status_code", code=code) for code in (401, 404, 408, 409, 422, 500)),
    _cancel("429", "status_code", code=429, retry_after=1),
    _cancel("503", "status_code", code=503, retry_after_date=1),
    _cancel("502 of a gateway", "status_code", code=502, html=True),
    _cancel("504 of a gateway, but cancelled", "status_code", code=504, html=True, processed=True),
    _cancel("500 at every attempt", "status_code", code=500, times=3, least_s=SOON_S + 21),
    _cancel("200 with a page", "status_code", code=200, html=True),
    _cancel("redirected", "redirect", to=ANOTHER_HOST),
    _cancel("in drops", "drip", chunk_bytes=8, pause_seconds=0.02, least_s=1),
    _cancel("521 of a CDN", "status_code", code=521, html=True),
    _cancel("524 of a CDN, but cancelled", "status_code", code=524, html=True, processed=True),
    _cancel("103 before the answer", "interim"),
    _cancel("gzip", "encoded", encoding="gzip"),
    _cancel("an encoding we cannot read", "encoded", encoding="br"),
    _cancel("200 MiB in gzip", "bomb"),
    _cancel("the document of another execution", "foreign_document"),
    _cancel("a second answer in the same bytes", "pipelined_document"),
    _cancel("a connection that is closed afterwards", "closes_idle", after_seconds=0.1),
    *(_cancel(f"an empty {code}", "empty_answer", code=code) for code in (200, 202, 204)),
    _cancel("cut off", "cut_off"),
    _cancel("truncated", "truncated"),
    _cancel("wrong types", "wrong_types"),
    _cancel("nulls", "nulls"),
    _cancel("nothing in it", "missing"),
    _cancel("20 MiB", "huge"),
)


def _stream(name: str, kind: str, statuses: int, **fault: Any) -> Row:
    """The status decides, and the polls beside a useless stream find out soon."""
    row = {key: fault.pop(key) for key in ("request", "simulate", "least_s") if key in fault}
    return Row(name, {"on": "stream", "kind": kind, **fault}, statuses=statuses, **row)


HEARD, USELESS, LIED = 1, 4, 9

STREAM = (
    *(
        _stream(f"lines that end in {newline}", "format", HEARD, newline=newline)
        for newline in ("lf", "crlf", "cr")
    ),
    _stream("a byte at a time", "format", HEARD, newline="crlf", chunk_bytes=1),
    _stream(
        "a BOM, comments, fields, many lines",
        "format",
        HEARD,
        bom=True,
        comments=True,
        event_fields=True,
        multiline=True,
    ),
    _stream("junk in between", "junk", HEARD),
    _stream("in drops", "drip", HEARD, chunk_bytes=16, pause_seconds=0.005),
    _stream("reset", "reset", USELESS),
    _stream("no head", "stall", USELESS),
    _stream("no head for a second", "stall", HEARD, seconds=1),
    *(_stream(f"{code}", "status_code", USELESS, code=code) for code in (401, 404, 429, 500, 204)),
    _stream("404 after the end", "status_code", USELESS, code=404, when="final", simulate={"seconds": 0}),
    _stream("502 of a gateway", "status_code", USELESS, code=502, html=True),
    _stream("200 with a page", "status_code", USELESS, code=200, html=True),
    _stream("redirected", "redirect", USELESS, to=ANOTHER_HOST),
    _stream("over at once", "ends", USELESS),
    _stream("over after an event", "ends", USELESS, after_events=1),
    _stream("broken off after an event", "ends", USELESS, after_events=1, reset=True),
    _stream("over in the middle", "ends", USELESS, after_seconds=0.5),
    _stream("silent from the beginning", "falls_silent", USELESS),
    _stream("silent after two events", "falls_silent", USELESS, after_events=2),
    _stream("a flood", "flood", USELESS),
    _stream("a line without an end", "flood", USELESS, endless_line=True),
    _stream("an end that is none", "false_end", LIED, simulate={"seconds": 3}),
    _stream("an end that is none, and no more", "false_end", LIED, closes=True, simulate={"seconds": 3}),
    _stream("a failure that is none", "false_end", LIED, status="FAILED", simulate={"seconds": 3}),
    _stream("no end, and it stays open", "no_end", USELESS),
    _stream("no end, and it closes", "no_end", HEARD, closes=True),
    _stream("103 before the head", "interim", HEARD),
    _stream("gzip", "encoded", HEARD, encoding="gzip"),
    _stream("deflate", "encoded", HEARD, encoding="deflate"),
    _stream("an encoding we cannot read", "encoded", USELESS, encoding="br"),
    _stream("200 MiB in gzip", "bomb", USELESS),
    _stream("comments only", "heartbeats", USELESS, every_seconds=0.5),
    _stream("ping events only", "heartbeats", USELESS, every_seconds=0.5, as_events=True),
    _stream("comments only, and it closes", "heartbeats", HEARD, every_seconds=0.5, closes=True),
    _stream("events every second, but not the final one", "events_go_on", USELESS, least_s=30),
    _stream("held back until the end", "buffered", HEARD),
    _stream("held back until the end, the head too", "buffered", HEARD, head=False),
    _stream("held back for ever", "buffered", USELESS, released=False),
    _stream("held back for ever, the head too", "buffered", USELESS, head=False, released=False),
    _stream("replays from the beginning", "replays", HEARD),
    _stream("a comment of a mebibyte", "long_comment", HEARD),
    _stream("404 in the first second", "not_found_for", USELESS, simulate={"seconds": 3}),
    _stream("progress of 1e-200", "tiny_progress", HEARD),
    _stream("a connection that is closed afterwards", "closes_idle", HEARD, after_seconds=0.1),
)
