"""Faults: read from JSON, and chosen by which call of an operation it is. Nothing here acts."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from local.waterflai import kinds
from local.waterflai.fields import (
    Reader,
    as_address,
    as_boolean,
    as_header,
    as_list,
    as_names,
    as_text,
    integer,
    list_of,
    number,
    one_of,
    one_of_numbers,
    read_fields,
)
from local.waterflai.wire import InvalidValue, as_object

_MOST_FAULTS = 50
_MOST_CALLS = 1_000_000
_DAY_S = 86_400.0


class Operation(StrEnum):
    """The four calls of the API, by which routes are named, requests counted and faults placed."""

    START = "start"
    STATUS = "status"
    CANCEL = "cancel"
    STREAM = "stream"


class When(StrEnum):
    """What the job has to be like for a fault to act."""

    RUNNING = "running"  # or still in the queue
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How often an operation was asked of one execution until now, the present call included."""

    running: int = 0
    final: int = 0
    is_final: bool = False

    def number(self, when: When | None) -> int:
        """Return the number of the present call among those at such times, counted from 1; 0: not such a time."""
        if when is None:
            return self.running + self.final
        if (when is When.FINAL) != self.is_final:
            return 0
        return self.final if self.is_final else self.running


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with calls of one operation: with `times` of them (all, if None) from the one `after` on."""

    on: Operation
    name: str
    kind: kinds.Kind
    times: int | None = None
    after: int = 0
    when: When | None = None

    def turn(self, operation: Operation, calls: Calls) -> int:
        """Return how often it has acted with the present call; 0 if it doesn't act on that."""
        turn = calls.number(self.when) - self.after
        acts = operation is self.on and turn >= 1 and (self.times is None or turn <= self.times)
        return turn if acts else 0


@dataclass(frozen=True, slots=True)
class Met:
    """A fault that acts on the present call, for the `turn`th time."""

    fault: Fault
    turn: int

    @property
    def kind(self) -> kinds.Kind:
        """What goes wrong."""
        return self.fault.kind


def choose(faults: Iterable[Fault], operation: Operation, calls: Calls) -> Met | None:
    """Return the first of the faults that acts on the present call."""
    return next((Met(fault, turn) for fault in faults if (turn := fault.turn(operation, calls))), None)


def read_faults(where: str, value: Any) -> tuple[Fault, ...]:
    """Return the faults that a JSON list describes. Raises `InvalidValue`."""
    listed = as_list(where, value, _MOST_FAULTS)
    return tuple(_read_fault(f"{where}[{index}]", each) for index, each in enumerate(listed))


def _read_fault(where: str, value: Any) -> Fault:
    described = as_object(where, value)
    operation = one_of(Operation)(f"{where}.on", described.get("on"))
    name = described.get("kind")
    known = KINDS[operation]
    if not isinstance(name, str) or name not in known:
        raise InvalidValue(f"{where}.kind: expected one of {', '.join(known)}")
    own = {field.name: field for field in fields(known[name])}
    readers = {field: _OF_ONE_KIND.get((name, field)) or _OWN[field] for field in own}
    meant = read_fields(where, described, {**_COMMON, **readers})
    for field in own.values():
        if field.name not in meant and field.default is MISSING:
            raise InvalidValue(f"{where}.{field.name}: is missing")
    if operation is Operation.START and "when" in meant:
        raise InvalidValue(f"{where}.when: there is no job yet")
    common = {field: meant.pop(field) for field in ("times", "after", "when") if field in meant}
    kind = known[name](**{field: meant[field] for field in own if field in meant})
    return Fault(on=operation, name=name, kind=kind, **common)


def _retry_after(where: str, value: Any) -> str:
    # A number is what it should be; a text is for what it should not.
    return as_header(where, value) if isinstance(value, str) else f"{number(0, _DAY_S)(where, value):g}"


def _interim_code(where: str, value: Any) -> int:
    code: int = integer(100, 199)(where, value)
    if code == HTTPStatus.SWITCHING_PROTOCOLS:
        raise InvalidValue(f"{where}: 101 ends HTTP on the connection, it is no interim answer")
    return code


_COMMON: Mapping[str, Reader] = {
    "on": one_of(Operation),
    "kind": as_text,
    "times": integer(1, _MOST_CALLS),
    "after": integer(0, _MOST_CALLS),
    "when": one_of(When),
}

_OWN: Mapping[str, Reader] = {
    "after_events": integer(0, _MOST_CALLS),
    "after_seconds": number(0, _DAY_S),
    "as_events": as_boolean,
    "body": as_text,
    "bom": as_boolean,
    "chunk_bytes": integer(1, 1024 * 1024),
    "closes": as_boolean,
    "code": integer(200, 599),
    "codes": list_of(_interim_code, 10),
    "comments": as_boolean,
    "detail": as_text,
    "encoding": one_of(kinds.Encoding),
    "endless_line": as_boolean,
    "event_fields": as_boolean,
    "every_seconds": number(0.01, _DAY_S),
    "fields": as_names,
    "form": one_of(kinds.Form),
    "head": as_boolean,
    "how": one_of(kinds.Invalid),
    "html": as_boolean,
    "kib": integer(1, 64 * 1024),
    "mib": integer(1, 64),
    "multiline": as_boolean,
    "newline": one_of(kinds.Newline),
    "pause_seconds": number(0, 60),
    "per_second": integer(1, 100_000),
    "processed": as_boolean,
    "released": as_boolean,
    "reset": as_boolean,
    "retry_after": _retry_after,
    "retry_after_date": number(-_DAY_S, _DAY_S),
    "seconds": number(0, _DAY_S),
    "status": as_text,
    "to": as_address,
}

# Where a field of one kind has other bounds than the field of that name usually has.
_OF_ONE_KIND: Mapping[tuple[str, str], Reader] = {
    ("empty_answer", "code"): one_of_numbers(200, 202, 204),
    ("bomb", "mib"): integer(1, 1024),  # never in memory as a whole
}

_ANY: Mapping[str, type[kinds.Kind]] = {
    "reset": kinds.Reset,
    "stall": kinds.Stall,
    "status_code": kinds.StatusCode,
    "redirect": kinds.Redirect,
    "drip": kinds.Drip,
    "interim": kinds.Interim,
    "closes_idle": kinds.ClosesIdle,
    "encoded": kinds.Encoded,
    "bomb": kinds.Bomb,
}

_DOCUMENT: Mapping[str, type[kinds.Kind]] = {
    "cut_off": kinds.CutOff,
    "truncated": kinds.Truncated,
    "wrong_types": kinds.WrongTypes,
    "nulls": kinds.Nulls,
    "missing": kinds.Missing,
    "huge": kinds.Huge,
}

KINDS: Mapping[Operation, Mapping[str, type[kinds.Kind]]] = {
    Operation.START: {**_ANY, **_DOCUMENT, "foreign_urls": kinds.ForeignUrls},
    Operation.STATUS: {
        **_ANY,
        **_DOCUMENT,
        "unknown_status": kinds.UnknownStatus,
        "progress_back": kinds.ProgressBack,
        "no_output": kinds.NoOutput,
        "cleanup_soon": kinds.CleanupSoon,
        "lag": kinds.Lag,
        "slow_down": kinds.SlowDown,
        "invalid_output": kinds.InvalidOutput,
        "echo_key": kinds.EchoKey,
        "foreign_document": kinds.ForeignDocument,
        "pipelined_document": kinds.PipelinedDocument,
        "not_found_for": kinds.NotFoundFor,
        "tiny_progress": kinds.TinyProgress,
    },
    Operation.CANCEL: {
        **_ANY,
        **_DOCUMENT,
        "empty_answer": kinds.EmptyAnswer,
        "foreign_document": kinds.ForeignDocument,
        "pipelined_document": kinds.PipelinedDocument,
    },
    Operation.STREAM: {
        **_ANY,
        "format": kinds.Format,
        "junk": kinds.Junk,
        "ends": kinds.Ends,
        "falls_silent": kinds.FallsSilent,
        "flood": kinds.Flood,
        "false_end": kinds.FalseEnd,
        "no_end": kinds.NoEnd,
        "heartbeats": kinds.Heartbeats,
        "events_go_on": kinds.EventsGoOn,
        "buffered": kinds.Buffered,
        "replays": kinds.Replays,
        "long_comment": kinds.LongComment,
        "not_found_for": kinds.NotFoundFor,
        "tiny_progress": kinds.TinyProgress,
    },
}
