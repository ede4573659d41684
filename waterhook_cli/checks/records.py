"""Checks the execution records: executions that wait to start, are overdue, or have an unpublished outcome."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum, auto
from itertools import groupby
from typing import TYPE_CHECKING, Any

from waterhook.domain.status import Status
from waterhook.storage.execution_record import from_attribute
from waterhook.storage.unfinished_index import UNFINISHED_INDEX
from waterhook.timestamps import to_rfc3339
from waterhook_cli.checks.finding import Finding
from waterhook_cli.output import format_time

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Younger executions are not checked. An outcome that is unpublished for longer is late.
_MIN_AGE_S = 300.0
# After this time the retries of the state Notify and the sweep (every 15 minutes) have failed.
_UNPUBLISHED_S = 1800.0
_OVERDUE_S = 3600.0
_BATCH_SIZE = 100  # maximum of BatchGetItem
_MAX_IDS_SHOWN = 3
_ATTRIBUTES = ("execution_id", "status", "created_at", "finished_at", "notified_at", "deadline", "waiting")
# What the execution waits for, and the hint, by the `reason` in the record's `waiting`.
_WAITING_REASONS = {
    "queued": (
        "a free slot (MaxRunning is {MaxRunning}, MaxRunningPerChatbot is {MaxRunningPerChatbot})",
        (
            "Wait until running jobs end. Or deploy with a higher limit: "
            "sam build && sam deploy --parameter-overrides MaxRunning=NUMBER"
        ),
    ),
    "upstream_busy": (
        "Waterflai, which accepts no more jobs now",
        "Waterhook retries automatically. If it lasts, see docs/runbook/UpstreamErrorsAlarm.md.",
    ),
    "retrying": (
        "another attempt to start, because the last attempt failed",
        "Waterhook retries automatically. If it lasts, see docs/runbook/UpstreamErrorsAlarm.md.",
    ),
}
_UNKNOWN_REASON = (
    "their start",
    "Find the reason in the log of the function StartFunction, as in docs/operations.md#one-execution.",
)


def check_records(
    dynamodb: "DynamoDBClient",
    table: str,
    now: float,
    parameters: Mapping[str, str],
    stack_options: str = "",
    *,
    max_records: int = 1000,
) -> Iterator[Finding]:
    """Check for waiting executions, overdue executions and unpublished outcomes.

    Scans the index of executions without a notification, and reads the oldest `max_records` of their records.
    `stack_options`: options of a `waterhook` command that uses the same stack.
    """
    ids = _unfinished_ids(dynamodb, table, now - _MIN_AGE_S)
    by_state: defaultdict[_State, list[Mapping[str, Any]]] = defaultdict(list)
    for record in _read_records(dynamodb, table, ids[:max_records]):
        by_state[_state_of(record, now)].append(record)
    if unpublished := by_state[_State.UNPUBLISHED]:
        yield Finding.problem(
            f"the outcome of {_count_with_ids(unpublished)} was never published",
            f"waterhook redeliver --undelivered{stack_options}",
        )
    if overdue := by_state[_State.OVERDUE]:
        yield Finding.problem(
            f"{_count_with_ids(overdue)} passed the deadline more than an hour ago and did not end",
            "Stop the state machine execution that has this id in its name. Waterhook then publishes an outcome: "
            "aws stepfunctions stop-execution --execution-arn ARN",
        )
    if late := by_state[_State.LATE]:
        yield Finding.warning(
            f"the outcome of {_count_with_ids(late)} is not published {_MIN_AGE_S / 60:.0f} minutes after the end",
            "Waterhook retries automatically. If the number grows, see docs/runbook/NotifyAlarm.md.",
        )
    waiting = sorted(by_state[_State.WAITING], key=_waiting_reason)
    for reason, group in groupby(waiting, _waiting_reason):
        yield _waiting_finding(reason, list(group), parameters)
    if not (unpublished or overdue or late or waiting):
        yield Finding.ok(
            "no execution is overdue or waits to start, and no outcome is unpublished; "
            f"{len(by_state[_State.RUNNING])} have been running for more than {_MIN_AGE_S / 60:.0f} minutes"
        )
    if len(ids) > max_records:
        yield Finding.note(f"only the oldest {max_records} of {len(ids)} executions were checked")


class _State(StrEnum):
    UNPUBLISHED = auto()
    LATE = auto()
    ENDED = auto()
    OVERDUE = auto()
    WAITING = auto()
    RUNNING = auto()


def _state_of(record: Mapping[str, Any], now: float) -> _State:
    """Return the state of a record."""
    if "notified_at" in record:  # published after the scan of the index
        return _State.ENDED
    if finished_at := record.get("finished_at"):
        if finished_at < (to_rfc3339(now - _UNPUBLISHED_S) or ""):
            return _State.UNPUBLISHED
        return _State.LATE if finished_at < (to_rfc3339(now - _MIN_AGE_S) or "") else _State.ENDED
    if record.get("deadline", now) < now - _OVERDUE_S:
        return _State.OVERDUE
    return _State.WAITING if record.get("status") == Status.ACCEPTED else _State.RUNNING


def _unfinished_ids(dynamodb: "DynamoDBClient", table: str, before: float) -> list[str]:
    """Return the ids of executions without a notification that were accepted before a time, oldest first."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        IndexName=UNFINISHED_INDEX,
        FilterExpression="created_at < :before",
        ExpressionAttributeValues={":before": {"S": to_rfc3339(before) or ""}},
    )
    items = [(item["created_at"]["S"], item["execution_id"]["S"]) for page in pages for item in page["Items"]]
    return [execution_id for _, execution_id in sorted(items)]


def _read_records(dynamodb: "DynamoDBClient", table: str, ids: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield _ATTRIBUTES of each record that exists, in no order."""
    names = {f"#{number}": name for number, name in enumerate(_ATTRIBUTES)}
    for start in range(0, len(ids), _BATCH_SIZE):
        keys: Any = [
            {"execution_id": {"S": execution_id}} for execution_id in ids[start : start + _BATCH_SIZE]
        ]
        while keys:
            request: Any = {
                "Keys": keys,
                "ProjectionExpression": ", ".join(names),
                "ExpressionAttributeNames": names,
            }
            response = dynamodb.batch_get_item(RequestItems={table: request})
            for item in response["Responses"].get(table, []):
                yield {name: from_attribute(value) for name, value in item.items()}
            unprocessed: Mapping[str, Any] = response.get("UnprocessedKeys", {})
            keys = unprocessed.get(table, {}).get("Keys")


def _waiting_reason(record: Mapping[str, Any]) -> str:
    """Return the `reason` in the `waiting` of a record, or an empty text."""
    waiting = record.get("waiting")
    return str(waiting.get("reason", "")) if isinstance(waiting, Mapping) else ""


def _waiting_finding(reason: str, records: list[Mapping[str, Any]], parameters: Mapping[str, str]) -> Finding:
    """Return the finding for the executions that wait for one reason."""
    subject, hint = _WAITING_REASONS.get(reason, _UNKNOWN_REASON)
    limits = {name: parameters.get(name, "0") for name in ("MaxRunning", "MaxRunningPerChatbot")}
    waiting = [record["waiting"] for record in records if isinstance(record.get("waiting"), Mapping)]
    oldest: Mapping[str, Any] = min(waiting, key=lambda entry: str(entry.get("since")), default={})
    since = oldest.get("since") or min(str(record.get("created_at", "")) for record in records)
    detail = f" ({oldest['detail']})" if oldest.get("detail") else ""
    attempts = [str(entry["next_attempt_at"]) for entry in waiting if entry.get("next_attempt_at")]
    attempt = f", next attempt at {format_time(min(attempts))}" if attempts else ""
    verb = "waits" if len(records) == 1 else "wait"
    return Finding.warning(
        f"{_count_with_ids(records)} {verb} for {subject.format(**limits)}, "
        f"the oldest since {format_time(since)}{detail}{attempt}",
        hint,
    )


def _count_with_ids(records: list[Mapping[str, Any]]) -> str:
    """Return the number of executions, and the ids of the first three."""
    ids = [str(record["execution_id"]) for record in records]
    count = f"{len(ids)} execution{'s' if len(ids) > 1 else ''}"
    return f"{count} ({', '.join(ids[:_MAX_IDS_SHOWN])}{', ...' if len(ids) > _MAX_IDS_SHOWN else ''})"
