"""The executions table: one item per execution, changed only by conditional writes that each win one race."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import RecordConflict, RecordUnavailable
from waterhook.models import MAX_ID_CHARS, Status, iso
from waterhook.request import Request, compact

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# A record that is not final yet must outlive its job, whatever happens to it.
UNFINISHED_GRACE_S = 30 * 24 * 3600

# The races, named. `#s` is the reserved word `status`, `:me` the execution that asks.
never_seen = "attribute_not_exists(execution_id)"  # two requests with one key: the first one wins
expired = "expires_at < :now"  # TTL deletes hours late; a key is free again on time
still_accepted = "#s = :accepted AND attribute_not_exists(cancel_requested)"  # a cancel before the POST wins
still_starting = "#s = :starting"  # a verdict that came during the POST wins over its answer
still_alive = "#s IN (:accepted, :starting, :running)"
not_concluded = "attribute_not_exists(finished_at)"  # two verdicts: the first one wins
not_notified = "attribute_not_exists(notified_at)"  # two publishers: the first one is the one remembered
mine = "owner_execution_arn = :me"  # a duplicate execution never changes the first one's record

_STATUS_VALUES = {":accepted": Status.ACCEPTED, ":starting": Status.STARTING, ":running": Status.RUNNING}
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True, slots=True)
class Record:
    """An execution as it is remembered. Times ending in `_at` are RFC 3339, but `expires_at` (TTL) is epoch seconds.

    What the customer may nest to any depth is kept as JSON text: DynamoDB stops at 32 levels.
    """

    execution_id: str
    status: Status
    owner_execution_arn: str
    source: str
    created_at: str
    deadline: int
    expires_at: int
    deliver_to: tuple[str, ...]
    chatbot_id: str | None = None
    request_sha256: str | None = None
    metadata_json: str = "{}"
    progress_events: bool = False
    caller: str | None = None
    start_attempts: int = 0
    cancel_requested: str | None = None
    waterflai_execution_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    notified_at: str | None = None
    error: Mapping[str, Any] | None = None
    final_output_json: str | None = None
    output_ref: str | None = None
    output_error: str | None = None
    timing: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None

    @classmethod
    def accepted(
        cls,
        execution_id: str,
        request: Request | None,
        now: float,
        *,
        owner: str,
        source: str,
        deliver_to: tuple[str, ...],
        caller: str | None = None,
    ) -> Self:
        """Return the record of a request that was just taken in; an invalid one has no request."""
        deadline = int(now) + (request.timeout_seconds if request else 0)
        return cls(
            execution_id=execution_id,
            status=Status.ACCEPTED,
            owner_execution_arn=owner,
            source=source,
            created_at=iso(now) or "",
            deadline=deadline,
            expires_at=deadline + UNFINISHED_GRACE_S,
            deliver_to=request.deliver_to if request else deliver_to,
            chatbot_id=request.chatbot_id if request else None,
            request_sha256=request.sha256 if request else None,
            metadata_json=compact(request.metadata) if request else "{}",
            progress_events=request.progress_events if request else False,
            caller=caller,
        )

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Read an item; attributes of another version are passed over."""
        known = {name: _plain(_deserialize(item[name])) for name in cls.__dataclass_fields__ if name in item}
        return cls(**known | {"status": Status(known["status"]), "deliver_to": tuple(known["deliver_to"])})

    def to_item(self) -> dict[str, Any]:
        """Return the item without its empty attributes."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: _serialize(_fit(value)) for name, value in values.items() if value is not None}

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own words, to be echoed."""
        metadata: dict[str, Any] = json.loads(self.metadata_json)
        return metadata


class Records:
    """The table. Every write names the race it wins and raises RecordConflict when it loses."""

    def __init__(self, table: str, client: "DynamoDBClient | None" = None) -> None:
        """Open nothing yet."""
        self._table = table
        self._client = client or boto3.client("dynamodb")

    def get(self, execution_id: str, now: float) -> Record | None:
        """Return the record as last written, or None where there is none or it has expired."""
        if not (execution_id.isascii() and 1 <= len(execution_id) <= MAX_ID_CHARS):
            return None  # none of ours, and DynamoDB would refuse an empty or endless key
        with _racing(execution_id):
            answer = self._client.get_item(
                TableName=self._table, Key={"execution_id": {"S": execution_id}}, ConsistentRead=True
            )
        record = Record.from_item(answer["Item"]) if "Item" in answer else None
        return None if record is None or record.expires_at < int(now) else record

    def accept(self, record: Record, now: float) -> None:
        """Write a new record; the id is free if it was never used or has expired."""
        with _racing(record.execution_id):
            self._client.put_item(
                TableName=self._table,
                Item=record.to_item(),
                ConditionExpression=f"{never_seen} OR {expired}",
                ExpressionAttributeValues={":now": {"N": str(int(now))}},
            )

    def withdraw(self, record: Record) -> None:
        """Delete a record that was accepted but whose execution could surely not be started."""
        with _racing(record.execution_id):
            self._client.delete_item(
                TableName=self._table,
                Key={"execution_id": {"S": record.execution_id}},
                ConditionExpression=f"{still_accepted} AND {mine}",
                ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={
                    ":accepted": {"S": Status.ACCEPTED},
                    ":me": {"S": record.owner_execution_arn},
                },
            )

    def begin_start(self, record: Record) -> None:
        """ACCEPTED → STARTING: from here on a start may have been sent."""
        attempts = record.start_attempts + 1
        self._change(
            record, {"status": Status.STARTING, "start_attempts": attempts}, f"{still_accepted} AND {mine}"
        )

    def undo_start(self, record: Record) -> None:
        """STARTING → ACCEPTED: the start was surely not carried out."""
        self._change(record, {"status": Status.ACCEPTED}, f"{still_starting} AND {mine}")

    def save_start(self, record: Record, waterflai_execution_id: str, now: float) -> None:
        """STARTING → RUNNING, with the upstream's id."""
        self._change(
            record,
            {
                "status": Status.RUNNING,
                "waterflai_execution_id": waterflai_execution_id,
                "started_at": iso(now),
            },
            f"{still_starting} AND {mine}",
        )

    def conclude(self, record: Record, verdict: Mapping[str, Any]) -> None:
        """Anything alive → final. The first verdict wins; the record then says what is published."""
        self._change(record, verdict, f"{still_alive} AND {not_concluded} AND {mine}")

    def mark_notified(self, record: Record, now: float) -> None:
        """Remember that the outcome was delivered; an output that was not to be kept is dropped now."""
        keep = "dynamodb" in record.deliver_to
        drop = [] if keep else ["final_output_json"]
        self._change(record, {"notified_at": iso(now)}, f"{not_notified} AND {mine}", drop)

    def _change(
        self, record: Record, changes: Mapping[str, Any], condition: str, drop: list[str] | None = None
    ) -> None:
        """Change a record under a condition in which `:me` is the owner the given record names."""
        given = {name: value for name, value in changes.items() if value is not None}
        names = {f"#{index}": name for index, name in enumerate(given)} | {"#s": "status"}
        values = {f":{index}": _serialize(_fit(value)) for index, value in enumerate(given.values())}
        values |= {name: _serialize(str(value)) for name, value in _STATUS_VALUES.items()}
        values[":me"] = _serialize(record.owner_execution_arn)
        update = "SET " + ", ".join(f"#{index} = :{index}" for index in range(len(given)))
        if drop:
            update += " REMOVE " + ", ".join(drop)
        used = f"{update} {condition}"
        with _racing(record.execution_id):
            self._client.update_item(
                TableName=self._table,
                Key={"execution_id": {"S": record.execution_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                # DynamoDB refuses a request that defines what it doesn't use.
                ExpressionAttributeNames={name: value for name, value in names.items() if name in used},
                ExpressionAttributeValues={name: value for name, value in values.items() if name in used},
            )


@contextmanager
def _racing(execution_id: str) -> Iterator[None]:
    """Turn a lost race into RecordConflict and any other failure into RecordUnavailable."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        if code == "ConditionalCheckFailedException":
            message = f"{execution_id}: the record was changed in between, or is another execution's"
            raise RecordConflict(message) from error
        message = f"{execution_id}: the table failed: {code}"
        raise RecordUnavailable(message) from error


def _fit(value: Any) -> Any:
    """Return a value the serializer takes: it knows no tuple, no float and no StrEnum."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, Mapping):
        return {name: _fit(entry) for name, entry in value.items()}
    return value


def _plain(value: Any) -> Any:
    """Return what the deserializer gave, with numbers instead of Decimals."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
