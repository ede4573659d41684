"""Statuses, and the state of the loop that one step passes to the next."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

STATE_VERSION = 1
# Longest identifier that is accepted. Every id seen upstream is a UUID.
MAX_ID_CHARS = 200
# Longest message that is stored and published, far below the limits of SNS and DynamoDB.
MAX_MESSAGE_CHARS = 2_000
# Longest reason of a failed status request that the state of the loop carries.
MAX_FAILURE_CHARS = 200
# Largest output that is part of a record and a notification. A DynamoDB write unit is 1 KB, so past this size S3 is
# cheaper; far below it the limits of all services on the way are kept.
INLINE_BYTES = 32 * 1024

# Longest word of the upstream that a message of ours quotes.
MAX_WORD_CHARS = 60

# The years 1 to 9999: what lies outside can be read, with a zone, but not be written again.
_FIRST_MOMENT, _END_OF_TIME = -62_135_596_800.0, 253_402_300_800.0

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
# A leap second, as RFC 3339 writes it. POSIX time has none: it is the first second of the next minute.
_LEAP_SECOND = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:)60(.*)")
# Epoch numbers are read within these years, 2000 to 2100. As milliseconds the same range lies above all of it.
_EPOCH_S = (946_684_800, 4_102_444_800)


class Status(StrEnum):
    """Status of an execution: three that are not final, and eight outcomes."""

    ACCEPTED = "ACCEPTED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"
    REJECTED = "REJECTED"
    UNCERTAIN = "UNCERTAIN"
    ERROR = "ERROR"

    @property
    def is_final(self) -> bool:
        """Whether this status is an outcome."""
        return self not in {Status.ACCEPTED, Status.STARTING, Status.RUNNING}

    @property
    def error_name(self) -> str:
        """The name under which the state machine fails: `Waterhook.TimedOut`."""
        return "Waterhook." + "".join(word.capitalize() for word in self.split("_"))


# Final statuses of the upstream in upper case, common spellings included.
UPSTREAM_FINAL = {
    "COMPLETED": Status.COMPLETED,
    "SUCCESS": Status.COMPLETED,
    "SUCCEEDED": Status.COMPLETED,
    "DONE": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "ERROR": Status.FAILED,
    "FAILURE": Status.FAILED,
    "CANCELLED": Status.CANCELLED,
    "CANCELED": Status.CANCELLED,
}
# Statuses of a job that is not over. Any other word may be either: see policy.has_ended.
UPSTREAM_RUNNING = frozenset({"PENDING", "QUEUED", "STARTED", "RUNNING", "PROCESSING", "IN_PROGRESS"})


class Next(StrEnum):
    """The step that the state machine takes next."""

    START = "start"
    FOLLOW = "follow"
    WAIT = "wait"
    POLL = "poll"
    CANCEL = "cancel"
    NOTIFY = "notify"
    DONE = "done"


def clip(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return `text` on one line, without control characters or lone surrogates, at most `limit` characters."""
    plain = _UNPRINTABLE.sub(" ", text[: limit * 2]).strip()
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def iso(epoch_s: float | None) -> str | None:
    """Return RFC 3339 in UTC with milliseconds, or None."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(time: object) -> float | None:
    """Return seconds since 1970 of a time, or None where it is none.

    Read are RFC 3339, in small letters and with a leap second too (without a zone it is UTC), and epoch numbers
    in seconds or milliseconds, of the years 2000 to 2100.
    """
    if isinstance(time, int | float) and not isinstance(time, bool):
        first, last = _EPOCH_S
        return next((time / unit for unit in (1, 1000) if first * unit <= time < last * unit), None)
    if not isinstance(time, str):
        return None
    text, leap_s = time.upper(), 0
    if leap := _LEAP_SECOND.fullmatch(text):
        text, leap_s = f"{leap[1]}59{leap[2]}", 1
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() + leap_s
    except (ValueError, OverflowError):
        return None
    return seconds if _FIRST_MOMENT <= seconds < _END_OF_TIME else None


@dataclass(frozen=True, slots=True)
class History:
    """What the loop has observed of one execution: the input of the policy. Times are epoch seconds."""

    started_at: float
    status_requests: int = 0
    """Status requests so far, by whichever step."""
    polls: int = 0
    """Cycles of Wait, Poll and Choice."""
    follows: int = 0
    """Invocations of the follow function."""
    refusals: int = 0
    """Follows that found no concurrency."""
    earlier_events: int = 0
    """History events of the state machine execution before the job was started, estimated."""
    polled_at: float | None = None
    """When the last status request was answered, or failed."""
    errors: int = 0
    """Failed status requests in a row."""
    retry_after_s: float | None = None
    """`Retry-After` of the last answer."""
    failure: str | None = None
    """Why the last status request failed; None if it succeeded."""
    unusable: int = 0
    """Answers in a row that were a success and could not be used."""
    unusable_since: float | None = None
    not_found: int = 0
    not_found_since: float | None = None
    progress: float | None = None
    progress_at: float | None = None
    progress_readings: int = 0
    """Readings in which the progress rose, in a row."""
    first_progress: float | None = None
    first_progress_at: float | None = None
    retry_count: int | None = None
    """The upstream's count of its own retries; after one more the progress may begin anew."""
    cleanup_after: float | None = None
    unknown_status: str | None = None
    """The last status of the upstream, where it is none that is known."""
    ended_polls: int = 0
    """Polls in a row that returned this unknown status together with `completed_at`."""
    ended_since: float | None = None
    """When the first of them was answered."""
    record_checked_at: float | None = None
    """When a follow last read whether the record is final."""
    large_document: bool = False
    """The status document was too large for the follow function: only the poll function can read it."""
    cancels: int = 0
    """Attempts to cancel the job that did not end it."""
    cancel_refusals: int = 0
    """Of these: refused, or taken and not carried out."""
    cancel_since: float | None = None
    """When the first of them failed."""
    faults: int = 0
    """Steps in a row in which an AWS service that Waterhook uses failed; the upstream's errors are not among them."""
    fault_since: float | None = None
    """When the first of them failed."""
    fault: str | None = None
    """Class of the last one: KeyUnavailable or another DependencyUnavailable."""
    fault_reason: str | None = None
    follow_refused_at: float | None = None
    follow_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """What the follow function has observed of the streams of one execution. Times are epoch seconds."""

    delivered: bool = False
    """A stream has delivered an event of a known type."""
    event_at: float | None = None
    """When the last of them came that was not final."""
    final_event_at: float | None = None
    """When a stream first declared the end of the job."""
    failures: int = 0
    """Streams in a row that were refused or ended early."""
    reopens_at: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """State of the loop: small, versioned, and all that one step passes to the next."""

    execution_id: str
    deadline: float
    history: History
    waterflai_execution_id: str | None = None
    unsaved: bool = False
    """The upstream id is known here but not in the record yet; a later step saves it."""
    progress_events: bool = False
    cancel_requested: bool = False
    chatbot_id: str | None = None
    """For the logs, so that no step has to read the record for it."""
    follow_refused: bool = False
    """Set by the state machine when the follow function had no concurrency left; the next poll counts it."""
    fault: str | None = None
    """Set by the state machine when a step failed permanently: the name of the error."""
    outcome: Status = Status.RUNNING
    next: Next = Next.POLL
    wait_seconds: int = 0
    error: Mapping[str, Any] | None = None
    """`code` and `message` of the outcome. While there is no outcome: why the loop gives the job up and cancels it."""
    result: Mapping[str, Any] = field(default_factory=dict)
    stream: StreamHistory = StreamHistory()
    v: int = STATE_VERSION

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read the state a step was handed; fields of a newer version are passed over."""
        known = {name: state[name] for name in cls.__dataclass_fields__ if name in state}
        return cls(
            **known
            | {
                "history": _read(History, known["history"]),
                "stream": _read(StreamHistory, known.get("stream", {})),
                "outcome": Status(known.get("outcome", Status.RUNNING)),
                "next": Next(known.get("next", Next.POLL)),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: always `v`, `outcome`, `next` and `wait_seconds`, others if not the default."""
        always = {"v": self.v, "outcome": self.outcome, "next": self.next, "wait_seconds": self.wait_seconds}
        state = _telling(self) | {"history": _telling(self.history)} | always
        return state | {"stream": _telling(self.stream)} if "stream" in state else state

    def ended(self, outcome: Status, *, code: str | None = None, message: str = "", **result: Any) -> Self:
        """Return the job with its outcome, on its way to notify."""
        error = {"code": code, "message": clip(message)} if code else None
        return replace(
            self,
            outcome=outcome,
            next=Next.NOTIFY,
            wait_seconds=0,
            fault=None,
            error=error,
            result={name: value for name, value in result.items() if value is not None},
        )


def _read[T: (History, StreamHistory)](kind: type[T], state: Mapping[str, Any]) -> T:
    return kind(**{name: value for name, value in state.items() if name in kind.__dataclass_fields__})


def _telling(record: History | StreamHistory | Job) -> dict[str, Any]:
    """Return the fields that differ from their default, so that the state stays small."""
    values = ((name, getattr(record, name), default) for name, default in _DEFAULTS[type(record)])
    return {name: value for name, value, default in values if value not in (default, {})}


_DEFAULTS = {
    kind: [(entry.name, entry.default) for entry in fields(kind)] for kind in (History, StreamHistory, Job)
}
