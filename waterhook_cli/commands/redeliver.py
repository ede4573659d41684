"""Redelivery: which finished executions an operator means, and their notifications published again."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient

# All that a filter looks at, and nothing of what went in or came out. `status` is a reserved word.
_LOOK: dict[str, Any] = {
    "ProjectionExpression": "execution_id, #s, finished_at, notified_at, expires_at",
    "ExpressionAttributeNames": {"#s": "status"},
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one redelivery: published again with its `outcome`, or the `reason` why not, for a person."""

    execution_id: str
    redelivered: bool
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Filter:
    status: str | None
    since: str
    until: str
    undelivered_only: bool
    now: float

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Whether an item is a finished execution that is meant. The slots of the capacity are items, too."""
        if "status" not in item or "finished_at" not in item or int(item["expires_at"]["N"]) < int(self.now):
            return False
        return (
            self.status in {None, item["status"]["S"]}
            and self.since <= item["finished_at"]["S"] < self.until
            and not (self.undelivered_only and "notified_at" in item)
        )


class Redelivery:
    """The stored records, and the deployed notify function that publishes what they say."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        functions: "LambdaClient",
        *,
        table: str,
        notify_function: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the clients and the names: of the executions table and of NotifyFunction (a name or an ARN)."""
        self._dynamodb = dynamodb
        self._functions = functions
        self._table = table
        self._notify_function = notify_function
        self._clock = clock

    def find(
        self,
        ids: Iterable[str] | None = None,
        *,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undelivered_only: bool = False,
    ) -> Iterator[str]:
        """Yield the ids of finished executions that every given filter lets through, in no order.

        `status` is an outcome (`FAILED`); `since` (included) and `until` (excluded) are about `finished_at`, and
        a time without zone is UTC; `undelivered_only` keeps those that were never notified. Without `ids` the
        whole table is read, a page at a time as the ids are taken: its cost grows with the table. With `ids`, what is
        unknown or not finished is passed over; `send` would say why. Raises boto3's ClientError.
        """
        wanted = _Filter(status, _text(since, ""), _text(until, "~"), undelivered_only, self._clock())
        items = self._every() if ids is None else self._each(ids)
        return (item["execution_id"]["S"] for item in items if wanted.matches(item))

    def send(self, execution_id: str) -> Sent:
        """Publish the notification of one execution again: the same id, time and data, to every subscriber.

        What can't be published comes back with its reason, and so does a fault of the function: one execution
        never stops the next. Raises boto3's ClientError where the function can't be called at all.
        """
        answer = self._functions.invoke(
            FunctionName=self._notify_function,
            InvocationType="RequestResponse",
            Payload=json.dumps({"redeliver": {"execution_id": execution_id}}).encode(),
        )
        given = json.loads(answer["Payload"].read() or "null")
        said: dict[str, Any] = given if isinstance(given, dict) else {}
        if answer.get("FunctionError") or "redelivered" not in said:
            # Its message may quote anything; the function's log has it all.
            kind = said.get("errorType")
            reason = f"the notify function failed ({kind or 'no answer'}); its log says why, and it can be asked again"
            return Sent(execution_id, redelivered=False, reason=reason)
        return Sent(
            execution_id,
            redelivered=said["redelivered"],
            outcome=said.get("outcome"),
            reason=said.get("reason"),
        )

    def _every(self) -> Iterator[Mapping[str, Any]]:
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table, FilterExpression="attribute_exists(finished_at)", **_LOOK
        )
        for page in pages:
            yield from page["Items"]

    def _each(self, ids: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        for execution_id in ids:
            key = {"execution_id": {"S": execution_id}}
            yield self._dynamodb.get_item(TableName=self._table, Key=key, **_LOOK).get("Item", {})


def _text(moment: datetime | None, default: str) -> str:
    """Return a time as records write it, so that texts compare as times do."""
    if moment is None:
        return default
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
