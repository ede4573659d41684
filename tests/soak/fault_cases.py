"""The faults of the soak test, each with the outcomes, requests and jobs that it may lead to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Possible outcomes. Only a start whose response was lost may end UNCERTAIN.
COMPLETED, UNCERTAIN, REJECTED = frozenset({"COMPLETED"}), frozenset({"UNCERTAIN"}), frozenset({"REJECTED"})
TIMED_OUT, FAILED = frozenset({"TIMED_OUT"}), frozenset({"FAILED"})


@dataclass(frozen=True, slots=True)
class FaultCase:
    """Faults for one execution, its possible outcomes, and the number of POSTs and jobs that it leads to."""

    name: str
    faults: tuple[Mapping[str, Any], ...] = ()
    outcomes: frozenset[str] = COMPLETED
    posts: int = 1
    jobs: int = 1
    endless: bool = False
    has_output: bool = True
    """Whether the chatbot's own output is published if the job completes."""


def _fault(operation: str, kind: str, **fault: Any) -> Mapping[str, Any]:
    return {"on": operation, "kind": kind, **fault}


def _status_code(operation: str, code: int, **fault: Any) -> Mapping[str, Any]:
    return _fault(operation, "status_code", code=code, **fault)


FAULT_CASES = (
    FaultCase("none"),
    FaultCase("start reset before", (_fault("start", "reset"),), UNCERTAIN, jobs=0),
    FaultCase("start reset after", (_fault("start", "reset", processed=True),), UNCERTAIN),
    FaultCase("start 504, with a job", (_status_code("start", 504, html=True, processed=True),), UNCERTAIN),
    FaultCase("start truncated", (_fault("start", "truncated"),), UNCERTAIN),
    FaultCase("start 422", (_status_code("start", 422),), REJECTED, jobs=0),
    FaultCase("start 429", (_status_code("start", 429, retry_after=1, times=1),), posts=2),
    FaultCase("start 503 twice", (_status_code("start", 503, html=True, times=2),), posts=3),
    FaultCase("status 500", (_status_code("status", 500, times=2),)),
    FaultCase("status 429", (_status_code("status", 429, retry_after=2, times=1),)),
    FaultCase("status 404 at first", (_status_code("status", 404, times=2),)),
    FaultCase("status reset", (_fault("status", "reset", times=2),)),
    FaultCase(
        "status invalid",
        (_fault("status", "truncated", times=1), _fault("status", "wrong_types", times=1, after=1)),
    ),
    FaultCase("status goes back", (_fault("status", "progress_back"),)),
    FaultCase("stream 404", (_status_code("stream", 404),)),
    FaultCase("stream reset", (_fault("stream", "reset"),)),
    FaultCase("stream with a false end", (_fault("stream", "false_end", closes=True),)),
    FaultCase("stream junk", (_fault("stream", "junk"),)),
    FaultCase("stream ends early", (_fault("stream", "ends", after_events=1),)),
    # HTTP responses that the client must decode, skip or discard.
    FaultCase("start after interim responses", (_fault("start", "interim", codes=[102, 103, 103]),)),
    FaultCase("start in gzip", (_fault("start", "encoded"),)),
    FaultCase("start in Brotli", (_fault("start", "encoded", encoding="br"),), UNCERTAIN),
    FaultCase("start is a bomb", (_fault("start", "bomb", mib=20),), UNCERTAIN),
    FaultCase("start 521", (_status_code("start", 521, html=True, times=1),), posts=2),
    FaultCase("start 520, with a job", (_status_code("start", 520, html=True, processed=True),), UNCERTAIN),
    FaultCase("start closes the connection", (_fault("start", "closes_idle", after_seconds=0.2),)),
    FaultCase("status after an interim answer", (_fault("status", "interim"),)),
    FaultCase("status in gzip", (_fault("status", "encoded"),)),
    FaultCase("status in deflate", (_fault("status", "encoded", encoding="deflate"),)),
    FaultCase("status in Brotli at first", (_fault("status", "encoded", encoding="br", times=2),)),
    FaultCase("status is a bomb once", (_fault("status", "bomb", mib=20, times=1),)),
    FaultCase("status closes the connection", (_fault("status", "closes_idle", after_seconds=0.2),)),
    FaultCase(
        "status resets the connection", (_fault("status", "closes_idle", after_seconds=0.2, reset=True),)
    ),
    FaultCase("status of another execution", (_fault("status", "foreign_document", times=2),)),
    FaultCase("status, then the status of another execution", (_fault("status", "pipelined_document"),)),
    FaultCase(
        "status, later the status of another execution",
        (_fault("status", "pipelined_document", pause_seconds=0.05),),
    ),
    FaultCase("status 522", (_status_code("status", 522, html=True, times=2),)),
    # Documents that are not valid, spell the status differently, or contain the API key.
    FaultCase("status with NaN in the output", (_fault("status", "invalid_output"),), has_output=False),
    FaultCase(
        "status with a byte that is no UTF-8",
        (_fault("status", "invalid_output", how="bad_byte"),),
        has_output=False,
    ),
    FaultCase(
        "status with NaN in the output once", (_fault("status", "invalid_output", when="final", times=1),)
    ),
    FaultCase(
        "status in lower case", (_fault("status", "unknown_status", status="completed", when="final"),)
    ),
    FaultCase("status not known", (_fault("status", "unknown_status"),), FAILED),
    *(
        FaultCase(
            f"status with the key, {form}", (_fault("status", "echo_key", form=form),), has_output=False
        )
        for form in ("plain", "url", "base64", "escaped")
    ),
    # Correct responses that are late, slow or unusual.
    FaultCase("status lags", (_fault("status", "lag", seconds=2),)),
    FaultCase("status with Retry-After", (_fault("status", "slow_down", retry_after=2, times=2),)),
    FaultCase("status not found for a second", (_fault("status", "not_found_for", seconds=1),)),
    FaultCase("tiny progress", (_fault("status", "tiny_progress"), _fault("stream", "tiny_progress"))),
    # Streams that are open but do not work.
    FaultCase("stream of comments only", (_fault("stream", "heartbeats", every_seconds=0.5),)),
    FaultCase("stream of pings, closing", (_fault("stream", "heartbeats", as_events=True, closes=True),)),
    FaultCase("stream without an end", (_fault("stream", "no_end"),)),
    FaultCase("stream goes on", (_fault("stream", "events_go_on"),)),
    FaultCase("stream buffered", (_fault("stream", "buffered"),)),
    FaultCase("stream buffered forever", (_fault("stream", "buffered", head=False, released=False),)),
    FaultCase(
        "stream replays",
        (_fault("stream", "ends", after_events=2, reset=True, times=1), _fault("stream", "replays")),
    ),
    FaultCase("stream not found for a second", (_fault("stream", "not_found_for", seconds=1),)),
    FaultCase("stream with a long comment", (_fault("stream", "long_comment"),)),
    FaultCase("stream in gzip", (_fault("stream", "encoded"),)),
    FaultCase("stream is a bomb", (_fault("stream", "bomb", mib=20),)),
    FaultCase("stream after interim responses", (_fault("stream", "interim", codes=[102, 103]),)),
    FaultCase("never ends", (), TIMED_OUT, endless=True),
    FaultCase("never ends, cancel 500", (_status_code("cancel", 500, times=1),), TIMED_OUT, endless=True),
    FaultCase("never ends, cancel 204", (_fault("cancel", "empty_answer"),), TIMED_OUT, endless=True),
    FaultCase(
        "never ends, cancel empty", (_fault("cancel", "empty_answer", code=202),), TIMED_OUT, endless=True
    ),
    FaultCase(
        "never ends, cancel's answer lost",
        (_fault("cancel", "reset", processed=True, times=1),),
        TIMED_OUT,
        endless=True,
    ),
    FaultCase(
        "never ends, cancel of another",
        (_fault("cancel", "foreign_document", times=1),),
        TIMED_OUT,
        endless=True,
    ),
)
