"""`waterhook redeliver`: publishes the notifications of finished executions again, to the topic and to the bus."""

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
from waterhook_cli.execution_records import ID_COLUMNS, RecordReader, describe
from waterhook_cli.options import (
    CommandContext,
    common_options,
    examples,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.parameter_types import ExecutionIdType, TimeType

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient

# The attributes that the filters need. Request and output are not read. `status` is a reserved word of DynamoDB.
_PROJECTION: dict[str, Any] = {
    "ProjectionExpression": "execution_id, #s, finished_at, notified_at, expires_at",
    "ExpressionAttributeNames": {"#s": "status"},
}

_COLUMNS = (("ID", "RESULT", "PUBLISHED TO"), (32, 9, 0))


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Result of one redelivery: the `outcome` that was published again, or the `reason` why it was not published.

    `published_to` lists the targets: sns, eventbridge.
    """

    execution_id: str
    redelivered: bool
    outcome: str | None = None
    reason: str | None = None
    published_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Filter:
    status: str | None
    since: str
    until: str
    undelivered_only: bool
    now: float

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Return whether an item is the record of a finished execution that matches every filter."""
        # The table also has items that are not execution records.
        if "status" not in item or "finished_at" not in item or int(item["expires_at"]["N"]) < int(self.now):
            return False
        return (
            self.status in {None, item["status"]["S"]}
            and self.since <= item["finished_at"]["S"] < self.until
            and not (self.undelivered_only and "notified_at" in item)
        )


class Redeliverer:
    """Finds finished executions in the table, and invokes NotifyFunction to publish their notifications again."""

    def __init__(
        self,
        dynamodb: "DynamoDBClient",
        lambda_client: "LambdaClient",
        *,
        table: str,
        notify_function: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`table` is the executions table, `notify_function` the name or ARN of NotifyFunction."""
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
        """Yield the ids of finished executions that match every filter, in no order.

        `status` is an outcome (`FAILED`). `since` (inclusive) and `until` (exclusive) apply to `finished_at` and have a
        time zone. `undelivered_only` excludes notified executions. Unknown and unfinished `ids` are left out.
        Without `ids` the whole table is scanned, so the cost grows with the table. Raises ClientError.
        """
        filters = _Filter(
            status,
            to_rfc3339(since.timestamp() if since else None) or "",
            to_rfc3339(until.timestamp() if until else None) or "~",
            undelivered_only,
            self._clock(),
        )
        items = self._scan() if ids is None else self._get(ids)
        return (item["execution_id"]["S"] for item in items if filters.matches(item))

    def redeliver(self, execution_id: str) -> Redelivery:
        """Publish the notification of one execution again, with the same id, time and data, where the request lists.

        An error of the function is returned as the reason, so that the caller can continue with the next execution.
        Raises ClientError if the function can't be invoked.
        """
        response = self._lambda.invoke(
            FunctionName=self._notify_function,
            InvocationType="RequestResponse",
            Payload=json.dumps({"redeliver": {"execution_id": execution_id}}).encode(),
        )
        payload = json.loads(response["Payload"].read() or "null")
        result: dict[str, Any] = payload if isinstance(payload, dict) else {}
        if response.get("FunctionError") or "redelivered" not in result:
            # The error message is not printed, because it may contain data of the execution. The function logs it.
            error_type = result.get("errorType") or "no result"
            reason = f"NotifyFunction failed ({error_type}). Its log has the cause. Fix it, then repeat the command"
            return Redelivery(execution_id, redelivered=False, reason=reason)
        return Redelivery(
            execution_id,
            redelivered=result["redelivered"],
            outcome=result.get("outcome"),
            reason=result.get("reason"),
            published_to=tuple(result.get("published_to", ())),
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


@click.command(
    "redeliver",
    epilog=examples(
        "waterhook redeliver 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook redeliver --undelivered --dry-run",
        "waterhook redeliver --status failed --since 24h --yes",
    ),
)
@click.argument("ids", type=ExecutionIdType(), metavar="[ID]...", nargs=-1)
@click.option(
    "--status",
    type=click.Choice([str(status) for status in Status if status.is_final], case_sensitive=False),
    metavar="STATUS",
    help="Only executions with this outcome, for example FAILED.",
)
@click.option(
    "--since", type=TimeType(), help="Only executions that ended at this time or later: 2026-01-31, 24h, 7d."
)
@click.option("--until", type=TimeType(), help="Only executions that ended before this time.")
@click.option(
    "--undelivered",
    "undelivered_only",
    is_flag=True,
    help="Only executions whose notification was never published.",
)
@click.option("--dry-run", is_flag=True, help="List the executions, but publish nothing.")
@yes_option
@common_options
@pass_context
def command(
    context: CommandContext, /, ids: tuple[str, ...], *, dry_run: bool, yes: bool, **filters: Any
) -> ExitCode:
    """Publish notifications again, with the same id, time and data.

    They go to the topic and to the event bus, whichever the request lists in deliver_to. Webhooks are not sent.
    """
    if not (ids or any(filters.values())):
        raise click.UsageError(
            "No executions are selected. Add an ID, --status, --since, --until or --undelivered."
        )
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
        selected = list(redeliverer.find(ids or None, **filters))
    if ids and not selected:
        raise CommandError(
            ExitCode.NOT_FOUND, "no finished execution has one of these ids and matches the filters"
        )
    count = f"{len(selected)} notification{'' if len(selected) == 1 else 's'}"
    if selected and not dry_run:
        which = "" if yes else describe(RecordReader.of_stack(stack), selected)
        question = f"Publish {count} again, to every subscriber and event bus of {stack}: {which}?"
        if not context.confirm(question, yes=yes):
            return ExitCode.UNSUCCESSFUL
    results: list[dict[str, Any]] = []
    print_row = output.row_printer(*(ID_COLUMNS if dry_run else _COLUMNS))
    for execution_id in selected:
        result = None if dry_run else redeliverer.redeliver(execution_id)
        results.append(asdict(result) if result else {"execution_id": execution_id, "redelivered": False})
        if not output.as_json:
            print_row(*(_row(result) if result else (execution_id,)))
    if output.as_json:
        output.json({"dry_run": dry_run, "executions": results})
    if dry_run:
        output.info(f"Dry run: {len(results)} would be published again.")
        return ExitCode.OK
    published = sum(result["redelivered"] for result in results)
    output.info(f"{published} of {len(results)} published again.")
    return ExitCode.OK if published == len(results) else ExitCode.UNSUCCESSFUL


def _row(result: Redelivery) -> tuple[str, str, str]:
    text = str(result.outcome) if result.redelivered else f"not published: {result.reason}"
    return result.execution_id, text, ", ".join(result.published_to)
