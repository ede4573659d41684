"""Reading, following and writing the log lines of one execution."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.fakes.aws import client_error
from tests.fakes.clock import Clock
from tests.support.builders import ID
from tests.unit.waterhook_cli.log_events import event, line, state_event
from waterhook_cli.execution_logs import (
    LogEvent,
    LogGroup,
    LogLine,
    LogReader,
    filter_pattern,
    follow_events,
    log_groups,
    source_of,
)
from waterhook_cli.stack import StackResource

START, POLL = LogGroup("start-logs", "start"), LogGroup("poll-logs", "poll")
HOUR_MS = 3_600_000


class Logs:
    """FilterLogEvents with pages of events by log group. A group that it does not have does not exist."""

    def __init__(self, pages: Mapping[str, list[list[dict[str, Any]]]]) -> None:
        self.pages = dict(pages)
        self.requests: list[dict[str, Any]] = []
        self.most_calls = 0
        self._calls = 0
        self._lock = threading.Lock()

    def get_paginator(self, operation: str) -> "Logs":
        assert operation == "filter_log_events"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        with self._lock:
            self.requests.append(request)
            self._calls += 1
            self.most_calls = max(self.most_calls, self._calls)
        if request["logGroupName"] not in self.pages:
            raise client_error("ResourceNotFoundException")
        for page in self.pages[request["logGroupName"]]:
            yield {"events": [one for one in page if one["timestamp"] >= request["startTime"]]}
        with self._lock:
            self._calls -= 1


def reader(logs: Logs, *groups: LogGroup, texts: tuple[str, ...] = (ID,), **options: Any) -> LogReader:
    client: Any = logs
    return LogReader(client, groups or (START, POLL), texts, **options)


def times(events: list[LogEvent]) -> list[int]:
    return [one.timestamp_ms for one in events]


def test_the_lines_of_all_groups_and_pages_are_in_the_order_of_their_times() -> None:
    logs = Logs(
        {
            "start-logs": [[event(5, ID)], [], [event(20, ID), event(3, ID)]],
            "poll-logs": [[], [event(10, ID)]],
        }
    )
    found = reader(logs).read(0)
    assert [(one.timestamp_ms, one.group.source) for one in found] == [
        (3, "start"),
        (5, "start"),
        (10, "poll"),
        (20, "start"),
    ]


def test_lines_of_other_executions_are_left_out_also_if_the_pattern_is_ignored() -> None:
    logs = Logs({"start-logs": [[event(1, ID), event(2, "1" * 32), event(3, f'{{"arn": "a:{ID}-1"}}')]]})
    assert times(reader(logs, START).read(0)) == [1, 3]


def test_a_group_that_does_not_exist_has_no_lines_and_another_error_is_raised() -> None:
    assert times(reader(Logs({"poll-logs": [[event(1, ID)]]})).read(0)) == [1]

    class Denied(Logs):
        def paginate(self, **_request: Any) -> Iterator[dict[str, Any]]:
            raise client_error("AccessDeniedException")

    with pytest.raises(type(client_error("AccessDeniedException"))):
        reader(Denied({})).read(0)


def test_the_number_of_parallel_calls_is_limited() -> None:
    groups = [LogGroup(f"group-{number}", "x") for number in range(40)]
    logs = Logs({group.name: [[event(1, ID)]] for group in groups})
    assert len(reader(logs, *groups).read(0)) == 40
    assert logs.most_calls <= 4


def test_the_request_has_the_period_and_the_pattern() -> None:
    logs = Logs({})
    reader(logs, START, texts=(ID, "run-1", ID)).read(-5, 7)
    reader(logs, START, has_patterns=False).read(5)
    assert logs.requests == [
        {
            "logGroupName": "start-logs",
            "startTime": 0,
            "endTime": 7,
            "filterPattern": f'?"{ID}" ?"run-1"',
        },
        {"logGroupName": "start-logs", "startTime": 5},
    ]
    assert filter_pattern((ID,)) == f'"{ID}"'


def test_each_event_is_read_once_also_a_late_one() -> None:
    logs = Logs({"start-logs": [[event(HOUR_MS, ID)]], "poll-logs": [[]]})
    logs_reader = reader(logs)
    assert times(logs_reader.read(0)) == [HOUR_MS]
    late = event(HOUR_MS - 60_000, ID)
    logs.pages["poll-logs"] = [[late, event(HOUR_MS + 1, ID)]]
    assert times(logs_reader.read_new(0)) == [HOUR_MS - 60_000, HOUR_MS + 1]
    assert logs_reader.read_new(0) == []
    # Not the whole hour is read again.
    assert logs.requests[-1]["startTime"] == HOUR_MS + 1 - 120_000


def test_the_traceback_of_a_failed_invocation_is_read_from_its_log_stream() -> None:
    failed = event(10, line("poll", "ERROR", fault="ZeroDivisionError"))
    stream = [
        event(9, "START RequestId: 1"),
        failed,
        event(10, '{"_aws": {}}'),
        event(11, "[ERROR] ZeroDivisionError: division by zero\nTraceback (most recent call last):"),
        event(12, "END RequestId: 1"),
        event(12, "START RequestId: 2"),
        event(13, "[ERROR] of another execution"),
    ]
    logs = Logs({"poll-logs": [stream]})
    logs_reader = reader(logs, POLL)
    assert times(logs_reader.read(0)) == [10, 11]
    assert logs.requests[-1] == {
        "logGroupName": "poll-logs",
        "logStreamNames": ["stream"],
        "startTime": 10,
        "endTime": 2010,
    }
    assert logs_reader.read_new(0) == []
    assert len(logs.requests) == 3


def test_events_of_two_groups_may_have_the_same_id() -> None:
    logs = Logs({"start-logs": [[event(1, ID, "same")]], "poll-logs": [[event(2, ID, "same")]]})
    assert times(reader(logs).read(0)) == [1, 2]


def test_an_event_without_an_id_is_read_once() -> None:
    events = [event(1, f"{ID} first"), event(1, f"{ID} second")]
    for one in events:
        del one["eventId"]  # as on the local AWS
    logs_reader = reader(Logs({"start-logs": [events]}), START)
    assert [len(logs_reader.read(0)) for _ in range(2)] == [2, 0]


def followed(reads: list[list[int]], ended_at_read: int, **options: float) -> tuple[list[int], float]:
    """Return the times of the yielded events, and the seconds until following ended."""
    clock = Clock(0.0)
    numbers = iter(range(1000))
    remaining = iter(reads)

    def read() -> list[LogEvent]:
        return [LogEvent(START, event(one, ID)) for one in next(remaining, [])]

    events = follow_events(
        read,
        lambda: next(numbers) >= ended_at_read,
        **{"interval_s": 5.0, "quiet_s": 20.0, "max_s": 120.0} | options,
        clock=clock,
        sleep=clock.advance,
    )
    return times(list(events)), clock()


def test_following_ends_when_no_line_came_for_a_while_after_the_end() -> None:
    assert followed([[1], [], [2], [], [3]], ended_at_read=2) == ([1, 2, 3], 40.0)
    assert followed([], ended_at_read=0) == ([], 20.0)


def test_following_ends_although_lines_continue() -> None:
    found, seconds = followed([[number] for number in range(100)], ended_at_read=0)
    assert (len(found), seconds) == (25, 120.0)


@pytest.mark.parametrize(
    ("message", "level", "text", "details"),
    [
        (line("start", outcome="RUNNING", next="follow"), "INFO", "start", "outcome=RUNNING next=follow"),
        (line("poll", level="ERROR", fault="ReadTimeout"), "ERROR", "poll", "fault=ReadTimeout"),
        (line("api", cold_start=True, route="POST /v1", http_status=202), "INFO", "api", None),
        (line("poll", latency_ms=12.5, none=None), "INFO", "poll", "latency_ms=12.5"),
        (line("odd", note='a "b"', empty=""), "INFO", "odd", 'note="a \\"b\\"" empty=""'),
        (state_event("TaskStateEntered", name="Start job"), "INFO", "TaskStateEntered", 'name="Start job"'),
        (state_event("ExecutionFailed", error="Lost"), "ERROR", "ExecutionFailed", "error=Lost"),
        ("START RequestId: 1", "", "START RequestId: 1", ""),
        ("[ERROR] KeyError: 1", "ERROR", "[ERROR] KeyError: 1", ""),
        ("[1]", "", "[1]", ""),
        ("{" * 10, "", "{" * 10, ""),
    ],
)
def test_a_line_has_level_message_and_the_fields_that_differ(
    message: str | dict[str, Any], level: str, text: str, details: str | None
) -> None:
    written = LogLine.of(LogEvent(START, event(1_767_225_600_123, message)))
    assert (written.time, written.source) == ("2026-01-01T00:00:00.123Z", "start")
    assert (written.level, written.message) == (level, text)
    expected = 'cold_start=true route="POST /v1" http_status=202' if details is None else details
    assert written.details == expected


def test_log_groups_have_the_name_of_the_function() -> None:
    resources = [
        StackResource("StartLogs", "AWS::Logs::LogGroup", "shop-StartLogs-1"),
        StackResource("StateMachineLogs", "AWS::Logs::LogGroup", "/aws/vendedlogs/states/shop-executions"),
        StackResource("StartFunction", "AWS::Lambda::Function", "shop-StartFunction-1"),
        StackResource("DeliverLogs", "AWS::Logs::LogGroup", ""),
    ]
    assert log_groups(resources) == [
        LogGroup("shop-StartLogs-1", "start"),
        LogGroup("/aws/vendedlogs/states/shop-executions", "state-machine"),
    ]
    assert source_of("ApiAccessLog") == "api-access"
