"""Fault rules: parses them from JSON, and decides which rule applies to a call.

A rule has an operation, the calls that it applies to, and a fault type (fault_types.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from local.simulator import fault_types
from local.simulator.field_parsers import (
    FieldParser,
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
    parse_fields,
)
from local.simulator.strict_json import InvalidValueError, as_object

_MAX_FAULTS = 50
_MAX_CALLS = 1_000_000
_DAY_S = 86_400.0


class Operation(StrEnum):
    """The four operations of the API. They are also the names of the routes."""

    START = "start"
    STATUS = "status"
    CANCEL = "cancel"
    STREAM = "stream"


class When(StrEnum):
    """The state of the job in which a rule applies."""

    RUNNING = "running"  # or still queued
    FINAL = "final"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCounts:
    """Number of calls of one operation for one execution, including the current call."""

    running: int = 0
    final: int = 0
    is_final: bool = False

    def number(self, when: When | None) -> int:
        """Return the number of the current call among the calls in state `when`, from 1; 0 in another state."""
        if when is None:
            return self.running + self.final
        if (when is When.FINAL) != self.is_final:
            return 0
        return self.final if self.is_final else self.running


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """A fault type and the calls that it applies to: the next `times` calls (None: all) after the first `after`."""

    on: Operation
    name: str
    kind: fault_types.FaultType
    times: int | None = None
    after: int = 0
    when: When | None = None

    def occurrence(self, operation: Operation, calls: CallCounts) -> int:
        """Return how often the rule has applied, including the current call; 0 if it does not apply to that call."""
        occurrence = calls.number(self.when) - self.after
        applies = (
            operation is self.on and occurrence >= 1 and (self.times is None or occurrence <= self.times)
        )
        return occurrence if applies else 0


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """The rule that applies to the current call. `occurrence`: how often it has applied, from 1."""

    rule: FaultRule
    occurrence: int

    @property
    def kind(self) -> fault_types.FaultType:
        """Fault type of the rule."""
        return self.rule.kind


def find_active_fault(
    rules: Iterable[FaultRule], operation: Operation, calls: CallCounts
) -> ActiveFault | None:
    """Return the first rule that applies to the current call; None if none applies."""
    return next(
        (
            ActiveFault(rule, occurrence)
            for rule in rules
            if (occurrence := rule.occurrence(operation, calls))
        ),
        None,
    )


def parse_faults(where: str, value: Any) -> tuple[FaultRule, ...]:
    """Return the rules in a JSON list. `where` is its path, for error messages. Raises `InvalidValueError`."""
    documents = as_list(where, value, _MAX_FAULTS)
    return tuple(_parse_rule(f"{where}[{index}]", document) for index, document in enumerate(documents))


def _parse_rule(where: str, value: Any) -> FaultRule:
    document = as_object(where, value)
    operation = one_of(Operation)(f"{where}.on", document.get("on"))
    name = document.get("kind")
    known = FAULT_TYPES[operation]
    if not isinstance(name, str) or name not in known:
        raise InvalidValueError(f"{where}.kind: expected one of {', '.join(known)}")
    own = {field.name: field for field in fields(known[name])}
    parsers = {field: _FIELDS_OF_ONE_TYPE.get((name, field)) or _FIELDS[field] for field in own}
    parsed = parse_fields(where, document, {**_COMMON, **parsers})
    for field in own.values():
        if field.name not in parsed and field.default is MISSING:
            raise InvalidValueError(f"{where}.{field.name}: missing, and this kind requires it")
    if operation is Operation.START and "when" in parsed:
        raise InvalidValueError(f"{where}.when: not allowed for `start`, because the job does not exist yet")
    common = {field: parsed.pop(field) for field in ("times", "after", "when") if field in parsed}
    kind = known[name](**{field: parsed[field] for field in own if field in parsed})
    return FaultRule(on=operation, name=name, kind=kind, **common)


def _retry_after(where: str, value: Any) -> str:
    # A number is a valid header. Text allows an invalid one.
    return as_header(where, value) if isinstance(value, str) else f"{number(0, _DAY_S)(where, value):g}"


def _interim_code(where: str, value: Any) -> int:
    code: int = integer(100, 199)(where, value)
    if code == HTTPStatus.SWITCHING_PROTOCOLS:
        raise InvalidValueError(
            f"{where}: 101 is not allowed, because it switches the protocol of the connection"
        )
    return code


_COMMON: Mapping[str, FieldParser] = {
    "on": one_of(Operation),
    "kind": as_text,
    "times": integer(1, _MAX_CALLS),
    "after": integer(0, _MAX_CALLS),
    "when": one_of(When),
}

_FIELDS: Mapping[str, FieldParser] = {
    "after_events": integer(0, _MAX_CALLS),
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
    "encoding": one_of(fault_types.Encoding),
    "endless_line": as_boolean,
    "event_fields": as_boolean,
    "every_seconds": number(0.01, _DAY_S),
    "fields": as_names,
    "form": one_of(fault_types.EchoForm),
    "head": as_boolean,
    "how": one_of(fault_types.InvalidContent),
    "html": as_boolean,
    "kib": integer(1, 64 * 1024),
    "mib": integer(1, 64),
    "multiline": as_boolean,
    "newline": one_of(fault_types.Newline),
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

# Fields with other bounds than in _FIELDS, by kind and name.
_FIELDS_OF_ONE_TYPE: Mapping[tuple[str, str], FieldParser] = {
    ("empty_answer", "code"): one_of_numbers(200, 202, 204),
    ("bomb", "mib"): integer(1, 1024),  # sent in pieces, never in memory as a whole
}

_ANY_OPERATION: Mapping[str, type[fault_types.FaultType]] = {
    "reset": fault_types.Reset,
    "stall": fault_types.Stall,
    "status_code": fault_types.StatusCode,
    "redirect": fault_types.Redirect,
    "drip": fault_types.Drip,
    "interim": fault_types.Interim,
    "closes_idle": fault_types.ClosesIdle,
    "encoded": fault_types.Encoded,
    "bomb": fault_types.Bomb,
}

_ANY_DOCUMENT: Mapping[str, type[fault_types.FaultType]] = {
    "cut_off": fault_types.CutOff,
    "truncated": fault_types.Truncated,
    "wrong_types": fault_types.WrongTypes,
    "nulls": fault_types.Nulls,
    "missing": fault_types.Missing,
    "huge": fault_types.Huge,
}

FAULT_TYPES: Mapping[Operation, Mapping[str, type[fault_types.FaultType]]] = {
    Operation.START: {**_ANY_OPERATION, **_ANY_DOCUMENT, "foreign_urls": fault_types.ForeignUrls},
    Operation.STATUS: {
        **_ANY_OPERATION,
        **_ANY_DOCUMENT,
        "unknown_status": fault_types.UnknownStatus,
        "progress_back": fault_types.ProgressBack,
        "no_output": fault_types.NoOutput,
        "cleanup_soon": fault_types.CleanupSoon,
        "lag": fault_types.Lag,
        "slow_down": fault_types.SlowDown,
        "invalid_output": fault_types.InvalidOutput,
        "echo_key": fault_types.EchoKey,
        "foreign_document": fault_types.ForeignDocument,
        "pipelined_document": fault_types.PipelinedDocument,
        "not_found_for": fault_types.NotFoundFor,
        "tiny_progress": fault_types.TinyProgress,
    },
    Operation.CANCEL: {
        **_ANY_OPERATION,
        **_ANY_DOCUMENT,
        "empty_answer": fault_types.EmptyAnswer,
        "foreign_document": fault_types.ForeignDocument,
        "pipelined_document": fault_types.PipelinedDocument,
    },
    Operation.STREAM: {
        **_ANY_OPERATION,
        "format": fault_types.Format,
        "junk": fault_types.Junk,
        "ends": fault_types.Ends,
        "falls_silent": fault_types.FallsSilent,
        "flood": fault_types.Flood,
        "false_end": fault_types.FalseEnd,
        "no_end": fault_types.NoEnd,
        "heartbeats": fault_types.Heartbeats,
        "events_go_on": fault_types.EventsGoOn,
        "buffered": fault_types.Buffered,
        "replays": fault_types.Replays,
        "long_comment": fault_types.LongComment,
        "not_found_for": fault_types.NotFoundFor,
        "tiny_progress": fault_types.TinyProgress,
    },
}
