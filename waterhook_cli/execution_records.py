"""Reads the record of an execution from the table. An operator has access to every record, whatever its trigger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from waterhook.storage.execution_record import from_attribute
from waterhook_cli.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """What the CLI shows of a record. It has neither input nor output. Times are RFC 3339."""

    execution_id: str
    status: str
    created_at: str = ""
    owner_execution_arn: str = ""
    chatbot_id: str | None = None
    finished_at: str | None = None
    output_ref: str | None = None

    @property
    def execution_name(self) -> str:
        """Name of the state machine execution. It contains the execution id only if the API was the trigger."""
        return self.owner_execution_arn.rpartition(":")[2]

    def __str__(self) -> str:
        """Return status and chatbot for a question or a message."""
        return f"{self.status}, chatbot {self.chatbot_id}" if self.chatbot_id else self.status


class RecordReader:
    """Reads records with the operator's permission `dynamodb:GetItem`."""

    def __init__(self, dynamodb: "DynamoDBClient", table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    @classmethod
    def of_stack(cls, stack: Stack) -> Self:
        """Return the reader for a stack."""
        return cls(stack.client("dynamodb"), stack.output("TableName"))

    def read(self, execution_id: str) -> RecordSummary | None:
        """Return the record, or None if there is none: it was erased or has expired, or never existed."""
        names = {f"#{number}": name for number, name in enumerate(RecordSummary.__dataclass_fields__)}
        item = self._dynamodb.get_item(
            TableName=self._table,
            Key={"execution_id": {"S": execution_id}},
            ConsistentRead=True,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
        ).get("Item", {})
        known = {name: from_attribute(item[name]) for name in names.values() if name in item}
        # The table also has items that are not records.
        return RecordSummary(**known) if "status" in known else None


# Headings and widths of a list of executions, without and with a result for each.
ID_COLUMNS = (("ID",), (32,))
RESULT_COLUMNS = (("ID", "RESULT"), (32, 0))
_MAX_DESCRIBED = 3


def describe(records: RecordReader, ids: Sequence[str]) -> str:
    """Return the first three executions with their status and chatbot, for a question."""
    shown = [f"{one} ({records.read(one) or 'without a record'})" for one in ids[:_MAX_DESCRIBED]]
    return ", ".join(shown) + (", ..." if len(ids) > _MAX_DESCRIBED else "")
