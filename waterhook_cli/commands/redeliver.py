"""`waterhook redeliver`: publishes the notifications of finished executions again."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from waterhook.domain.status import Status
from waterhook.timestamps import to_rfc3339
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.options import (
    CommandContext,
    common_options,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.parameter_types import ExecutionIdType, TimeType

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient

# What the filters need, and nothing of the request or the output. `status` is a reserved word of DynamoDB.
_PROJECTION: dict[str, Any] = {
    "ProjectionExpression": "execution_id, #s, finished_at, notified_at, expires_at",
    "ExpressionAttributeNames": {"#s": "status"},
}


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Result of one redelivery: the `outcome` that was published again, or the `reason` why nothing was."""

    execution_id: str
    redelivered: bool
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Filter:
    status: str | None
    since: str
    until: str
    undelivered_only: bool
    now: float

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Return whether an item is the record of a finished execution that passes every filter."""
        # The table also holds items that are no records.
        if "status" not in item or "finished_at" not in item or int(item["expires_at"]["N"]) < int(self.now):
            return False
        return (
            self.status in {None, item["status"]["S"]}
            and self.since <= item["finished_at"]["S"] < self.until
            and not (self.undelivered_only and "notified_at" in item)
        )


class Redeliverer:
    """Finds finished executions in the table, and has NotifyFunction publish their notifications again."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        lambda_client: "LambdaClient",
        *,
        table: str,
        notify_function: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set the clients, the name of the executions table, and the name or ARN of NotifyFunction."""
        self._dynamodb = dynamodb
        self._lambda = lambda_client
        self._table = table
        self._notify_function = notify_function
        self._clock = clock

    def find(
        self,
        ids: Iterable[str] | None = None,
        *,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undelivered_only: bool = False,
    ) -> Iterator[str]:
        """Yield the ids of finished executions that pass every given filter, in no order.

        `status` is an outcome (`FAILED`); `since` (inclusive) and `until` (exclusive) apply to `finished_at` and have a
        zone; `undelivered_only` excludes those that were notified. Without `ids` the whole table is scanned, a page
        when it is reached: the cost grows with the table. Unknown and unfinished `ids` are left out.
        Raises ClientError.
        """
        wanted = _Filter(
            status,
            to_rfc3339(since.timestamp() if since else None) or "",
            to_rfc3339(until.timestamp() if until else None) or "~",
            undelivered_only,
            self._clock(),
        )
        items = self._scan() if ids is None else self._get(ids)
        return (item["execution_id"]["S"] for item in items if wanted.matches(item))

    def redeliver(self, execution_id: str) -> Redelivery:
        """Publish the notification of one execution again: the same id, time and data, to every subscriber.

        An error of the function is returned as a reason, so that one execution does not stop the others. Raises
        ClientError where the function can't be called.
        """
        response = self._lambda.invoke(
            FunctionName=self._notify_function,
            InvocationType="RequestResponse",
            Payload=json.dumps({"redeliver": {"execution_id": execution_id}}).encode(),
        )
        payload = json.loads(response["Payload"].read() or "null")
        result: dict[str, Any] = payload if isinstance(payload, dict) else {}
        if response.get("FunctionError") or "redelivered" not in result:
            # The error message stays in the function's log: it may quote data of the execution.
            error_type = result.get("errorType") or "no answer"
            reason = (
                f"NotifyFunction failed ({error_type}); its log has the cause. The command can be repeated"
            )
            return Redelivery(execution_id, redelivered=False, reason=reason)
        return Redelivery(
            execution_id,
            redelivered=result["redelivered"],
            outcome=result.get("outcome"),
            reason=result.get("reason"),
        )

    def _scan(self) -> Iterator[Mapping[str, Any]]:
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table, FilterExpression="attribute_exists(finished_at)", **_PROJECTION
        )
        for page in pages:
            yield from page["Items"]

    def _get(self, ids: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        for execution_id in ids:
            key = {"execution_id": {"S": execution_id}}
            yield self._dynamodb.get_item(TableName=self._table, Key=key, **_PROJECTION).get("Item", {})


@click.command("redeliver")
@click.argument("ids", type=ExecutionIdType(), metavar="[ID]...", nargs=-1)
@click.option(
    "--status",
    type=click.Choice([str(status) for status in Status if status.is_final], case_sensitive=False),
    metavar="STATUS",
    help="Only this outcome: COMPLETED, FAILED, ...",
)
@click.option("--since", type=TimeType(), help="Ended at this time or later: 2026-01-31, 24h, 7d.")
@click.option("--until", type=TimeType(), help="Ended before this time.")
@click.option("--undelivered", "undelivered_only", is_flag=True, help="Only those that were never notified.")
@click.option("--dry-run", is_flag=True, help="List the executions, publish nothing.")
@yes_option
@common_options
@pass_context
def command(
    context: CommandContext, /, ids: tuple[str, ...], *, dry_run: bool, yes: bool, **filters: Any
) -> ExitCode:
    """Publish notifications again: the same id, time and data."""
    if not (ids or any(filters.values())):
        raise click.UsageError("Select executions: an ID, --status, --since, --until or --undelivered.")
    if not dry_run:
        require_confirmation_possible(yes=yes)
    stack, output = context.find_stack(), context.output
    redeliverer = Redeliverer(
        stack.client("dynamodb"),
        stack.client("lambda"),
        table=stack.output("TableName"),
        notify_function=stack.output("NotifyFunctionName"),
    )
    with context.spinner("Looking for executions"):
        found = list(redeliverer.find(ids or None, **filters))
    if ids and not found:
        raise CommandError(ExitCode.NOT_FOUND, "no finished execution has that id and passes the filters")
    count = f"{len(found)} notification{'' if len(found) == 1 else 's'}"
    if found and not dry_run:
        question = f"Publish {count} again, to every subscriber of {stack}?"
        if not context.confirm(question, yes=yes):
            return ExitCode.UNSUCCESSFUL
    results: list[dict[str, Any]] = []
    for execution_id in found:
        result = None if dry_run else redeliverer.redeliver(execution_id)
        results.append(asdict(result) if result else {"execution_id": execution_id, "redelivered": False})
        if not output.as_json:
            output.line(_result_line(result) if result else execution_id)
    if output.as_json:
        output.json({"dry_run": dry_run, "executions": results})
    if dry_run:
        output.info(f"{len(results)} would be published again.")
        return ExitCode.OK
    published = sum(result["redelivered"] for result in results)
    output.info(f"{published} of {len(results)} published again.")
    return ExitCode.OK if published == len(results) else ExitCode.UNSUCCESSFUL


def _result_line(result: Redelivery) -> str:
    text = result.outcome if result.redelivered else f"not published: {result.reason}"
    return f"{result.execution_id}  {text}"
