"""Checks of `doctor`: executions that wait to start, are overdue, or whose outcome is not published."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum, auto
from itertools import groupby
from typing import TYPE_CHECKING, Any

from waterhook.domain.status import Status
from waterhook.storage.execution_record import from_attribute
from waterhook.storage.unfinished_index import UNFINISHED_INDEX
from waterhook.timestamps import to_rfc3339
from waterhook_cli.findings import Finding
from waterhook_cli.output import moment

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# What is younger is on its way: it is neither backlog nor late.
_FRESH_S = 300.0
# notify is retried, and the sweep runs every quarter of an hour: both have had their turn.
_UNPUBLISHED_S = 1800.0
_OVERDUE_S = 3600.0
_BATCH = 100  # the most that BatchGetItem takes
_NAMED = 3
_ATTRIBUTES = ("execution_id", "status", "created_at", "finished_at", "notified_at", "deadline", "waiting")
_REASONS = {
    "queued": (
        "a free slot (MaxRunning is {MaxRunning}, MaxRunningPerChatbot is {MaxRunningPerChatbot})",
        "Raise the limit, or wait for running jobs to end.",
    ),
    "upstream_busy": (
        "Waterflai, which takes no more jobs now",
        "See docs/operations.md#waterflai-fails.",
    ),
    "retrying": (
        "another attempt to start, after one that failed",
        "See docs/operations.md#waterflai-fails.",
    ),
}
_ANY_REASON = ("their start", "The log of StartFunction has the reason: docs/operations.md#one-execution.")


def records(
    dynamodb: "DynamoDBClient",
    table: str,
    now: float,
    parameters: Mapping[str, str],
    options: str = "",
    *,
    most: int = 1000,
) -> Iterator[Finding]:
    """Look for a backlog, for overdue executions, and for outcomes that were not published.

    Reads the index of executions that are not notified, and the oldest `most` records in it. `options` are those that
    a `waterhook` command needs to find the same stack.
    """
    found = _unfinished(dynamodb, table, now - _FRESH_S)
    states: defaultdict[_State, list[Mapping[str, Any]]] = defaultdict(list)
    for record in _read(dynamodb, table, found[:most]):
        states[_state(record, now)].append(record)
    if unpublished := states[_State.UNPUBLISHED]:
        yield Finding.problem(
            f"the outcome of {_some(unpublished)} was never published",
            f"waterhook redeliver --undelivered{options}",
        )
    if overdue := states[_State.OVERDUE]:
        yield Finding.problem(
            f"{_some(overdue)} should have ended more than an hour ago",
            "Look at the execution of the state machine that has this id in its name; stopping it closes the record.",
        )
    if late := states[_State.LATE]:
        yield Finding.warning(
            f"the outcome of {_some(late)} is not published {_FRESH_S / 60:.0f} minutes after the end",
            "It is tried again automatically. If more are added: docs/operations.md#notify-fails.",
        )
    waiting = sorted(states[_State.WAITING], key=_reason)
    for reason, group in groupby(waiting, _reason):
        yield _backlog(reason, list(group), parameters)
    if not (unpublished or overdue or late or waiting):
        yield Finding.ok(
            "no execution is overdue or waits to start, no outcome is unpublished; "
            f"{len(states[_State.RUNNING])} have been running for more than {_FRESH_S / 60:.0f} minutes"
        )
    if len(found) > most:
        yield Finding.note(f"only the oldest {most} of {len(found)} executions were examined")


class _State(StrEnum):
    UNPUBLISHED = auto()
    LATE = auto()
    ENDED = auto()
    OVERDUE = auto()
    WAITING = auto()
    RUNNING = auto()


def _state(record: Mapping[str, Any], now: float) -> _State:
    """Return what a record that is still in the index is counted as."""
    if "notified_at" in record:  # it has left the index meanwhile
        return _State.ENDED
    if finished_at := record.get("finished_at"):
        if finished_at < (to_rfc3339(now - _UNPUBLISHED_S) or ""):
            return _State.UNPUBLISHED
        return _State.LATE if finished_at < (to_rfc3339(now - _FRESH_S) or "") else _State.ENDED
    if record.get("deadline", now) < now - _OVERDUE_S:
        return _State.OVERDUE
    return _State.WAITING if record.get("status") == Status.ACCEPTED else _State.RUNNING


def _unfinished(dynamodb: "DynamoDBClient", table: str, before: float) -> list[str]:
    """Return the ids of executions that were accepted before then and are not notified, oldest first."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        IndexName=UNFINISHED_INDEX,
        FilterExpression="created_at < :before",
        ExpressionAttributeValues={":before": {"S": to_rfc3339(before) or ""}},
    )
    found = [(item["created_at"]["S"], item["execution_id"]["S"]) for page in pages for item in page["Items"]]
    return [execution_id for _, execution_id in sorted(found)]


def _read(dynamodb: "DynamoDBClient", table: str, ids: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield what is looked at of each record that still exists, in any order."""
    names = {f"#{number}": name for number, name in enumerate(_ATTRIBUTES)}
    for start in range(0, len(ids), _BATCH):
        keys: Any = [{"execution_id": {"S": one}} for one in ids[start : start + _BATCH]]
        while keys:
            asked: Any = {
                "Keys": keys,
                "ProjectionExpression": ", ".join(names),
                "ExpressionAttributeNames": names,
            }
            answer = dynamodb.batch_get_item(RequestItems={table: asked})
            for item in answer["Responses"].get(table, []):
                yield {name: from_attribute(value) for name, value in item.items()}
            left: Mapping[str, Any] = answer.get("UnprocessedKeys", {})
            keys = left.get(table, {}).get("Keys")


def _reason(record: Mapping[str, Any]) -> str:
    """Return why a record waits, as its `waiting` map names it; nothing where it has none."""
    waiting = record.get("waiting")
    return str(waiting.get("reason", "")) if isinstance(waiting, Mapping) else ""


def _backlog(reason: str, records: list[Mapping[str, Any]], parameters: Mapping[str, str]) -> Finding:
    """Return how many wait for the same reason, since when, and when the next of them is tried again."""
    what, do = _REASONS.get(reason, _ANY_REASON)
    known = {name: parameters.get(name, "0") for name in ("MaxRunning", "MaxRunningPerChatbot")}
    given = [one["waiting"] for one in records if isinstance(one.get("waiting"), Mapping)]
    oldest: Mapping[str, Any] = min(given, key=lambda one: str(one.get("since")), default={})
    since = oldest.get("since") or min(str(one.get("created_at", "")) for one in records)
    detail = f" ({oldest['detail']})" if oldest.get("detail") else ""
    attempts = [str(one["next_attempt_at"]) for one in given if one.get("next_attempt_at")]
    attempt = f", next attempt at {moment(min(attempts))}" if attempts else ""
    waits = "waits" if len(records) == 1 else "wait"
    return Finding.warning(
        f"{_some(records)} {waits} for {what.format(**known)}, the oldest since {moment(since)}{detail}{attempt}",
        do,
    )


def _some(records: list[Mapping[str, Any]]) -> str:
    """Return how many there are, and the ids of the first of them."""
    ids = [str(one["execution_id"]) for one in records]
    count = f"{len(ids)} execution{'s' if len(ids) > 1 else ''}"
    return f"{count} ({', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''})"
