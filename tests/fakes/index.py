"""An index of the executions table in memory, with the queries of a list and no others."""

import hashlib
from typing import Any

from waterhook.domain.execution_list import Entry

_SIGNS = {
    "created_at <= :last": lambda time, values: time <= values[":last"],
    "created_at >= :first": lambda time, values: time >= values[":first"],
    "created_at BETWEEN :first AND :last": lambda time, values: values[":first"] <= time <= values[":last"],
}


class FakeIndex:
    """A DynamoDB client. Like DynamoDB it reads `Limit` items, then filters, and orders equal times in its own way."""

    def __init__(self) -> None:
        self.items: list[Entry] = []
        self.read_counts: list[int] = []
        """How many items each query has read."""

    def query(self, **query: Any) -> dict[str, Any]:
        assert query["ScanIndexForward"] is False
        values = {name: value["S"] for name, value in query["ExpressionAttributeValues"].items()}
        key, _, times = query["KeyConditionExpression"].partition(" AND ")
        assert key == "#key = :key"
        name = query["ExpressionAttributeNames"]["#key"]
        items = [item for item in self.items if item.get(name) == values[":key"]]
        if times:
            items = [item for item in items if _SIGNS[times](item["created_at"], values)]
        items.sort(key=_order, reverse=True)
        if start := query.get("ExclusiveStartKey"):
            begin = {attribute: value["S"] for attribute, value in start.items()}
            items = [item for item in items if _order(item) < _order(begin)]
        read, rest = items[: query["Limit"]], items[query["Limit"] :]
        self.read_counts.append(len(read))
        answer = {
            "Items": [_attributes(item) for item in read if _matches(item, query, values)],
            "ScannedCount": len(read),
        }
        # DynamoDB also returns the key of the last item if it is the last of the partition.
        if rest or len(read) == query["Limit"]:
            keys = ("execution_id", "created_at", name)
            answer["LastEvaluatedKey"] = _attributes({key: read[-1][key] for key in keys})
        return answer


def _order(item: Entry) -> tuple[str, str]:
    return item["created_at"], hashlib.md5(item["execution_id"].encode()).hexdigest()  # noqa: S324 - any order


def _matches(item: Entry, query: dict[str, Any], values: dict[str, str]) -> bool:
    names = {alias: name for alias, name in query["ExpressionAttributeNames"].items() if alias != "#key"}
    expected = {names[alias]: values[f":{alias[1:]}"] for alias in names}
    text = " AND ".join(f"{alias} = :{alias[1:]}" for alias in names)
    assert query.get("FilterExpression", "") == text
    return all(item.get(name) == value for name, value in expected.items())


def _attributes(item: Entry) -> dict[str, Any]:
    return {name: {"S": value} for name, value in item.items() if value is not None}
