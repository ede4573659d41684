"""`waterhook deliveries`: lists deliveries of webhooks."""

from collections.abc import Mapping
from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import format_time
from waterhook_cli.parameter_types import ExecutionIdType, HostType
from waterhook_cli.webhook_deliveries import last_result, outcome_of, to_fields, undelivered
from waterhook_cli.webhook_stack import deliveries_of


@click.command(
    "deliveries",
    epilog=examples(
        "waterhook deliveries",
        "waterhook deliveries 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook deliveries --failed --host hooks.example.com",
    ),
)
@click.argument("execution_id", type=ExecutionIdType(), metavar="[ID]", required=False)
@click.option("--failed", "failed_only", is_flag=True, help="Only deliveries that failed permanently.")
@click.option("--host", type=HostType(), help="Only deliveries to this host, for example hooks.example.com.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    help="Maximum number of deliveries.",
)
@common_options
@pass_context
def command(
    context: CommandContext, execution_id: str | None, host: str | None, limit: int, *, failed_only: bool
) -> ExitCode:
    """List deliveries of webhooks.

    With ID: the deliveries of this execution. Without ID: the pending and the failed deliveries of all executions,
    newest execution first.
    """
    if execution_id and (failed_only or host):
        raise click.UsageError("An ID can't be combined with --failed or --host.")
    stack, output = context.find_stack(), context.output
    deliveries = deliveries_of(stack)
    with context.spinner("Reading deliveries"):
        if execution_id:
            found, has_more = deliveries.of_execution(execution_id), False
        else:
            # One more, to find out whether there are more.
            found = undelivered(deliveries, failed_only=failed_only, host=host, limit=limit + 1)
            found, has_more = found[:limit], len(found) > limit
    listed = [to_fields(delivery) for delivery in found]
    if output.as_json:
        output.json({"deliveries": listed, "more": has_more})
        return ExitCode.OK
    if execution_id:
        output.table(("OUTCOME", *_HEADINGS, "DELIVERED", "HOST"), map(_row, listed))
    else:
        output.table(("ID", "OUTCOME", *_HEADINGS, "HOST"), map(_row_with_id, listed))
    if has_more:
        output.info("There are more deliveries. To list them, add --limit N.")
    if not listed:
        output.info(_nothing(execution_id, failed_only=failed_only))
        if execution_id:
            output.info(f"To see its webhook: waterhook status {execution_id}{context.stack_options}")
    elif any(fields["status"] == "failed" for fields in listed):
        selection = execution_id or "--failed" + (f" --host {host}" if host else "")
        output.info(f"To send the failed ones again: waterhook resend {selection}{context.stack_options}")
    return ExitCode.OK


_HEADINGS = ("STATUS", "ATTEMPTS", "LAST RESULT", "NEXT ATTEMPT")


def _row(fields: Mapping[str, Any]) -> tuple[str, ...]:
    # The host is the last column, because it has no fixed length.
    return (*_state(fields), format_time(fields["delivered_at"]), fields["host"])


def _row_with_id(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return (fields["execution_id"], *_state(fields), fields["host"])


def _state(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        outcome_of(fields["event_id"]),
        fields["status"],
        str(fields["attempts"]),
        last_result(fields),
        format_time(fields["next_attempt_at"]),
    )


def _nothing(execution_id: str | None, *, failed_only: bool) -> str:
    if execution_id:
        return (
            "No deliveries of this execution: it has no webhook or no outcome, its first attempt has not begun, or it "
            "was erased or has expired."
        )
    return "No failed deliveries." if failed_only else "No pending or failed deliveries."
