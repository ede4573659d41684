"""DynamoDB tables in dictionaries, with the operations and expressions that Waterhook uses and no others.

It is about 50 times faster than moto. test_dynamodb.py compares the two.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from waterhook.storage.unfinished_index import UNFINISHED_INDEX
from waterhook.storage.webhook_deliveries import UNDELIVERED_INDEX

type Item = dict[str, Any]
type Values = Mapping[str, Any]
"""The values of an expression, by their names such as `:now`."""
type Condition = Callable[[Item, Values], bool]

_TERMS: dict[str, Callable[[re.Match[str]], Condition]] = {
    r"attribute_not_exists\((\w+)\)": lambda m: lambda item, _: m[1] not in item,
    r"attribute_exists\((\w+)\)": lambda m: lambda item, _: m[1] in item,
    r"([#\w]+) = (:\w+)": lambda m: (
        lambda item, values: _name(m[1]) in item and item[_name(m[1])] == values[m[2]]
    ),
    r"([#\w]+) < (:\w+)": lambda m: (
        lambda item, values: m[1] in item and _value(item[m[1]]) < _value(values[m[2]])
    ),
    r"(\w+) ([<>])= (:\w+)": lambda m: (
        lambda item, values: m[1] in item and _compare(_value(item[m[1]]), m[2], _value(values[m[3]]))
    ),
    r"([#\w]+) IN \(([^)]+)\)": lambda m: (
        lambda item, values: item.get(_name(m[1])) in [values[value] for value in m[2].split(", ")]
    ),
    r"contains\((\w+), (:\w+)\)": lambda m: (
        lambda item, values: values[m[2]]["S"] in item.get(m[1], {"SS": []})["SS"]
    ),
    r"size\((\w+)\) < (:\w+)": lambda m: (
        lambda item, values: m[1] in item and len(item[m[1]]["SS"]) < _number(values[m[2]])
    ),
}


def _name(text: str) -> str:
    # The conditions have no other alias than `#s`.
    return "status" if text == "#s" else text


def _value(attribute: Mapping[str, str]) -> Any:
    """Return a number or a text. DynamoDB compares texts by their characters, as Python does."""
    return attribute["S"] if "S" in attribute else _number(attribute)


def _compare(left: Any, sign: str, right: Any) -> bool:
    return bool(left <= right if sign == "<" else left >= right)


def _number(attribute: Mapping[str, str]) -> float:
    return float(attribute["N"])


@cache
def condition(expression: str) -> Condition:
    """Return a condition as a function of an item and the expression's values.

    Raises NotImplementedError for a term that Waterhook did not use so far: add it to _TERMS.
    """
    if re.fullmatch(r"\([^()]*\)", expression):
        return condition(expression[1:-1])
    for word, combine in ((" OR ", any), (" AND ", all)):
        if word in expression:
            parts = [condition(part) for part in expression.split(word)]
            return lambda item, values: combine(part(item, values) for part in parts)
    for pattern, build in _TERMS.items():
        if found := re.fullmatch(pattern, expression):
            return build(found)
    raise NotImplementedError(expression)


@cache
def _clauses(expression: str) -> list[tuple[str, list[list[str]]]]:
    """Return the clauses of an update expression: `SET`, `REMOVE`, `ADD` or `DELETE`, each with its parts."""
    words = re.split(r" ?(SET|REMOVE|ADD|DELETE) ", expression)[1:]
    return [
        (verb, [re.split(r" = | ", part) for part in rest.split(", ")])
        for verb, rest in zip(words[::2], words[1::2], strict=True)
    ]


def refusal(code: str, operation: str, status: int = 400, retries: int = 0) -> ClientError:
    """Return an error as boto3 raises it."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": "injected"},
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
    """A client of one table. Items are found by the text of their key, or by the texts of both parts of it."""

    def __init__(
        self,
        on_write: Callable[[Item | None, Item | None], None] = lambda _before, _after: None,
        *,
        key: Sequence[str] = ("execution_id",),
    ) -> None:
        """`on_write` is called with the item before and after each write. `key` has the names of the key."""
        self.items: dict[Any, Item] = {}
        self._on_write = on_write
        self._key_names = tuple(key)

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        item = self.items.get(self._key_of(arguments["Key"]))
        return {} if item is None else {"Item": dict(item)}

    def query(self, **arguments: Any) -> dict[str, Any]:
        """Return a shard of the index of unfinished executions, of the index of due deliveries, or one partition.

        Other indexes are not simulated.
        """
        values = arguments["ExpressionAttributeValues"]
        if arguments.get("IndexName") == UNFINISHED_INDEX:
            shard = [item for item in self.items.values() if item.get("unfinished") == values[":shard"]]
            return {"Items": [item for item in shard if item["created_at"]["S"] < values[":before"]["S"]]}
        is_met = condition(arguments["KeyConditionExpression"])
        found = [item for item in self.items.values() if is_met(item, values)]
        order = "next_at" if arguments.get("IndexName") == UNDELIVERED_INDEX else "sk"
        return {"Items": sorted(found, key=lambda item: _value(item[order]))}

    def put_item(self, **arguments: Any) -> dict[str, Any]:
        key = self._key_of(arguments["Item"])
        self._check("PutItem", key, arguments)
        self._write(key, dict(arguments["Item"]))
        return {}

    def delete_item(self, **arguments: Any) -> dict[str, Any]:
        key = self._key_of(arguments["Key"])
        self._check("DeleteItem", key, arguments)
        self._write(key, None)
        return {}

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        key = self._key_of(arguments["Key"])
        self._check("UpdateItem", key, arguments)
        after = self._updated(key, arguments)
        self._write(key, after)
        return {"Attributes": after}

    def transact_write_items(self, **arguments: Any) -> dict[str, Any]:
        updates = [entry["Update"] for entry in arguments["TransactItems"]]
        assert len(updates) == len(arguments["TransactItems"]), "only updates are simulated"
        keys = [self._key_of(update["Key"]) for update in updates]
        are_met = [self._is_met(key, update) for key, update in zip(keys, updates, strict=True)]
        if not all(are_met):
            error: Any = refusal("TransactionCanceledException", "TransactWriteItems")
            reasons = [{"Code": "None" if is_met else "ConditionalCheckFailed"} for is_met in are_met]
            error.response["CancellationReasons"] = reasons
            raise error
        for key, update in zip(keys, updates, strict=True):
            self._write(key, self._updated(key, update))
        return {}

    def slot_holders(self) -> Iterator[str]:
        """Yield the id of each execution that holds a concurrency slot."""
        for item in self.items.values():
            yield from item.get("running", {"SS": []})["SS"]

    def _key_of(self, attributes: Values) -> Any:
        texts = tuple(attributes[name]["S"] for name in self._key_names)
        return texts if len(texts) > 1 else texts[0]

    def _is_met(self, key: Any, arguments: Values) -> bool:
        expression = arguments.get("ConditionExpression")
        values = arguments.get("ExpressionAttributeValues", {})
        return expression is None or condition(expression)(self.items.get(key, {}), values)

    def _check(self, operation: str, key: Any, arguments: Values) -> None:
        assert arguments.get("ExpressionAttributeNames", {}).get("#s", "status") == "status"
        if not self._is_met(key, arguments):
            raise refusal("ConditionalCheckFailedException", operation)

    def _updated(self, key: Any, arguments: Values) -> Item:
        item = dict(self.items.get(key) or arguments["Key"])
        names = arguments.get("ExpressionAttributeNames", {})
        values = arguments.get("ExpressionAttributeValues", {})
        for verb, parts in _clauses(arguments["UpdateExpression"]):
            for part in parts:
                name = names.get(part[0], part[0])
                if verb == "SET":
                    item[name] = values[part[1]]
                elif verb == "REMOVE":
                    item.pop(name, None)
                else:
                    old, operand = set(item.get(name, {"SS": []})["SS"]), set(values[part[1]]["SS"])
                    new = old | operand if verb == "ADD" else old - operand
                    # DynamoDB has no empty sets: the attribute is removed with its last element.
                    item.pop(name, None)
                    item |= {name: {"SS": sorted(new)}} if new else {}
        return item

    def _write(self, key: Any, after: Item | None) -> None:
        self._on_write(self.items.get(key), after)
        if after is None:
            self.items.pop(key, None)
        else:
            self.items[key] = after
