"""Reads the log lines of one execution from all log groups of a stack, and writes them as text."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, dropwhile, takewhile
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import aws_error_code
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

# FilterLogEvents allows few calls a second per account and region: 5 in most regions.
_PARALLEL = 4
# A line may become readable after later lines of another function. CloudWatch Logs needs seconds for it.
_LATE_MS = 120_000
# Lambda writes the traceback immediately after the line of the failed invocation, into the same log stream.
_TRACEBACK_MS = 2_000
_MAX_TRACEBACKS = 20  # of one read
_PLATFORM_LINE = re.compile(r"(START|END|REPORT) RequestId: ")
# Fields of a line that are the same in every line of an execution, or are printed in columns of their own.
_HIDDEN = {
    "level",
    "location",
    "message",
    "timestamp",
    "service",
    "function_name",
    "function_memory_size",
    "function_arn",
    "function_request_id",
    "correlation_id",
    "xray_trace_id",
    "execution_id",
    "execution_arn",
    "waterflai_execution_id",
    "chatbot_id",
    "event_id",
}
_FAILED_STATE = re.compile(r"(Failed|TimedOut|Aborted)$")
_WORD = re.compile(r"[^\s\"=]+")


@dataclass(frozen=True, slots=True)
class LogGroup:
    """A log group of the stack. `source` is what writes it: a function such as `start`, or `state-machine`."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event of FilterLogEvents, and its log group."""

    group: LogGroup
    fields: Mapping[str, Any]

    @property
    def timestamp_ms(self) -> int:
        """When the line was written, in epoch milliseconds."""
        return int(self.fields["timestamp"])

    @property
    def message(self) -> str:
        """The line."""
        return str(self.fields["message"])

    @property
    def key(self) -> str:
        """Identifies the event. The local AWS has no event ids."""
        event_id = self.fields.get("eventId")
        return f"{self.group.name} {event_id or (self.fields.get('logStreamName'), self.timestamp_ms, self.message)}"

    @property
    def is_failed_invocation(self) -> bool:
        """Whether the line is that of an invocation that an exception ended."""
        fields = _read_object(self.message) or {}
        return "fault" in fields and fields.get("level") == "ERROR"

    def to_dict(self) -> dict[str, Any]:
        """Return the event with the names of CloudWatch Logs."""
        return {"logGroupName": self.group.name, **self.fields}


@dataclass(frozen=True, slots=True)
class LogLine:
    """A log event as text."""

    time: str
    source: str
    level: str
    message: str
    details: str

    @classmethod
    def of(cls, event: LogEvent) -> "LogLine":
        """Return the line of an event of a function or of the state machine."""
        level, message, details = _read_message(event.message)
        moment = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)
        time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = " ".join(f"{name}={_quoted(value)}" for name, value in details.items())
        return cls(time, event.group.source, level, message, text)


def log_groups(resources: Iterable[StackResource]) -> list[LogGroup]:
    """Return the log groups of a stack."""
    return [
        LogGroup(one.physical_id, source_of(one.logical_id))
        for one in resources
        if one.type == "AWS::Logs::LogGroup" and one.physical_id
    ]


def source_of(logical_id: str) -> str:
    """Return the source of a log group: `state-machine` for `StateMachineLogs`."""
    name = re.sub(r"Logs?$", "", logical_id)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


class LogReader:
    """Reads the events that contain one of some texts, each event once."""

    def __init__(
        self,
        client: "CloudWatchLogsClient",
        groups: Iterable[LogGroup],
        texts: Iterable[str],
        *,
        has_patterns: bool = True,
    ) -> None:
        """`texts`: ids and names. `has_patterns`: whether CloudWatch Logs filters too; the local AWS can't."""
        self._client = client
        self._groups = list(groups)
        self._texts = tuple(dict.fromkeys(texts))
        self._pattern = filter_pattern(self._texts) if has_patterns else ""
        self._seen: set[str] = set()
        self._newest_ms = 0

    def read(self, start_ms: int, end_ms: int | None = None) -> list[LogEvent]:
        """Return the events of a period that were not returned before, in the order of their times.

        A log group that does not exist has no events. Raises boto3's errors.
        """
        executor = ThreadPoolExecutor(_PARALLEL)
        try:
            read = [executor.submit(self._read_group, group, start_ms, end_ms) for group in self._groups]
            found = list(chain.from_iterable(future.result() for future in read))
            failed = [event for event in found if event.is_failed_invocation and event.key not in self._seen]
            tracebacks = executor.map(self._read_traceback, failed[:_MAX_TRACEBACKS])
            found.extend(chain.from_iterable(tracebacks))
        finally:
            # After an error or Ctrl-C, calls that have not begun are not made.
            executor.shutdown(wait=False, cancel_futures=True)
        new = [event for event in found if event.key not in self._seen]
        self._seen.update(event.key for event in new)
        self._newest_ms = max([self._newest_ms, *(event.timestamp_ms for event in new)])
        return sorted(new, key=lambda event: event.timestamp_ms)

    def read_new(self, start_ms: int) -> list[LogEvent]:
        """Return the events since `start_ms` that were not returned before. Reads the last two minutes again."""
        return self.read(max(start_ms, self._newest_ms - _LATE_MS))

    def _read_traceback(self, event: LogEvent) -> list[LogEvent]:
        """Return what Lambda wrote between the line of a failed invocation and the end of this invocation."""
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=event.group.name,
            logStreamNames=[event.fields["logStreamName"]],
            startTime=event.timestamp_ms,
            endTime=event.timestamp_ms + _TRACEBACK_MS,
        )
        written = (LogEvent(event.group, fields) for page in pages for fields in page["events"])
        after = dropwhile(lambda one: one.key != event.key, written)
        until_end = takewhile(lambda one: not _PLATFORM_LINE.match(one.message), after)
        # Metrics are JSON too.
        return [one for one in until_end if _read_object(one.message) is None]

    def _read_group(self, group: LogGroup, start_ms: int, end_ms: int | None) -> list[LogEvent]:
        request: dict[str, Any] = {"logGroupName": group.name, "startTime": max(start_ms, 0)}
        if end_ms is not None:
            request["endTime"] = end_ms
        if self._pattern:
            request["filterPattern"] = self._pattern
        try:
            return list(self._matching(group, request))
        except ClientError as error:
            if aws_error_code(error) != "ResourceNotFoundException":
                raise
            return []

    def _matching(self, group: LogGroup, request: dict[str, Any]) -> Iterator[LogEvent]:
        # A page may be empty and have a next page.
        for page in self._client.get_paginator("filter_log_events").paginate(**request):
            for fields in page["events"]:
                if any(text in fields["message"] for text in self._texts):
                    yield LogEvent(group, fields)


def filter_pattern(texts: tuple[str, ...]) -> str:
    """Return the filter pattern for events that contain one of the texts."""
    quoted = [f'"{text}"' for text in texts]
    return quoted[0] if len(quoted) == 1 else " ".join(f"?{one}" for one in quoted)


def follow_events(
    read: Callable[[], list[LogEvent]],
    has_ended: Callable[[], bool],
    *,
    interval_s: float,
    quiet_s: float,
    max_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[LogEvent]:
    """Yield new events until the execution has ended and no event came for `quiet_s`, at most `max_s` after the end."""
    ended_at: float | None = None
    new_at = clock()
    while True:
        # Before the events: those that were written before the end are then in this or a later read.
        is_over = has_ended()
        events = read()
        now = clock()
        yield from events
        if events:
            new_at = now
        if is_over:
            ended_at = now if ended_at is None else ended_at
            if now - max(ended_at, new_at) >= quiet_s or now - ended_at >= max_s:
                return
        sleep(interval_s)


def _read_message(message: str) -> tuple[str, str, dict[str, Any]]:
    """Return the level, the text and the details of a line."""
    fields = _read_object(message)
    if fields is None:
        return "ERROR" if message.startswith("[ERROR]") else "", message, {}
    if "type" in fields and "execution_arn" in fields:
        return _read_state_machine_event(fields)
    details = {
        name: value
        for name, value in fields.items()
        if name not in _HIDDEN and value is not None and (name != "cold_start" or value)
    }
    return str(fields.get("level", "")), str(fields.get("message", "")), details


def _read_object(message: str) -> dict[str, Any] | None:
    """Return the JSON object in a line, or None if the line is another text."""
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _read_state_machine_event(fields: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return level, text and details of an event of a state machine execution. It contains no input and no output."""
    kind = str(fields["type"])
    details = fields.get("details")
    shown = {}
    if isinstance(details, Mapping):
        shown = {name: details[name] for name in ("name", "error", "cause") if details.get(name)}
    return "ERROR" if _FAILED_STATE.search(kind) else "INFO", kind, shown


def _quoted(value: object) -> str:
    """Return a value for `name=value`: JSON, without quotes if it is one word."""
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
