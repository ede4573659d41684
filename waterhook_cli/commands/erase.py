"""`waterhook erase`: deletes the stored data of one execution, and lists the data that it can't delete."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError

from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_retries import CLAIM_S
from waterhook.errors import aws_error_code
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import from_attribute
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.execution_records import RecordReader, describe
from waterhook_cli.options import (
    CommandContext,
    common_options,
    examples,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.output import Output
from waterhook_cli.parameter_types import ExecutionIdType
from waterhook_cli.webhook_stack import deliveries_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

# Retention in days: a history of Step Functions after the end of the state machine execution, a message in SQS
# (maximum), and point-in-time recovery of DynamoDB. None of these services can delete the data of a single execution.
_HISTORY_DAYS, _MESSAGE_DAYS, _RECOVERY_DAYS = 90, 14, 35


@dataclass(frozen=True, slots=True)
class RemainingData:
    """Data that can't be deleted: its place, its content, and the last day on which it may exist, if known."""

    place: str
    holds: str
    until: date | None


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The deleted data, with an object key for each object version, and the data that remains."""

    execution_id: str
    record: bool
    notified: bool
    """Whether the outcome was published before. If false, it is never published."""
    objects: tuple[str, ...]
    deliveries: int
    """Deleted deliveries of its webhook."""
    remaining: tuple[RemainingData, ...]


class Eraser:
    """Deletes the data of an execution. Uses the operator's credentials: no deployed role has these permissions."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        s3: "S3Client",
        *,
        table: str,
        bucket: str,
        deliveries: WebhookDeliveries | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`table` is the name of the executions table, `bucket` that of the results bucket.

        `deliveries` is None if webhooks are off.
        """
        self._dynamodb = dynamodb
        self._s3 = s3
        self._table = table
        self._bucket = bucket
        self._deliveries = deliveries
        self._clock = clock
        self._sleep = sleep

    def erase(self, execution_id: str) -> ErasureReport:
        """Delete outputs, concurrency slots, record and deliveries. The order makes it repeatable after a crash.

        Without the record, no webhook is sent any more. The function that sends webhooks may have read the record
        before and create the delivery afterwards, so the deliveries are deleted after the record. Takes a minute if the
        function may have read the record before.

        Afterwards the idempotency key can be used again. Raises CommandError if the execution does not exist or has
        not ended, or if S3 did not delete an object. Raises ClientError or RecordUnavailableError if a service fails.
        """
        key = {"execution_id": {"S": execution_id}}
        item = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        if item is not None and "finished_at" not in item:
            status = item["status"]["S"]
            raise CommandError(
                ExitCode.UNSUCCESSFUL,
                f"{execution_id} is {status}: cancel it first, then erase it",
                f"waterhook cancel {execution_id}",
            )
        # By prefix: a function may have crashed after storing an output and before writing its key to the record.
        objects = tuple(self._delete_objects(f"executions/{execution_id}/"))
        # The execution has an outcome or no record, so it can't acquire a slot any more. Without a record the
        # chatbot is unknown, so only the slot of the stack is released.
        chatbot_id = item["chatbot_id"]["S"] if item and "chatbot_id" in item else None
        slots = ConcurrencyLimiter(self._table, ConcurrencyLimits(), self._dynamodb)
        slots.release(execution_id, ConcurrencyLimiter.slots_of(chatbot_id))
        if item is not None:
            self._delete_record(item)
        deleted = self._delete_deliveries(execution_id, item)
        if item is None and not objects and not deleted:
            raise CommandError(
                ExitCode.NOT_FOUND, f"execution {execution_id} does not exist: it was erased or has expired"
            )
        return ErasureReport(
            execution_id,
            record=item is not None,
            notified=item is not None and "notified_at" in item,
            objects=objects,
            deliveries=deleted,
            remaining=_remaining(datetime.fromtimestamp(self._clock(), UTC), item or {}),
        )

    def _delete_objects(self, prefix: str) -> Iterator[str]:
        """Delete every object version and delete marker with a prefix; yield the key of each version."""
        pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            versions, markers = page.get("Versions", []), page.get("DeleteMarkers", [])
            objects: list[ObjectIdentifierTypeDef] = [
                {"Key": one["Key"], "VersionId": one["VersionId"]} for one in [*versions, *markers]
            ]
            if not objects:
                continue
            response = self._s3.delete_objects(
                Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
            )
            if errors := response.get("Errors"):
                raise CommandError(
                    ExitCode.UNSUCCESSFUL,
                    f"S3 did not delete {errors[0].get('Key')} ({errors[0].get('Code')}): repeat the command",
                )
            yield from (one["Key"] for one in versions)

    def _delete_deliveries(self, execution_id: str, item: Mapping[str, Any] | None) -> int:
        """Delete the deliveries after the record, and return their number.

        An attempt that read the record before, and no delivery, may still create the delivery. An attempt that read a
        delivery can't create it again: its writes have the condition that the delivery is unchanged. Each attempt has
        ended after CLAIM_S.
        """
        if self._deliveries is None:
            return 0
        found = self._deliveries.of_execution(execution_id)
        is_settled = found and all(self._clock() - one.created_at > CLAIM_S for one in found)
        deleted = self._deliveries.delete_of(execution_id)
        if is_settled or item is None or not _is_sent(item):
            return deleted
        self._sleep(CLAIM_S)
        return deleted + self._deliveries.delete_of(execution_id)

    def _delete_record(self, item: Mapping[str, Any]) -> None:
        """Delete the record, unless a later execution with the same idempotency key has replaced it."""
        try:
            self._dynamodb.delete_item(
                TableName=self._table,
                Key={"execution_id": item["execution_id"]},
                ConditionExpression="attribute_not_exists(execution_id)"
                " OR (owner_execution_arn = :owner AND finished_at = :finished)",
                ExpressionAttributeValues={
                    ":owner": item["owner_execution_arn"],
                    ":finished": item["finished_at"],
                },
            )
        except ClientError as error:
            if aws_error_code(error) != "ConditionalCheckFailedException":
                raise
            raise CommandError(
                ExitCode.UNSUCCESSFUL,
                f"{item['execution_id']['S']} was started again in the meantime",
                "Check that execution. To erase it, repeat the command.",
            ) from error


def _is_sent(item: Mapping[str, Any]) -> bool:
    """Return whether the outcome of a final record is sent to a webhook."""
    if "webhook" not in item:
        return False
    return Webhook.from_mapping(from_attribute(item["webhook"])).wants(Status(item["status"]["S"]))


def _remaining(now: datetime, item: Mapping[str, Any]) -> tuple[RemainingData, ...]:
    """Return the data that Waterhook can't delete and that may still exist."""
    today = now.date()
    ended = datetime.fromisoformat(item["finished_at"]["S"]).date() if "finished_at" in item else today
    places = (
        RemainingData(
            "history of the state machine execution in Step Functions",
            "input, metadata, and the output or a reference to it; Step Functions keeps it for 90 days",
            ended + timedelta(days=_HISTORY_DAYS),
        ),
        RemainingData(
            "queues that subscribe to the topic, and their dead-letter queues",
            "the notification, until it is received; a queue keeps a message for at most 14 days",
            today + timedelta(days=_MESSAGE_DAYS),
        ),
        RemainingData(
            "point-in-time recovery of the table",
            "the record; it appears only in a table that is restored from it",
            today + timedelta(days=_RECOVERY_DAYS),
        ),
        *_remaining_of_webhooks(today, item),
        RemainingData("subscribers that received the notification, and Waterflai", "their copies", None),
        RemainingData("logs", "ids, outcomes and error codes; no input and no output", None),
    )
    return tuple(place for place in places if place.until is None or place.until >= today)


def _remaining_of_webhooks(today: date, item: Mapping[str, Any]) -> tuple[RemainingData, ...]:
    """Return the data that the webhook of an execution leaves. Without a record, the webhook is unknown."""
    if item and "webhook" not in item:
        return ()
    return (
        RemainingData(
            "queue of webhooks",
            "progress of the execution that is not sent yet; it is dropped when the deliver function receives it",
            today + timedelta(days=_MESSAGE_DAYS),
        ),
        RemainingData(
            "dead-letter queue of webhooks",
            "ids, the host and the last error of a webhook that failed; no input and no output",
            today + timedelta(days=_MESSAGE_DAYS),
        ),
        RemainingData(
            "point-in-time recovery of the table of deliveries",
            "ids, host, times and results of the delivery; they appear only in a table that is restored from it",
            today + timedelta(days=_RECOVERY_DAYS),
        ),
        RemainingData("receiver of the webhook", "its copy of each event", None),
    )


@click.command(
    "erase",
    epilog=examples(
        "waterhook erase 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook erase 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --yes --json",
    ),
)
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@yes_option
@common_options
@pass_context
def command(context: CommandContext, execution_id: str, *, yes: bool) -> ExitCode:
    """Permanently delete the record and the output of an execution."""
    require_confirmation_possible(yes=yes)
    stack, output = context.find_stack(), context.output
    if not yes:
        what = describe(RecordReader.of_stack(stack), [execution_id])
        if not context.confirm(f"Erase execution {what} from {stack}? This can't be undone.", yes=yes):
            return ExitCode.UNSUCCESSFUL
    eraser = Eraser(
        stack.client("dynamodb"),
        stack.client("s3"),
        table=stack.output("TableName"),
        bucket=stack.output("BucketName"),
        deliveries=deliveries_of(stack) if "WebhookTableName" in stack.outputs else None,
    )
    with context.spinner("Erasing. It takes a minute if a webhook may be sent at this moment"):
        report = eraser.erase(execution_id)
    if output.as_json:
        output.json(_to_dict(report))
    else:
        _print(report, output)
    return ExitCode.OK


def _to_dict(report: ErasureReport) -> dict[str, Any]:
    fields = asdict(report)
    for place in fields["remaining"]:
        place["until"] = place["until"].isoformat() if place["until"] else None
    return fields


def _print(report: ErasureReport, output: Output) -> None:
    output.marked_line("erased", "green", f"record: {'yes' if report.record else 'did not exist'}")
    output.marked_line("erased", "green", f"stored outputs: {len(report.objects)}")
    if report.deliveries:
        output.marked_line("erased", "green", f"deliveries of webhooks: {report.deliveries}")
    if report.record and not report.notified:
        output.marked_line("note", "yellow", "the outcome was not published, and never will be")
    for place in report.remaining:
        until = f", until {place.until}" if place.until else ""
        output.marked_line("remains", "yellow", f"{place.place}{until}: {place.holds}")
