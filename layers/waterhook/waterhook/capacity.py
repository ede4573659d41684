"""A cap on running jobs: slots that are named after their executions, so taking or giving one back twice is once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook import aws
from waterhook.errors import RecordUnavailable, aws_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# All names are in one item, which is written whole: a thousand of them cost 32 write units a time.
MAX_CAP = 1000

# Whoever holds a slot is listed by name: a counter would drift with the first crash.
free_slot = "attribute_not_exists(running) OR contains(running, :id) OR size(running) < :cap"


@dataclass(frozen=True, slots=True)
class Caps:
    """How many jobs may run at once; 0 is no cap."""

    stack: int = 0
    chatbot: int = 0

    def __bool__(self) -> bool:
        """Whether there is any cap."""
        return bool(self.stack or self.chatbot)


class Capacity:
    """The slots, kept in the executions table: one item for the stack, one for each chatbot."""

    def __init__(self, table: str, caps: Caps, client: "DynamoDBClient | None" = None) -> None:
        """Open nothing where there is no cap."""
        self._table = table
        self._caps = caps
        self._given = client

    @property
    def _client(self) -> "DynamoDBClient":
        self._given = self._given or aws.session().client("dynamodb")
        return self._given

    def take(self, execution_id: str, chatbot_id: str, waiting: Mapping[str, Any] | None = None) -> bool:
        """Take a slot under every cap and return whether there was one; whoever holds it gets it again.

        `waiting` is a write to the execution's record that must succeed as well, else no slot is taken.
        Raises RecordUnavailable when the table fails.
        """
        updates = [
            self._update(key, "ADD running :ids", execution_id)
            | {"ConditionExpression": free_slot, "ExpressionAttributeValues": _values(execution_id, cap)}
            for key, cap in self._items(chatbot_id)
        ]
        if not updates:
            return True
        updates += [waiting] if waiting else []
        with _available(execution_id):
            try:
                self._client.transact_write_items(TransactItems=[{"Update": update} for update in updates])
            except ClientError as error:
                # No slot, or others were taking theirs at this very moment: either way, later.
                if error.response["Error"]["Code"] == "TransactionCanceledException":
                    return False
                raise
        return True

    def give_back(self, execution_id: str, chatbot_id: str | None) -> None:
        """Give the slots back; without a slot nothing happens. Raises RecordUnavailable when the table fails."""
        for key, _ in self._items(chatbot_id or ""):
            with _available(execution_id):
                self._client.update_item(**self._update(key, "DELETE running :ids", execution_id))

    def _items(self, chatbot_id: str) -> Iterator[tuple[str, int]]:
        # No execution has such an id: theirs are 32 hexadecimal digits.
        if self._caps.stack:
            yield "capacity", self._caps.stack
        if self._caps.chatbot and chatbot_id:
            yield f"capacity/{chatbot_id}", self._caps.chatbot

    def _update(self, key: str, expression: str, execution_id: str) -> Any:
        return {
            "TableName": self._table,
            "Key": {"execution_id": {"S": key}},
            "UpdateExpression": expression,
            "ExpressionAttributeValues": {":ids": {"SS": [execution_id]}},
        }


NO_CAP = Capacity("", Caps())


def _values(execution_id: str, cap: int) -> dict[str, Any]:
    return {":ids": {"SS": [execution_id]}, ":id": {"S": execution_id}, ":cap": {"N": str(cap)}}


@contextmanager
def _available(execution_id: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = aws_code(error)
        raise RecordUnavailable(f"{execution_id}: the table of slots failed: {code}") from error
