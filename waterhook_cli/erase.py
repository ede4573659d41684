"""Erasing one execution: what Waterhook keeps of it goes, and what can't go is named with its own end."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.storage.concurrency_limiter import ConcurrencyLimiter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

# What no path or wildcard can hide in: every execution has such an id.
_ID = re.compile(r"[0-9a-f]{32}")

# Step Functions keeps a history 90 days after the execution closed; SQS keeps a message 14 days at the longest;
# point-in-time recovery goes back 35 days. None of the three lets a single execution be taken out.
_HISTORY_DAYS, _MESSAGE_DAYS, _BACKUP_DAYS = 90, 14, 35


class CannotErase(Exception):
    """Nothing more was erased; the message says why and what to do."""


class NoSuchExecution(CannotErase):
    """There is nothing to erase: it never was, was erased, or has expired."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """A place that can't be erased: what is there, and the last day it may be, where that is known."""

    place: str
    holds: str
    until: date | None


@dataclass(frozen=True, slots=True)
class Erased:
    """What is gone: the record, the objects by their keys, a version of one each; and what stays elsewhere."""

    execution_id: str
    record: bool
    notified: bool
    """Whether its outcome had been notified. Where not, it never will be."""
    objects: tuple[str, ...]
    remaining: tuple[Remaining, ...]


class Eraser:
    """Works with the operator's own credentials; nothing that is deployed may erase."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        s3: "S3Client",
        *,
        table: str,
        bucket: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the clients and the names of the executions table and the results bucket."""
        self._dynamodb = dynamodb
        self._s3 = s3
        self._table = table
        self._bucket = bucket
        self._clock = clock

    def erase(self, execution_id: str) -> Erased:
        """Delete the outputs, give back the slots, delete the record, in this order: interrupted, it is called again.

        Its idempotency key is free afterwards. Raises CannotErase when there is no such execution or it has not
        ended, and boto3's ClientError when table or bucket fail.
        """
        if not _ID.fullmatch(execution_id):
            raise CannotErase(f"{execution_id!r} is no execution id: those have 32 hexadecimal digits")
        key = {"execution_id": {"S": execution_id}}
        item = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        if item is not None and "finished_at" not in item:
            status = item["status"]["S"]
            raise CannotErase(f"{execution_id} is {status}: cancel it first, then erase what is left of it")
        # By its prefix: what a step stored whose answer was lost is named in no record.
        objects = tuple(self._delete_objects(f"executions/{execution_id}/"))
        # Its outcome is written, or its record is gone: no slot is taken for it from here on.
        self._give_back(execution_id, item or {})
        if item is None and not objects:
            raise NoSuchExecution(f"there is no execution {execution_id}: it was erased or has expired")
        if item is not None:
            self._delete_record(item)
        return Erased(
            execution_id,
            record=item is not None,
            notified=item is not None and "notified_at" in item,
            objects=objects,
            remaining=_remaining(datetime.fromtimestamp(self._clock(), UTC), item or {}),
        )

    def _delete_objects(self, prefix: str) -> Iterator[str]:
        """Delete every version and delete marker under a prefix, and yield the key of each version."""
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            versions, markers = page.get("Versions", []), page.get("DeleteMarkers", [])
            named: list[ObjectIdentifierTypeDef] = [
                {"Key": one["Key"], "VersionId": one["VersionId"]} for one in [*versions, *markers]
            ]
            if not named:
                continue
            answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": named, "Quiet": True})
            if failed := answer.get("Errors"):
                raise CannotErase(
                    f"{failed[0].get('Key')}: S3 did not delete it ({failed[0].get('Code')}); erase again"
                )
            yield from (one["Key"] for one in versions)

    def _give_back(self, execution_id: str, item: Mapping[str, Any]) -> None:
        """Take its name off the lists of running jobs (waterhook.capacity), where it is on one.

        Of an execution whose record is gone only the list of the stack is known.
        """
        chatbot_id = item["chatbot_id"]["S"] if "chatbot_id" in item else None
        for name in ConcurrencyLimiter.slots_of(chatbot_id):
            self._conditionally(
                self._dynamodb.update_item,
                Key={"execution_id": {"S": name}},
                UpdateExpression="DELETE running :ids",
                ConditionExpression="contains(running, :id)",
                ExpressionAttributeValues={":ids": {"SS": [execution_id]}, ":id": {"S": execution_id}},
            )

    def _delete_record(self, item: Mapping[str, Any]) -> None:
        """Delete the record that was looked at, and no later one that has its id since: its key may be used again."""
        deleted = self._conditionally(
            self._dynamodb.delete_item,
            Key={"execution_id": item["execution_id"]},
            ConditionExpression="attribute_not_exists(execution_id)"
            " OR (owner_execution_arn = :owner AND finished_at = :finished)",
            ExpressionAttributeValues={
                ":owner": item["owner_execution_arn"],
                ":finished": item["finished_at"],
            },
        )
        if not deleted:
            execution_id = item["execution_id"]["S"]
            raise CannotErase(f"{execution_id} was started anew in between: look at it, then erase it again")

    def _conditionally(self, write: Callable[..., object], **asked: Any) -> bool:
        """Return whether the condition of a write held."""
        try:
            write(TableName=self._table, **asked)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _remaining(now: datetime, item: Mapping[str, Any]) -> tuple[Remaining, ...]:
    """Return every place that Waterhook can't erase from. What has expired meanwhile is left out."""
    today = now.date()
    ended = datetime.fromisoformat(item["finished_at"]["S"]).date() if "finished_at" in item else today
    places = (
        Remaining(
            "history of the Step Functions execution",
            "input, metadata, output or its reference; kept 90 days after the execution closed",
            ended + timedelta(days=_HISTORY_DAYS),
        ),
        Remaining(
            "queues that subscribe to the topic, and their dead-letter queues",
            "the notification, until it is received; a queue keeps a message 14 days at most",
            today + timedelta(days=_MESSAGE_DAYS),
        ),
        Remaining(
            "point-in-time recovery of the table",
            "the record as it was; only a table restored from it would show it",
            today + timedelta(days=_BACKUP_DAYS),
        ),
        Remaining("whoever received the notification, and Waterflai", "copies of their own", None),
        Remaining("logs", "ids, outcomes and codes; nothing of what went in or came out", None),
    )
    return tuple(place for place in places if place.until is None or place.until >= today)
