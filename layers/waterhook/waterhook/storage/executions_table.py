"""The executions table: one item per execution. Each write is conditional, and its conditions name the race it wins."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from waterhook.domain.request import RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.execution_record import ExecutionRecord, shard_of, to_attribute
from waterhook.storage.table_errors import translate_errors
from waterhook.text import MAX_ID_CHARS
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The conditions. `#s` is `status`, a reserved word; `:me` is the state machine execution that owns the record.
never_seen = "attribute_not_exists(execution_id)"  # two requests with one key: the first one wins
expired = "expires_at < :now"  # TTL may delete hours late, but the key can be used again on time
still_accepted = "#s = :accepted AND attribute_not_exists(cancel_requested)"  # a cancel before the POST wins
never_repeated = "attribute_not_exists(repeated)"  # a record that another call has returned is not withdrawn
still_starting = "#s = :starting"  # an outcome that is written during the POST wins over the POST's answer
same_attempt = "start_attempts = :1"  # a late repetition of a write must not undo the next start
still_alive = "#s IN (:accepted, :starting, :running)"
not_known_upstream = "attribute_not_exists(waterflai_execution_id)"  # with an id, the job itself is cancelled
not_concluded = "attribute_not_exists(finished_at)"  # two outcomes: the first one wins
not_notified = "attribute_not_exists(notified_at)"  # two publishers: the first one marks the record
already_notified = "attribute_exists(notified_at)"  # only a notified record leaves the index
next_in_line = "progress_sequence < :0"  # each sequence number is used once
mine = "owner_execution_arn = :me"  # a duplicate execution never changes the record of the first one
# The state machine execution has not changed the record yet.
never_begun = "start_attempts = :none AND attribute_not_exists(slots) AND attribute_not_exists(waiting)"
not_lately = "repeated < :before"  # no caller can still be starting the execution


_STATUS_VALUES = {":accepted": Status.ACCEPTED, ":starting": Status.STARTING, ":running": Status.RUNNING}


def _token() -> str:
    return os.urandom(8).hex()


class ExecutionsTable:
    """The executions table. Each write raises RecordConflictError if its condition fails."""

    def __init__(self, table: str, client: "DynamoDBClient", token: Callable[[], str] = _token) -> None:
        """`token` returns a new unique text with each call."""
        self._token = token
        self._table = table
        self._client = client

    def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
        """Return the record (consistent read), or None if it does not exist or has expired."""
        if not (execution_id.isascii() and 1 <= len(execution_id) <= MAX_ID_CHARS):
            return None  # not an execution id; DynamoDB refuses empty and too long keys
        with translate_errors(execution_id):
            answer = self._client.get_item(
                TableName=self._table, Key={"execution_id": {"S": execution_id}}, ConsistentRead=True
            )
        item = answer.get("Item", {})
        # The items of the concurrency slots and of the sweep are in this table too. They have no status.
        record = ExecutionRecord.from_item(item) if "status" in item else None
        return None if record is None or record.expires_at < int(now) else record

    def status(self, execution_id: str) -> Status | None:
        """Return only the status (eventually consistent), or None if there is no record.

        Raises RecordUnavailableError if DynamoDB fails.
        """
        with translate_errors(execution_id):
            answer = self._client.get_item(
                TableName=self._table,
                Key={"execution_id": {"S": execution_id}},
                ProjectionExpression="#s",
                ExpressionAttributeNames={"#s": "status"},
            )
        item = answer.get("Item", {})
        return Status(item["status"]["S"]) if "status" in item else None

    def accept(self, record: ExecutionRecord, now: float) -> None:
        """Write a new record. Raises RecordConflictError if the id is in use and has not expired."""
        with translate_errors(record.execution_id):
            self._client.put_item(
                TableName=self._table,
                Item=record.to_item(),
                ConditionExpression=f"{never_seen} OR {expired}",
                ExpressionAttributeValues={":now": {"N": str(int(now))}},
            )

    def claim(
        self, trigger: TriggerInput, *, owner: str, now: float, defaults: RequestDefaults
    ) -> ExecutionRecord:
        """Return the record of a trigger's input: the one of `owner`, or of the execution that claimed it first.

        `defaults` are used if the request is invalid. Raises RecordConflictError if the record was deleted between two
        reads; Step Functions then retries the step.
        """
        if trigger.accepted_id is not None:
            accepted = self.get(trigger.accepted_id, now)
            if accepted is not None and accepted.owner_execution_arn == owner:
                return accepted
        record = ExecutionRecord.accepted(
            trigger.execution_id,
            trigger.request,
            now,
            owner=owner,
            source=trigger.source,
            defaults=defaults,
        )
        try:
            self.accept(record, now)
        except RecordConflictError:
            first = self.get(trigger.execution_id, now)
            if first is None:
                raise
            return first
        return record

    def mark_repeated(self, record: ExecutionRecord, now: float) -> ExecutionRecord:
        """Prevent that the record is withdrawn, because another call is about to start its execution too."""
        return self._change(record, {"repeated": to_rfc3339(now)}, f"{still_accepted} AND {mine}")

    def withdraw(self, record: ExecutionRecord) -> None:
        """Delete a record whose execution was not started, unless another call has returned the record."""
        with translate_errors(record.execution_id):
            self._client.delete_item(
                TableName=self._table,
                Key={"execution_id": {"S": record.execution_id}},
                ConditionExpression=f"{still_accepted} AND {never_repeated} AND {mine}",
                ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={
                    ":accepted": {"S": Status.ACCEPTED},
                    ":me": {"S": record.owner_execution_arn},
                },
            )

    def discard(self, record: ExecutionRecord, before: float) -> None:
        """Delete a record whose execution does not exist, unless a caller was about to start it after `before`.

        `before` is in epoch seconds. Raises RecordConflictError if a caller was, or if the execution has started.
        """
        untouched = f"{still_accepted} AND {never_begun} AND {mine}"
        with translate_errors(record.execution_id):
            self._client.delete_item(
                TableName=self._table,
                Key={"execution_id": {"S": record.execution_id}},
                # AND binds more tightly than OR.
                ConditionExpression=f"{untouched} AND {never_repeated} OR {untouched} AND {not_lately}",
                ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={
                    ":accepted": {"S": Status.ACCEPTED},
                    ":me": {"S": record.owner_execution_arn},
                    ":none": {"N": "0"},
                    ":before": {"S": to_rfc3339(before) or ""},
                },
            )

    def take_slots(self, record: ExecutionRecord, slots: list[str]) -> dict[str, Any]:
        """Return the write that lists the acquired slots in the record. It fails unless the job is not started yet.

        It is part of the transaction that takes the slots. Therefore no slot is taken after an outcome, and the record
        lists every slot that its execution holds.
        """
        write: dict[str, Any] = update_arguments(
            self._table, record, {"slots": tuple(slots)}, f"{still_accepted} AND {mine}"
        )
        return write

    def wait(self, record: ExecutionRecord, waiting: Mapping[str, Any]) -> ExecutionRecord:
        """Write why an accepted request waits for its start."""
        return self._change(record, {"waiting": waiting}, f"{still_accepted} AND {mine}")

    def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
        """ACCEPTED → STARTING: after this write a POST may have been sent. Writes `first_attempt_at` of `record`.

        Each attempt has a token. If the response to this write is lost, boto3 repeats it and the condition fails; the
        token then shows that the record was changed by this call and not by another one. It also shows whether a write
        was carried out that returned an error.
        """
        token = self._token()
        changes = {
            "status": Status.STARTING,
            "start_attempts": record.start_attempts + 1,
            "start_token": token,
            "first_attempt_at": record.first_attempt_at,
        }
        try:
            return self._change(record, changes, f"{still_accepted} AND {mine}", ["waiting"])
        except (RecordConflictError, RecordUnavailableError):
            # The time does not matter, because a record that was just written has not expired.
            current = self.get(record.execution_id, 0)
            if current is None or current.start_token != token or current.status is not Status.STARTING:
                raise
            return current

    def undo_start(
        self,
        record: ExecutionRecord,
        waiting: Mapping[str, Any] | None = None,
        *,
        perhaps_started: bool = False,
    ) -> ExecutionRecord:
        """STARTING → ACCEPTED, so that the start can be repeated. Undoes only this attempt, not a later one.

        `perhaps_started` records that Waterflai may have accepted this attempt although its answer was lost. If the
        response to this write is lost and boto3 repeats it, the token shows that this call wrote the record.
        """
        changes = {
            "status": Status.ACCEPTED,
            "start_attempts": record.start_attempts,
            "waiting": waiting,
            "perhaps_started": perhaps_started or None,
        }
        try:
            return self._change(record, changes, f"{still_starting} AND {same_attempt} AND {mine}")
        except RecordConflictError:
            current = self.get(record.execution_id, 0)
            if current is None or current.status is not Status.ACCEPTED:
                raise
            if current.start_token is None or current.start_token != record.start_token:
                raise
            return current

    def save_start(self, record: ExecutionRecord, waterflai_execution_id: str, now: float) -> ExecutionRecord:
        """STARTING → RUNNING, with the id of the job."""
        return self._change(
            record,
            {
                "status": Status.RUNNING,
                "waterflai_execution_id": waterflai_execution_id,
                "started_at": to_rfc3339(now),
            },
            f"{still_starting} AND {mine}",
        )

    def request_cancel(
        self, record: ExecutionRecord, now: float, *, by_operator: bool = False
    ) -> ExecutionRecord:
        """Request that the job is not started, or is cancelled as soon as its id is known.

        `by_operator` is stored for the message of the outcome. The latest request counts.
        """
        return self._change(
            record,
            {"cancel_requested": to_rfc3339(now), "cancelled_by_operator": by_operator or None},
            f"{still_alive} AND {not_known_upstream} AND {mine}",
            [] if by_operator else ["cancelled_by_operator"],
        )

    def cancel_start(
        self, record: ExecutionRecord, now: float, *, by_operator: bool = False
    ) -> ExecutionRecord:
        """Return the record with a cancel request, or unchanged if it has an id or an outcome already.

        Raises RecordConflictError if the record does not exist.
        """
        try:
            return self.request_cancel(record, now, by_operator=by_operator)
        except RecordConflictError:
            current = self.get(record.execution_id, now)
            if current is None:
                raise
            return current

    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> ExecutionRecord:
        """ACCEPTED, STARTING or RUNNING → final. The first outcome wins; the notification is built from the record."""
        # Records of a version without the indexes are added to them here.
        changes = {
            **final_attributes,
            "shard": shard_of(record.execution_id),
            "unfinished": record.execution_id[0],
        }
        return self._change(record, changes, f"{still_alive} AND {not_concluded} AND {mine}")

    def save_progress(self, record: ExecutionRecord, progress: float | None) -> ExecutionRecord:
        """Return the record with the next sequence number of a progress event. Fails if the record is final."""
        sequence = record.progress_sequence + 1
        changes = {"progress_sequence": sequence, "progress": progress}
        return self._change(
            record, changes, f"{still_alive} AND {not_concluded} AND {mine} AND {next_in_line}"
        )

    def mark_notified(
        self,
        record: ExecutionRecord,
        now: float,
        expires_at: float | None = None,
        *,
        has_slots: bool = False,
        keeps_output: bool = False,
    ) -> ExecutionRecord:
        """Mark the record as notified and set when it expires, in epoch seconds.

        An inline output is removed unless `dynamodb` is in `deliver_to` or a webhook still needs it. A record that may
        have slots stays in the index of unfinished records until `leave_index`, so that the sweep can release them.
        """
        drop = [] if has_slots else ["unfinished"]
        drop += [] if "dynamodb" in record.deliver_to or keeps_output else ["final_output_json"]
        changes = {
            "notified_at": to_rfc3339(now),
            "expires_at": None if expires_at is None else int(expires_at),
        }
        return self._change(record, changes, f"{not_notified} AND {mine}", drop)

    def mark_published(self, record: ExecutionRecord, targets: Iterable[str]) -> ExecutionRecord:
        """Write which targets have received the outcome, while another target fails."""
        return self._change(record, {"published_to": tuple(targets)}, f"{not_notified} AND {mine}")

    def set_lifetime(
        self, record: ExecutionRecord, expires_at: float, *, drops_output: bool = False
    ) -> ExecutionRecord:
        """Set when a notified record expires, in epoch seconds. `drops_output` removes its inline output."""
        drop = ["final_output_json"] if drops_output else []
        return self._change(record, {"expires_at": int(expires_at)}, f"{already_notified} AND {mine}", drop)

    def leave_index(self, record: ExecutionRecord) -> ExecutionRecord:
        """Remove a notified record from the index of unfinished records."""
        return self._change(record, {}, f"{already_notified} AND {mine}", ["unfinished"])

    def _change(
        self,
        record: ExecutionRecord,
        changes: Mapping[str, Any],
        condition: str,
        drop: list[str] | None = None,
    ) -> ExecutionRecord:
        """Update a record under a condition and return it as it is after the write."""
        with translate_errors(record.execution_id):
            changed = self._client.update_item(
                **update_arguments(self._table, record, changes, condition, drop), ReturnValues="ALL_NEW"
            )
        return ExecutionRecord.from_item(changed["Attributes"])


def update_arguments(
    table: str,
    record: ExecutionRecord,
    changes: Mapping[str, Any],
    condition: str,
    drop: list[str] | None = None,
) -> Any:
    """Return the arguments of an UpdateItem that sets `changes` (except None values) and removes `drop`.

    A condition may use `#s` (the status), `:accepted`, `:starting` and `:running`, `:me` (the owner of the record), and
    a change by its position (`:0`).
    """
    set_values = {name: value for name, value in changes.items() if value is not None}
    names = {f"#{index}": name for index, name in enumerate(set_values)} | {"#s": "status"}
    values = {f":{index}": to_attribute(value) for index, value in enumerate(set_values.values())}
    values |= {name: to_attribute(value) for name, value in _STATUS_VALUES.items()}
    values[":me"] = to_attribute(record.owner_execution_arn)
    clauses = {
        "SET": [f"#{index} = :{index}" for index in range(len(set_values))],
        "REMOVE": drop or [],
    }
    expression = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in clauses.items() if parts)
    used = f"{expression} {condition}"
    # DynamoDB refuses names and values that the expressions don't use, and empty maps.
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
