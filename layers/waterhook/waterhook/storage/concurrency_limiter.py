"""Limits the number of running jobs with slots in DynamoDB.

An item lists the executions that hold a slot, by their ids. Acquiring or releasing a slot twice therefore has the same
effect as once. A counter would become wrong with the first crash.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.jitter import jitter_of
from waterhook.errors import RecordConflictError, RecordUnavailableError, aws_error_code
from waterhook.settings import ConcurrencyLimits

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# An execution that already holds a slot gets it again.
free_slot = "attribute_not_exists(running) OR contains(running, :id) OR size(running) < :cap"
held_slot = "contains(running, :id)"
# Key of the item for the whole stack. Execution ids are 32 hexadecimal digits, so no execution has this id.
_STACK = "capacity"
# Pauses in seconds after a conflict with another transaction, which takes milliseconds. Jitter up to doubles them.
_PAUSES_S = (0.05, 0.1, 0.2, 0.4)
_CONFLICTS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
_FAILED = "ConditionalCheckFailed"
_CONFLICT = "TransactionConflictException"


@dataclass(frozen=True, slots=True)
class Acquisition:
    """The result of acquiring a slot. True if it was acquired."""

    full: str = ""
    """The limits that are reached, with their values: `MaxRunning 2`."""
    is_contended: bool = False
    """Other transactions or throttling prevented each attempt, so it is unknown whether a slot is free."""

    def __bool__(self) -> bool:
        """Whether the slot was acquired."""
        return not self.full and not self.is_contended


class ConcurrencyLimiter:
    """The slots, in the executions table: one item for the stack, and one for each chatbot.

    The record of an execution lists the items in which it has a slot. Slots are therefore released correctly even if
    the limits have changed.
    """

    def __init__(
        self,
        table: str,
        limits: ConcurrencyLimits,
        client: "DynamoDBClient",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`sleep` is called between two attempts after a conflict."""
        self._table = table
        self._limits = limits
        self._client = client
        self._sleep = sleep

    def acquire(
        self,
        execution_id: str,
        chatbot_id: str,
        held: Iterable[str] = (),
        mark: Callable[[list[str]], Any] | None = None,
    ) -> Acquisition:
        """Acquire a slot under every limit, in one transaction. An execution that has a slot gets it again.

        `held` are the slots that the record lists. `mark` returns the write that lists the new ones in the record.
        Raises RecordConflictError if the condition of that write fails, RecordUnavailableError if DynamoDB fails.
        """
        limits = self._limits_by_item(chatbot_id)
        if limits.keys() <= set(held):
            return Acquisition()
        updates = [
            self._update(key, execution_id, "ADD", free_slot) | _values(execution_id, limit)
            for key, (_, limit) in limits.items()
        ]
        updates += [mark(sorted({*held, *limits}))] if mark else []
        for _ in self._attempts(execution_id):
            reasons = self._transact(execution_id, updates)
            if reasons is None:
                return Acquisition()
            if mark and reasons[-1:] == [_FAILED]:
                raise RecordConflictError(f"{execution_id}: the record was changed by another call")
            # The cancellation reasons have the order of the writes: the slots, then the record.
            full = [
                f"{name} {limit}"
                for (name, limit), reason in zip(limits.values(), reasons, strict=False)
                if reason == _FAILED
            ]
            if full:
                return Acquisition(full=", ".join(full))
        return Acquisition(is_contended=True)

    def release(self, execution_id: str, slots: Iterable[str]) -> None:
        """Release these slots, independent of the current limits. A slot that is not held is no error.

        Raises RecordUnavailableError if DynamoDB fails.
        """
        for key in slots:
            update = self._update(key, execution_id, "DELETE", held_slot)
            update["ExpressionAttributeValues"] |= {":id": {"S": execution_id}}
            for _ in self._attempts(execution_id):
                try:
                    self._client.update_item(**update)
                    break
                except (ClientError, BotoCoreError) as error:
                    code = aws_error_code(error)
                    if code == "ConditionalCheckFailedException":
                        break
                    if code != _CONFLICT:
                        raise _unavailable(execution_id, code) from error
            else:
                raise _unavailable(execution_id, _CONFLICT)

    @staticmethod
    def slots_of(chatbot_id: str | None) -> list[str]:
        """Return every slot that an execution may have, for an execution whose record does not exist any more."""
        return [_STACK, *([f"{_STACK}/{chatbot_id}"] if chatbot_id else [])]

    def _transact(self, execution_id: str, updates: list[dict[str, Any]]) -> list[str] | None:
        """Return None for success, else the cancellation reason of each write: None, a condition or a conflict."""
        try:
            self._client.transact_write_items(
                TransactItems=[{"Update": update} for update in updates]  # type: ignore[typeddict-item]
            )
        except (ClientError, BotoCoreError) as error:
            code = aws_error_code(error)
            if code != "TransactionCanceledException":
                raise _unavailable(execution_id, code) from error
            response: Any = getattr(error, "response", {})
            reasons = [str(reason.get("Code")) for reason in response.get("CancellationReasons", [])]
            if unknown := set(reasons) - {"None", _FAILED} - _CONFLICTS:
                raise _unavailable(execution_id, ", ".join(sorted(unknown))) from error
            return reasons
        return None

    def _attempts(self, execution_id: str) -> Iterator[None]:
        """Yield once per attempt, with pauses in between in which other transactions can end."""
        yield
        for pause_s in _PAUSES_S:
            self._sleep(pause_s * (1 + jitter_of(execution_id, round(pause_s * 1000))))
            yield

    def _limits_by_item(self, chatbot_id: str) -> dict[str, tuple[str, int]]:
        """Return the template parameter and the limit that apply to each item, by the key of the item."""
        limits = {}
        if self._limits.stack:
            limits[_STACK] = ("MaxRunning", self._limits.stack)
        if self._limits.chatbot and chatbot_id:
            limits[f"{_STACK}/{chatbot_id}"] = ("MaxRunningPerChatbot", self._limits.chatbot)
        return limits

    def _update(self, key: str, execution_id: str, verb: str, condition: str) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": {"execution_id": {"S": key}},
            "UpdateExpression": f"{verb} running :ids",
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {":ids": {"SS": [execution_id]}},
        }


def _values(execution_id: str, limit: int) -> dict[str, Any]:
    values = {":ids": {"SS": [execution_id]}, ":id": {"S": execution_id}, ":cap": {"N": str(limit)}}
    return {"ExpressionAttributeValues": values}


def _unavailable(execution_id: str, code: str) -> RecordUnavailableError:
    return RecordUnavailableError(f"{execution_id}: the table of slots failed: {code}")
