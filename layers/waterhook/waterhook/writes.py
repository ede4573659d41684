"""How a change of a record is put to DynamoDB, and what its refusals mean."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import RecordConflict, RecordUnavailable, aws_code
from waterhook.models import Status
from waterhook.record import Record, to_attribute

_STATUS_VALUES = {":accepted": Status.ACCEPTED, ":starting": Status.STARTING, ":running": Status.RUNNING}


def update(
    table: str, record: Record, changes: Mapping[str, Any], condition: str, drop: list[str] | None = None
) -> Any:
    """Return the arguments of an UpdateItem that sets `changes`, less what is None, and removes `drop`.

    A condition may speak of `#s`, the status, of each living status by its name (`:accepted`), of `:me`, the owner
    that the record names, and of a change by its place (`:0`).
    """
    given = {name: value for name, value in changes.items() if value is not None}
    names = {f"#{index}": name for index, name in enumerate(given)} | {"#s": "status"}
    values = {f":{index}": to_attribute(value) for index, value in enumerate(given.values())}
    values |= {name: to_attribute(value) for name, value in _STATUS_VALUES.items()}
    values[":me"] = to_attribute(record.owner_execution_arn)
    clauses = {
        "SET": [f"#{index} = :{index}" for index in range(len(given))],
        "REMOVE": drop or [],
    }
    expression = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts)
    used = f"{expression} {condition}"
    # DynamoDB refuses a request that defines what it doesn't use, and one with an empty map.
    defined = {
        "ExpressionAttributeNames": {name: value for name, value in names.items() if name in used},
        "ExpressionAttributeValues": {name: value for name, value in values.items() if name in used},
    }
    return {
        "TableName": table,
        "Key": {"execution_id": {"S": record.execution_id}},
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        **{name: value for name, value in defined.items() if value},
    }


@contextmanager
def racing(execution_id: str) -> Iterator[None]:
    """Turn a lost race into RecordConflict and any other failure into RecordUnavailable."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = aws_code(error)
        if code == "ConditionalCheckFailedException":
            message = f"{execution_id}: the record was changed in between, or is another execution's"
            raise RecordConflict(message) from error
        message = f"{execution_id}: the table failed: {code}"
        raise RecordUnavailable(message) from error
