"""The index of records whose notification is still to come."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waterhook.storage.execution_record import UNFINISHED_SHARDS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Sparse: a record is in it from its acceptance until it is notified, so it is as long as there is work.
UNFINISHED_INDEX = "unfinished"
# The item of the table that holds where the last sweep stopped. No execution has such an id.
POSITION_ID = "sweep"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class UnfinishedEntry:
    """A record in the index, and the key of its place there."""

    execution_id: str
    owner: str
    key: Mapping[str, str]


class UnfinishedIndex:
    """The index of records whose notification is still to come, as a ring of shards."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        """Keep the table's name and a client."""
        self._table = table
        self._client = client

    def before(self, created_at: str, *, after: Mapping[str, str] | None = None) -> Iterator[UnfinishedEntry]:
        """Yield every record that was accepted earlier, each shard's oldest first, beginning behind a key.

        A page is read when it is reached. What comes before the key is yielded last.
        """
        if after is None:
            for shard in UNFINISHED_SHARDS:
                yield from self._shard(shard, created_at)
            return
        turn = UNFINISHED_SHARDS.index(after["unfinished"])
        yield from self._shard(UNFINISHED_SHARDS[turn], created_at, after)
        for shard in UNFINISHED_SHARDS[turn + 1 :] + UNFINISHED_SHARDS[:turn]:
            yield from self._shard(shard, created_at)
        yield from self._shard(UNFINISHED_SHARDS[turn], min(created_at, after["created_at"]))

    def position(self) -> Mapping[str, str] | None:
        """Return the key behind which the next sweep begins, or None where the last one reached everything."""
        key = {"execution_id": {"S": POSITION_ID}}
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})
        after = item.get("after", {}).get("M")
        return {name: value["S"] for name, value in after.items()} if after else None

    def stop_at(self, after: Mapping[str, str] | None) -> None:
        """Keep the key behind which the next sweep begins."""
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
