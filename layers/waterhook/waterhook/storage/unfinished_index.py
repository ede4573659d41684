"""The index of unfinished records: those without a notification, or with slots that are not released yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waterhook.storage.execution_record import UNFINISHED_SHARDS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# A sparse index: a record is in it from acceptance until its notification, so its size is that of the current work.
UNFINISHED_INDEX = "unfinished"
# Key of the item that stores the position of the last sweep. No execution has this id.
POSITION_ID = "sweep"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class UnfinishedEntry:
    """An unfinished record, and its key in the index."""

    execution_id: str
    owner: str
    key: Mapping[str, str]


class UnfinishedIndex:
    """The index of unfinished records. Its shards are read in a ring, so that a sweep can begin anywhere."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        """`client` is used for the index and for the position of the sweep."""
        self._table = table
        self._client = client

    def accepted_before(
        self, created_at: str, *, after: Mapping[str, str] | None = None
    ) -> Iterator[UnfinishedEntry]:
        """Yield every record that was accepted before `created_at`, beginning after the key `after`.

        Each shard's oldest record comes first. Records before `after` are yielded last. Pages are read when needed.
        """
        if after is None:
            for shard in UNFINISHED_SHARDS:
                yield from self._shard(shard, created_at)
            return
        first = UNFINISHED_SHARDS.index(after["unfinished"])
        yield from self._shard(UNFINISHED_SHARDS[first], created_at, after)
        for shard in UNFINISHED_SHARDS[first + 1 :] + UNFINISHED_SHARDS[:first]:
            yield from self._shard(shard, created_at)
        yield from self._shard(UNFINISHED_SHARDS[first], min(created_at, after["created_at"]))

    def position(self) -> Mapping[str, str] | None:
        """Return the key after which the next sweep begins, or None if the last sweep read the whole index."""
        key = {"execution_id": {"S": POSITION_ID}}
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})
        after = item.get("after", {}).get("M")
        return {name: value["S"] for name, value in after.items()} if after else None

    def save_position(self, after: Mapping[str, str] | None) -> None:
        """Store the key after which the next sweep begins."""
        item: dict[str, Any] = {"execution_id": {"S": POSITION_ID}}
        if after is not None:
            item["after"] = {"M": {name: {"S": value} for name, value in after.items()}}
        self._client.put_item(TableName=self._table, Item=item)

    def _shard(
        self, shard: str, before: str, after: Mapping[str, str] | None = None
    ) -> Iterator[UnfinishedEntry]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": UNFINISHED_INDEX,
            "KeyConditionExpression": "unfinished = :shard AND created_at < :before",
            "ExpressionAttributeValues": {":shard": {"S": shard}, ":before": {"S": before}},
            "Limit": _PAGE,
        }
        if after is not None:
            query["ExclusiveStartKey"] = {name: {"S": value} for name, value in after.items()}
        while True:
            page = self._client.query(**query)
            for item in page["Items"]:
                key = {name: item[name]["S"] for name in ("execution_id", "unfinished", "created_at")}
                yield UnfinishedEntry(key["execution_id"], item["owner_execution_arn"]["S"], key)
            if not (last := page.get("LastEvaluatedKey")):
                return
            query["ExclusiveStartKey"] = last
