"""DynamoDB in a dictionary: the few operations and expressions that records and capacity use, and no others."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from waterhook.storage.unfinished_index import UNFINISHED_INDEX

type Item = dict[str, Any]
type Given = Mapping[str, Any]
type Test = Callable[[Item, Given], bool]

_TERMS: dict[str, Callable[[re.Match[str]], Test]] = {
    r"attribute_not_exists\((\w+)\)": lambda m: lambda item, _: m[1] not in item,
    r"attribute_exists\((\w+)\)": lambda m: lambda item, _: m[1] in item,
    r"([#\w]+) = (:\w+)": lambda m: (
        lambda item, given: _name(m[1]) in item and item[_name(m[1])] == given[m[2]]
    ),
    r"([#\w]+) < (:\w+)": lambda m: (
        lambda item, given: m[1] in item and _value(item[m[1]]) < _value(given[m[2]])
    ),
    r"([#\w]+) IN \(([^)]+)\)": lambda m: (
        lambda item, given: item.get(_name(m[1])) in [given[value] for value in m[2].split(", ")]
    ),
    r"contains\((\w+), (:\w+)\)": lambda m: (
        lambda item, given: given[m[2]]["S"] in item.get(m[1], {"SS": []})["SS"]
    ),
    r"size\((\w+)\) < (:\w+)": lambda m: (
        lambda item, given: m[1] in item and len(item[m[1]]["SS"]) < _number(given[m[2]])
    ),
}


def _name(text: str) -> str:
    # `#s` is the one alias that our conditions use.
    return "status" if text == "#s" else text


def _value(attribute: Mapping[str, str]) -> Any:
    """A number, or a text that sorts as it stands."""
    return attribute["S"] if "S" in attribute else _number(attribute)


def _number(attribute: Mapping[str, str]) -> float:
    return float(attribute["N"])


@cache
def condition(expression: str) -> Test:
    """Return a condition as a function of an item and the expression's values."""
    for word, several in ((" OR ", any), (" AND ", all)):
        if word in expression:
            parts = [condition(part) for part in expression.split(word)]
            return lambda item, given: several(part(item, given) for part in parts)
    for pattern, test in _TERMS.items():
        if found := re.fullmatch(pattern, expression):
            return test(found)
    raise NotImplementedError(expression)


@cache
def _clauses(expression: str) -> list[tuple[str, list[list[str]]]]:
    """Return an update's clauses: `SET`, `REMOVE`, `ADD`, `DELETE`, and what each is about."""
    words = re.split(r" ?(SET|REMOVE|ADD|DELETE) ", expression)[1:]
    return [
        (verb, [re.split(r" = | ", part) for part in rest.split(", ")])
        for verb, rest in zip(words[::2], words[1::2], strict=True)
    ]


def refusal(code: str, operation: str, status: int = 400, retries: int = 0) -> ClientError:
    """Return an error as boto3 raises it."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": "as planned"},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RetryAttempts": retries,
                "RequestId": "",
                "HostId": "",
                "HTTPHeaders": {},
            },
        },
        operation,
    )


class Table:
    """A client of one table, keyed by `execution_id`. `changed` sees every item before and after."""

    def __init__(
        self, changed: Callable[[Item | None, Item | None], None] = lambda _before, _after: None
    ) -> None:
        self.items: dict[str, Item] = {}
        self._changed = changed

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        item = self.items.get(arguments["Key"]["execution_id"]["S"])
        return {} if item is None else {"Item": dict(item)}

    def query(self, **arguments: Any) -> dict[str, Any]:
        """The index of what is still to be notified; the only one that is queried here."""
        assert arguments["IndexName"] == UNFINISHED_INDEX
        given = arguments["ExpressionAttributeValues"]
        there = [item for item in self.items.values() if item.get("unfinished") == given[":shard"]]
        return {"Items": [item for item in there if item["created_at"]["S"] < given[":before"]["S"]]}

    def put_item(self, **arguments: Any) -> dict[str, Any]:
        key = arguments["Item"]["execution_id"]["S"]
        self._check("PutItem", key, arguments)
        self._write(key, dict(arguments["Item"]))
        return {}

    def delete_item(self, **arguments: Any) -> dict[str, Any]:
        key = arguments["Key"]["execution_id"]["S"]
        self._check("DeleteItem", key, arguments)
        self._write(key, None)
        return {}

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        key = arguments["Key"]["execution_id"]["S"]
        self._check("UpdateItem", key, arguments)
        after = self._updated(key, arguments)
        self._write(key, after)
        return {"Attributes": after}

    def transact_write_items(self, **arguments: Any) -> dict[str, Any]:
        updates = [entry["Update"] for entry in arguments["TransactItems"]]
        assert len(updates) == len(arguments["TransactItems"]), "only updates are known here"
        keys = [update["Key"]["execution_id"]["S"] for update in updates]
        held = [self._holds(key, update) for key, update in zip(keys, updates, strict=True)]
        if not all(held):
            refused: Any = refusal("TransactionCanceledException", "TransactWriteItems")
            reasons = [{"Code": "None" if one else "ConditionalCheckFailed"} for one in held]
            refused.response["CancellationReasons"] = reasons
            raise refused
        for key, update in zip(keys, updates, strict=True):
            self._write(key, self._updated(key, update))
        return {}

    def holders(self) -> Iterator[str]:
        """Yield the executions that hold a slot of a capacity item."""
        for item in self.items.values():
            yield from item.get("running", {"SS": []})["SS"]

    def _holds(self, key: str, arguments: Given) -> bool:
        expression = arguments.get("ConditionExpression")
        given = arguments.get("ExpressionAttributeValues", {})
        return expression is None or condition(expression)(self.items.get(key, {}), given)

    def _check(self, operation: str, key: str, arguments: Given) -> None:
        assert arguments.get("ExpressionAttributeNames", {}).get("#s", "status") == "status"
        if not self._holds(key, arguments):
            raise refusal("ConditionalCheckFailedException", operation)

    def _updated(self, key: str, arguments: Given) -> Item:
        item = dict(self.items.get(key) or arguments["Key"])
        names, given = (
            arguments.get("ExpressionAttributeNames", {}),
            arguments.get("ExpressionAttributeValues", {}),
        )
        for verb, parts in _clauses(arguments["UpdateExpression"]):
            for part in parts:
                name = names.get(part[0], part[0])
                if verb == "SET":
                    item[name] = given[part[1]]
                elif verb == "REMOVE":
                    item.pop(name, None)
                else:
                    there, these = set(item.get(name, {"SS": []})["SS"]), set(given[part[1]]["SS"])
                    left = there | these if verb == "ADD" else there - these
                    # A set is never empty: its attribute goes with its last element.
                    item.pop(name, None)
                    item |= {name: {"SS": sorted(left)}} if left else {}
        return item

    def _write(self, key: str, after: Item | None) -> None:
        self._changed(self.items.get(key), after)
        if after is None:
            self.items.pop(key, None)
        else:
            self.items[key] = after
