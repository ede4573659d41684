"""Pages of the executions table: the executions of one caller, or those of every caller and trigger."""

from typing import TYPE_CHECKING, Any

from waterhook.domain.execution_list import Entry, ListFilter, PartitionRead, Position, merge
from waterhook.storage.execution_record import TIME_SHARDS, from_attribute
from waterhook.storage.table_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Index of the executions of each caller. A record without a caller is not in it.
CALLER_INDEX = "by_caller"
# Index of all executions, in TIME_SHARDS.
TIME_INDEX = "by_time"
LISTED_FIELDS = ("execution_id", "status", "chatbot_id", "created_at", "finished_at", "source", "caller")
# DynamoDB filters after reading. A page with a filter reads at most about this many entries of each partition, and may
# be short or empty although a next page exists. An entry has at most 1 KB, and a query reads up to 1 MB.
_FILTERED_READS = 500


class ExecutionLists:
    """Reads pages of executions, newest first, from the indexes. These are eventually consistent.

    A record keeps its time and id, so that pages lose and repeat no execution that was in the index at the first page,
    whatever happens between them. Raises RecordUnavailableError if DynamoDB fails.
    """

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def of_caller(
        self, caller: str, filters: ListFilter, limit: int, position: Position | None
    ) -> tuple[list[Entry], Position | None]:
        """Return a page of a caller's executions, and the position of the next page or None."""
        return merge([self._read((CALLER_INDEX, "caller", caller), filters, limit, position)], limit)

    def of_all(
        self, filters: ListFilter, limit: int, position: Position | None
    ) -> tuple[list[Entry], Position | None]:
        """Return a page of all executions, and the position of the next page or None."""
        from concurrent.futures import ThreadPoolExecutor

        def read(shard: str) -> PartitionRead:
            return self._read((TIME_INDEX, "shard", shard), filters, limit, position)

        # One after the other, four slow queries would outlast the function.
        with ThreadPoolExecutor(len(TIME_SHARDS)) as pool:
            return merge(pool.map(read, TIME_SHARDS), limit)

    def _read(
        self, partition: tuple[str, str, str], filters: ListFilter, limit: int, position: Position | None
    ) -> PartitionRead:
        """Read a partition from the position on, until it has a page or _FILTERED_READS entries were read."""
        first, last = filters.first, filters.last
        if position is not None:
            last = position.created_at if last is None else min(last, position.created_at)
        if first is not None and last is not None and first > last:
            return PartitionRead([], None)
        is_filtered = bool(filters.attributes)
        # One more than a page, because the last entry read is left out: others of the same time may follow.
        query = self._query(partition, filters, first, last) | {
            "Limit": _FILTERED_READS if is_filtered else limit + 1
        }
        entries: list[Entry] = []
        count = 0
        while True:
            with translate_errors(f"index {partition[0]}"):
                page = self._client.query(**query)
            count += page["ScannedCount"]
            found = map(_entry, page["Items"])
            entries += [entry for entry in found if position is None or position.precedes(entry)]
            key = page.get("LastEvaluatedKey")
            if not key:
                return PartitionRead(entries, None)
            read_to = key["created_at"]["S"]
            # Otherwise the next page would begin where this one began.
            advances = position is None or read_to < position.created_at
            has_page = sum(entry["created_at"] > read_to for entry in entries) >= limit
            if has_page or (is_filtered and advances and count >= _FILTERED_READS):
                return PartitionRead(entries, read_to)
            query["ExclusiveStartKey"] = key

    def _query(
        self, partition: tuple[str, str, str], filters: ListFilter, first: str | None, last: str | None
    ) -> dict[str, Any]:
        index, key, value = partition
        # Aliases, because `shard`, `status` and `source` are reserved words.
        names = {"#key": key} | {f"#{name}": name for name in filters.attributes}
        conditions = ["#key = :key"]
        values = {":key": value}
        if first is not None and last is not None:
            conditions.append("created_at BETWEEN :first AND :last")
        elif first is not None or last is not None:
            conditions.append("created_at >= :first" if last is None else "created_at <= :last")
        values |= {name: time for name, time in ((":first", first), (":last", last)) if time is not None}
        values |= {f":{name}": text for name, text in filters.attributes.items()}
        query = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {name: {"S": text} for name, text in values.items()},
            "ScanIndexForward": False,
        }
        if filters.attributes:
            query["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in filters.attributes)
        return query


def _entry(item: Any) -> Entry:
    return {name: from_attribute(item[name]) for name in LISTED_FIELDS if name in item}
