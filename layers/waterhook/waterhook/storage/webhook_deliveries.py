"""The deliveries table: one item per delivery of a webhook. Its writes are conditional, as in the executions table.

A delivery is in the index `undelivered` until its result, so that a sweep finds it if its message was lost, or if its
next attempt is later than a message can wait. Failed deliveries are in a partition of their own.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import KEPT_AFTER_S, claimed_until
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.execution_record import UNFINISHED_SHARDS, from_attribute, to_attribute
from waterhook.storage.table_errors import translate_errors
from waterhook.text import MAX_ID_CHARS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

UNDELIVERED_INDEX = "undelivered"
# Partitions of the index: the first digit of the execution id, as in the index of unfinished records.
DUE_SHARDS = UNFINISHED_SHARDS
FAILED_SHARD = "failed"
_PAGE = 500
_CHANGED = "the delivery was changed by another call"

# The conditions. `#s` is `status`, a reserved word. The values are those of the delivery as it was read.
never_stored = "attribute_not_exists(pk)"  # two first attempts: the first one wins
# The result of an attempt and a resend change the status. A late attempt or result must not overwrite it. The condition
# also prevents that a write creates an item that TTL has deleted.
same_status = "#s = :status"
# Each attempt and each postponement changes one of them. Two messages of a delivery therefore make one attempt.
same_attempt = "attempts = :attempts AND next_at = :next_at"
same_claim = "claim = :claim"  # the result of an attempt is written before the next attempt begins, or never
no_claim = "attribute_not_exists(claim)"  # an attempt that began in the meantime wins over a postponement


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """An entry of the index. It may be older than the item, because the index is eventually consistent."""

    execution_id: str
    event_id: str
    status: DeliveryStatus
    host: str
    next_at: float
    queued: bool


class WebhookDeliveries:
    """The deliveries table. Each write raises RecordConflictError if its condition fails.

    A write whose response was lost is no conflict: the item is read again, and compared with what was written. Each
    method raises RecordUnavailableError if DynamoDB fails. The write may have been carried out then.
    """

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def get(self, execution_id: str, event_id: str) -> Delivery | None:
        """Return the delivery (consistent read), or None if it does not exist or the ids are not valid."""
        sort_key = _sort_key(execution_id, event_id)
        if not (sort_key and event_id.isascii() and len(event_id) <= MAX_ID_CHARS):
            return None  # DynamoDB refuses empty and too long keys
        with translate_errors(event_id):
            answer = self._client.get_item(
                TableName=self._table,
                Key={"pk": {"S": execution_id}, "sk": {"S": sort_key}},
                ConsistentRead=True,
            )
        item = answer.get("Item", {})
        return _from_item(item) if "status" in item else None

    def claim(self, delivery: Delivery, *, exists: bool, token: str, now: float) -> Delivery:
        """Begin the next attempt and return the delivery with it. `token` is unique to the attempt.

        `exists` is whether `delivery` was read from the table, or is new. If the function crashes, the attempt is
        repeated at `next_at`, see `claimed_until`. If the write fails or its response is lost, the token shows whether
        it was carried out.
        """
        attempts = delivery.attempts + 1
        claimed = replace(
            delivery,
            attempts=attempts,
            claim=token,
            last_attempt_at=now,
            next_at=claimed_until(attempts, now),
            queued=False,
        )
        try:
            return self._write(claimed, _as_read(delivery) if exists else None)
        except (RecordConflictError, RecordUnavailableError):
            current = self.get(delivery.execution_id, delivery.event_id)
            if current is None or current.claim != token:
                raise
            return current

    def finish(
        self,
        delivery: Delivery,
        status: DeliveryStatus,
        *,
        now: float,
        code: int | None,
        error: str | None,
    ) -> Delivery:
        """PENDING → DELIVERED, FAILED or GONE. `delivery` is the one that `claim` returned, or that was read.

        The delivery leaves the index, or moves to the partition of failed deliveries. One with `has_cleanup` is due
        once more before, a day later.
        """
        finished = replace(
            delivery,
            status=status,
            claim=None,
            last_code=code,
            last_error=error,
            delivered_at=now if status is DeliveryStatus.DELIVERED else None,
            next_at=now + KEPT_AFTER_S if delivery.has_cleanup else now,
            queued=False,
        )
        return self._write(finished, _as_read(delivery))

    def retry(
        self, delivery: Delivery, *, next_at: float, queued: bool, code: int | None, error: str | None
    ) -> Delivery:
        """Write the result of a failed attempt, and when the next one is due. `delivery` is as `claim` returned it."""
        failed = replace(
            delivery, claim=None, last_code=code, last_error=error, next_at=next_at, queued=queued
        )
        return self._write(failed, _as_read(delivery))

    def postpone(self, delivery: Delivery, *, exists: bool, next_at: float, queued: bool) -> Delivery:
        """Move the next attempt, without counting one. `exists` is as in `claim`."""
        postponed = replace(delivery, next_at=next_at, queued=queued)
        return self._write(postponed, _as_read(delivery) if exists else None)

    def reset(self, delivery: Delivery, *, exists: bool, now: float, queued: bool) -> Delivery:
        """Begin the delivery again: PENDING, without attempts, and due now. `exists` is as in `claim`.

        Raises RecordConflictError if an attempt is running.
        """
        if delivery.is_running(now):
            message = f"{delivery.event_id}: an attempt is running. Resend the webhook in a minute"
            raise RecordConflictError(message)
        fresh = Delivery.new(
            delivery.execution_id,
            delivery.event_id,
            host=delivery.host,
            now=now,
            expires_at=delivery.expires_at,
            has_cleanup=delivery.has_cleanup,
        )
        return self._write(replace(fresh, queued=queued), _as_read(delivery) if exists else None)

    def cleaned_up(self, delivery: Delivery) -> None:
        """Write that the record of a final delivery was cleaned up. A sweep does not find the delivery any more."""
        clean = replace(delivery, has_cleanup=False, next_at=delivery.next_at - KEPT_AFTER_S)
        try:
            self._write(clean, _as_read(delivery))
        except RecordConflictError:
            # TTL may have deleted the delivery.
            if self.get(delivery.execution_id, delivery.event_id) is not None:
                raise

    def of_execution(self, execution_id: str) -> list[Delivery]:
        """Return the deliveries of an execution (consistent read), in the order of their event ids."""
        return [_from_item(item) for item in self._items_of(execution_id) if "status" in item]

    def due(self, shard: str, before: float) -> Iterator[DueDelivery]:
        """Yield the entries of a shard that are due at `before`, the oldest one first. Pages are read when needed.

        A final delivery is among them if its record is to be cleaned up.
        """
        return self._entries(shard, "next_at <= :at", before)

    def failed(self, since: float = 0) -> Iterator[DueDelivery]:
        """Yield the deliveries that failed at `since` or later. `next_at` is when it failed."""
        yield from self._entries(FAILED_SHARD, "next_at >= :at", since)
        # These are due once more, to clean up their records.
        for shard in DUE_SHARDS:
            for entry in self._entries(shard, "next_at >= :at", since + KEPT_AFTER_S):
                if entry.status is DeliveryStatus.FAILED:
                    yield replace(entry, next_at=entry.next_at - KEPT_AFTER_S)

    def created_since(self, since: float) -> Iterator[Delivery]:
        """Yield the deliveries that began at `since` or later, in no order. Reads the whole table, for operators only.

        A delivery that was sent again began then.
        """
        arguments = {
            "FilterExpression": "created_at >= :since",
            "ExpressionAttributeValues": {":since": to_attribute(since)},
        }
        return map(_from_item, self._pages(self._client.scan, "deliveries", arguments))

    def delete(self, execution_id: str, event_id: str) -> None:
        """Delete a delivery whose record does not exist any more. It is no error if the delivery does not exist."""
        if sort_key := _sort_key(execution_id, event_id):
            with translate_errors(event_id):
                self._client.delete_item(
                    TableName=self._table, Key={"pk": {"S": execution_id}, "sk": {"S": sort_key}}
                )

    def delete_of(self, execution_id: str) -> int:
        """Delete the deliveries of an execution and return their number."""
        deleted = 0
        for item in list(self._items_of(execution_id)):
            with translate_errors(execution_id):
                self._client.delete_item(TableName=self._table, Key={"pk": item["pk"], "sk": item["sk"]})
            deleted += 1
        return deleted

    def _write(self, delivery: Delivery, as_read: tuple[str, dict[str, Any]] | None) -> Delivery:
        """Write every field under a condition and return the stored delivery. Without `as_read`, it must be new.

        Attributes of another version are kept.
        """
        condition, values = as_read or (never_stored, {})
        item = _to_item(delivery)
        written = _from_item(_key(delivery) | item)
        names = {f"#{index}": name for index, name in enumerate(item)}
        unset = [name for name in _ATTRIBUTES if name not in item]
        expression = "SET " + ", ".join(f"#{index} = :{index}" for index in range(len(item)))
        if unset:
            expression += f" REMOVE {', '.join(unset)}"
        if "#s" in condition:
            names["#s"] = "status"
        try:
            with translate_errors(delivery.event_id, _CHANGED):
                self._client.update_item(
                    TableName=self._table,
                    Key=_key(delivery),
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values
                    | {f":{index}": value for index, value in enumerate(item.values())},
                )
        except RecordConflictError:
            current = self.get(delivery.execution_id, delivery.event_id)
            if current != written:
                raise
        return written

    def _items_of(self, execution_id: str) -> Iterator[Mapping[str, Any]]:
        if not (execution_id.isascii() and 1 <= len(execution_id) <= MAX_ID_CHARS):
            return iter(())  # DynamoDB refuses empty and too long keys
        query = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": execution_id}},
            "ConsistentRead": True,
        }
        return self._query(execution_id, query)

    def _entries(self, shard: str, condition: str, at: float) -> Iterator[DueDelivery]:
        query = {
            "IndexName": UNDELIVERED_INDEX,
            "KeyConditionExpression": f"undelivered = :shard AND {condition}",
            "ExpressionAttributeValues": {":shard": {"S": shard}, ":at": to_attribute(at)},
        }
        for item in self._query(shard, query):
            execution_id = item["pk"]["S"]
            yield DueDelivery(
                execution_id=execution_id,
                event_id=f"{execution_id}/{item['sk']['S']}",
                status=DeliveryStatus(item["status"]["S"]),
                host=item["host"]["S"],
                next_at=from_attribute(item["next_at"]),
                queued=from_attribute(item["queued"]),
            )

    def _query(self, subject: str, arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return self._pages(self._client.query, subject, {"Limit": _PAGE, **arguments})

    def _pages(
        self, read: Callable[..., Any], subject: str, arguments: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        request = {"TableName": self._table, **arguments}
        while True:
            with translate_errors(subject):
                page = read(**request)
            yield from page["Items"]
            if not (last := page.get("LastEvaluatedKey")):
                return
            request["ExclusiveStartKey"] = last


_KEYS = ("execution_id", "event_id")
_FIELDS = tuple(name for name in Delivery.__dataclass_fields__ if name not in _KEYS)
_ATTRIBUTES = (*_FIELDS, "undelivered")


def _as_read(delivery: Delivery) -> tuple[str, dict[str, Any]]:
    """Return the condition that the item is still as `delivery` was read, and the values of the condition."""
    values = {
        ":status": to_attribute(delivery.status),
        ":attempts": to_attribute(delivery.attempts),
        ":next_at": to_attribute(math.ceil(delivery.next_at)),
    }
    if delivery.claim is None:
        return f"{same_status} AND {same_attempt} AND {no_claim}", values
    values[":claim"] = to_attribute(delivery.claim)
    return f"{same_status} AND {same_attempt} AND {same_claim}", values


def _to_item(delivery: Delivery) -> dict[str, Any]:
    """Return the attributes except the keys, without empty ones."""
    values = {name: getattr(delivery, name) for name in _FIELDS}
    values["next_at"] = math.ceil(delivery.next_at)
    values["undelivered"] = _partition(delivery)
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def _partition(delivery: Delivery) -> str | None:
    """Return the partition of the index, or None for a delivery that is not in the index."""
    if delivery.status is DeliveryStatus.PENDING or delivery.has_cleanup:
        return delivery.execution_id[0]
    return FAILED_SHARD if delivery.status is DeliveryStatus.FAILED else None


def _from_item(item: Mapping[str, Any]) -> Delivery:
    """Read an item. Attributes of another version are ignored."""
    execution_id = item["pk"]["S"]
    values = {name: from_attribute(item[name]) for name in _FIELDS if name in item}
    values["status"] = DeliveryStatus(values["status"])
    return Delivery(execution_id=execution_id, event_id=f"{execution_id}/{item['sk']['S']}", **values)


def _key(delivery: Delivery) -> dict[str, Any]:
    sort_key = _sort_key(delivery.execution_id, delivery.event_id)
    return {"pk": {"S": delivery.execution_id}, "sk": {"S": sort_key}}


def _sort_key(execution_id: str, event_id: str) -> str:
    """Return the part of the event id after the execution id, or "" if the two don't belong together."""
    first, _, rest = event_id.partition("/")
    return rest if first == execution_id else ""
