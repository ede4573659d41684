"""The executions table: one item per execution, changed only by conditional writes that each win one race."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.errors import RecordConflictError, RecordUnavailableError, aws_error_code
from waterhook.storage.execution_record import ExecutionRecord, from_attribute, to_attribute
from waterhook.text import MAX_ID_CHARS
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Callers have an index of their own; what has no caller is not in it.
CALLER_INDEX = "by_caller"
LISTED_FIELDS = ("execution_id", "status", "chatbot_id", "created_at", "finished_at")

# The races, named. `#s` is the reserved word `status`, `:me` the state machine execution that writes.
never_seen = "attribute_not_exists(execution_id)"  # two requests with one key: the first one wins
expired = "expires_at < :now"  # TTL deletes hours late; a key is free again on time
still_accepted = "#s = :accepted AND attribute_not_exists(cancel_requested)"  # a cancel before the POST wins
never_repeated = "attribute_not_exists(repeated)"  # a record that another call has returned is not withdrawn
still_starting = "#s = :starting"  # an outcome that came during the POST wins over its answer
same_attempt = "start_attempts = :1"  # a late repetition must not undo the start after it
still_alive = "#s IN (:accepted, :starting, :running)"
not_known_upstream = (
    "attribute_not_exists(waterflai_execution_id)"  # with an id the job is cancelled upstream instead
)
not_concluded = "attribute_not_exists(finished_at)"  # two outcomes: the first one wins
not_notified = "attribute_not_exists(notified_at)"  # two publishers: the first one marks the record
already_notified = "attribute_exists(notified_at)"  # nothing is still to come
next_in_line = "progress_sequence < :0"  # a number, once given, is never given again
mine = "owner_execution_arn = :me"  # a duplicate execution never changes the first one's record
# Its execution has left no trace.
never_begun = "start_attempts = :none AND attribute_not_exists(slots) AND attribute_not_exists(waiting)"
not_lately = "repeated < :before"  # no caller can still be starting it


_STATUS_VALUES = {":accepted": Status.ACCEPTED, ":starting": Status.STARTING, ":running": Status.RUNNING}


def _token() -> str:
    return os.urandom(8).hex()


class ExecutionsTable:
    """The table. Every write names the race it wins and raises RecordConflictError when it loses."""

    def __init__(self, table: str, client: "DynamoDBClient", token: Callable[[], str] = _token) -> None:
        """Open nothing yet; `token` makes a text that no other call has."""
        self._token = token
        self._table = table
        self._client = client

    def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
        """Return the record as last written, or None where there is none or it has expired."""
        if not (execution_id.isascii() and 1 <= len(execution_id) <= MAX_ID_CHARS):
            return None  # none of ours, and DynamoDB would refuse an empty or endless key
        with translate_errors(execution_id):
            answer = self._client.get_item(
                TableName=self._table, Key={"execution_id": {"S": execution_id}}, ConsistentRead=True
            )
        item = answer.get("Item", {})
        # The slots of the capacity are in this table too, and are no execution.
        record = ExecutionRecord.from_item(item) if "status" in item else None
        return None if record is None or record.expires_at < int(now) else record

    def status(self, execution_id: str) -> Status | None:
        """Return only the status, perhaps not the last one written, or None where there is no record.

        Raises RecordUnavailableError when the table fails.
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
        """Write a new record; the id is free if it was never used or has expired."""
        with translate_errors(record.execution_id):
            self._client.put_item(
                TableName=self._table,
                Item=record.to_item(),
                ConditionExpression=f"{never_seen} OR {expired}",
                ExpressionAttributeValues={":now": {"N": str(int(now))}},
            )

    def claim(
        self, trigger: TriggerInput, *, owner: str, now: float, deliver_to: tuple[str, ...]
    ) -> ExecutionRecord:
        """Return the record of a trigger's input: `owner`'s own, or that of the execution that claimed it first.

        `deliver_to` counts where the request is invalid. Raises RecordConflictError when the record vanished between
        two reads; the step is called again then.
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
            deliver_to=deliver_to,
        )
        try:
            self.accept(record, now)
        except RecordConflictError:
            first = self.get(trigger.execution_id, now)
            if first is None:
                raise
            return first
        return record

    def page(
        self, caller: str, *, status: str | None, limit: int, start: Mapping[str, str] | None
    ) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
        """Return a caller's executions, newest first, as the lean index has them, and the key to go on from.

        A status is filtered for after reading, so a page of it may be short, or empty, and still have a next one.
        """
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": CALLER_INDEX,
            "KeyConditionExpression": "caller = :caller",
            "ExpressionAttributeValues": {":caller": {"S": caller}},
            "ScanIndexForward": False,
            "Limit": limit,
        }
        if status is not None:
            query["FilterExpression"] = "#s = :status"
            query["ExpressionAttributeNames"] = {"#s": "status"}
            query["ExpressionAttributeValues"][":status"] = {"S": status}
        if start is not None:
            query["ExclusiveStartKey"] = {name: {"S": value} for name, value in start.items()}
        with translate_errors(caller):
            answer = self._client.query(**query)
        entries = [
            {name: from_attribute(item[name]) for name in LISTED_FIELDS if name in item}
            for item in answer["Items"]
        ]
        last = answer.get("LastEvaluatedKey")
        return entries, {name: value["S"] for name, value in last.items()} if last else None

    def repeat(self, record: ExecutionRecord, now: float) -> ExecutionRecord:
        """Keep a record from being withdrawn: another caller is about to start its execution, too."""
        return self._change(record, {"repeated": to_rfc3339(now)}, f"{still_accepted} AND {mine}")

    def withdraw(self, record: ExecutionRecord) -> None:
        """Delete a record whose execution could surely not be started, and that no other call has returned."""
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

        `before` is in epoch seconds. Raises RecordConflictError where a caller was, or where its execution has begun.
        """
        untouched = f"{still_accepted} AND {never_begun} AND {mine}"
        with translate_errors(record.execution_id):
            self._client.delete_item(
                TableName=self._table,
                Key={"execution_id": {"S": record.execution_id}},
                # AND comes before OR.
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
        """Return the write that slots are taken with, in one transaction: it fails unless the start is still ahead.

        So no slot is taken once an outcome is written, and a record lists every slot that its execution holds.
        """
        write: dict[str, Any] = update_arguments(
            self._table, record, {"slots": tuple(slots)}, f"{still_accepted} AND {mine}"
        )
        return write

    def wait(self, record: ExecutionRecord, waiting: Mapping[str, Any]) -> ExecutionRecord:
        """Write why an accepted request waits."""
        return self._change(record, {"waiting": waiting}, f"{still_accepted} AND {mine}")

    def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
        """ACCEPTED → STARTING: from here on a start may have been sent. Writes the `first_attempt_at` given here.

        The attempt has a token: where the write's first answer was lost, boto3's repetition of it meets our own write
        and is refused, and without the token that would look like another call that may have started the job. The
        same shows whether a write was carried out whose answer was an error.
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
            # The clock is of no matter: a record just written has not expired.
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
        """STARTING → ACCEPTED, to start again. Of this attempt only, not of a later one.

        `perhaps_started` marks the record: this attempt may have been accepted, though its answer was lost.
        Repeated after a lost answer it returns the record, too; the attempt's token shows whose write it was.
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
        """STARTING → RUNNING, with the upstream's id."""
        return self._change(
            record,
            {
                "status": Status.RUNNING,
                "waterflai_execution_id": waterflai_execution_id,
                "started_at": to_rfc3339(now),
            },
            f"{still_starting} AND {mine}",
        )

    def request_cancel(self, record: ExecutionRecord, now: float) -> ExecutionRecord:
        """Ask that it not be started, or be stopped as soon as the upstream's id is known."""
        return self._change(
            record,
            {"cancel_requested": to_rfc3339(now)},
            f"{still_alive} AND {not_known_upstream} AND {mine}",
        )

    def cancel_start(self, record: ExecutionRecord, now: float) -> ExecutionRecord:
        """Return the record with a mark that no start passes, or as it is where an id or an outcome came first.

        Raises RecordConflictError when the record is gone.
        """
        try:
            return self.request_cancel(record, now)
        except RecordConflictError:
            current = self.get(record.execution_id, now)
            if current is None:
                raise
            return current

    def conclude(self, record: ExecutionRecord, final_attributes: Mapping[str, Any]) -> ExecutionRecord:
        """ACCEPTED, STARTING or RUNNING → final. The first outcome wins, and the record has what is published."""
        # A record of a version without the index enters it here.
        changes = {**final_attributes, "unfinished": record.execution_id[0]}
        return self._change(record, changes, f"{still_alive} AND {not_concluded} AND {mine}")

    def save_progress(self, record: ExecutionRecord, progress: float | None) -> ExecutionRecord:
        """Count one more progress event, while the execution is alive, and return the record with its number."""
        sequence = record.progress_sequence + 1
        changes = {"progress_sequence": sequence, "progress": progress}
        return self._change(
            record, changes, f"{still_alive} AND {not_concluded} AND {mine} AND {next_in_line}"
        )

    def mark_notified(
        self, record: ExecutionRecord, now: float, expires_at: float | None = None, *, has_slots: bool = False
    ) -> ExecutionRecord:
        """Remember that the outcome was delivered, and from now on when the record expires, in epoch seconds.

        An output that was not to be kept is dropped now. A record that may have slots stays in the index of what is
        unfinished until `leave_index`: if they can't be given back now, a sweep does it.
        """
        drop = [] if has_slots else ["unfinished"]
        drop += [] if "dynamodb" in record.deliver_to else ["final_output_json"]
        changes = {
            "notified_at": to_rfc3339(now),
            "expires_at": None if expires_at is None else int(expires_at),
        }
        return self._change(record, changes, f"{not_notified} AND {mine}", drop)

    def leave_index(self, record: ExecutionRecord) -> ExecutionRecord:
        """Take what was notified out of the index of what is still to be."""
        return self._change(record, {}, f"{already_notified} AND {mine}", ["unfinished"])

    def _change(
        self,
        record: ExecutionRecord,
        changes: Mapping[str, Any],
        condition: str,
        drop: list[str] | None = None,
    ) -> ExecutionRecord:
        """Change a record under a condition in which `:me` is the owner it names; return it as it is then."""
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
def translate_errors(execution_id: str) -> Iterator[None]:
    """Turn a lost race into RecordConflictError and any other failure into RecordUnavailableError."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = aws_error_code(error)
        if code == "ConditionalCheckFailedException":
            message = f"{execution_id}: the record was changed in between, or is another execution's"
            raise RecordConflictError(message) from error
        message = f"{execution_id}: the table failed: {code}"
        raise RecordUnavailableError(message) from error
