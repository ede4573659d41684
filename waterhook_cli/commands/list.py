"""`waterhook list`: lists executions."""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

import click

from waterhook.domain.status import Status
from waterhook.timestamps import to_rfc3339
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import format_time
from waterhook_cli.parameter_types import TimeType

TRIGGERS = ("api", "eventbridge", "schedule", "state_machine")
_HEADINGS = ("ID", "STATUS", "ACCEPTED", "CHATBOT", "TRIGGER", "CALLER")


@click.command(
    "list",
    epilog=examples(
        "waterhook list",
        "waterhook list --status failed --after 24h",
        "waterhook list --chatbot support-chat --trigger schedule --after 2026-01-31",
        "waterhook list --all --json",
    ),
)
@click.option(
    "--status",
    type=click.Choice([str(status) for status in Status], case_sensitive=False),
    metavar="STATUS",
    help="Only executions with this status, for example RUNNING.",
)
@click.option("--chatbot", "chatbot_id", metavar="CHATBOT", help="Only executions of this chatbot.")
@click.option(
    "--trigger",
    type=click.Choice(TRIGGERS, case_sensitive=False),
    metavar="TRIGGER",
    help=f"Only executions that this trigger started: {', '.join(TRIGGERS)}.",
)
@click.option(
    "--after",
    "accepted_after",
    type=TimeType(),
    help="Only executions that were accepted at this time or later: 2026-01-31, 2026-01-31T09:00Z, 2h, 3d.",
)
@click.option(
    "--before",
    "accepted_before",
    type=TimeType(),
    help="Only executions that were accepted before this time.",
)
@click.option("--mine", "is_mine", is_flag=True, help="Only executions that you started through the API.")
@click.option(
    "--caller", metavar="CALLER", help="For operators: only executions of this caller, as the list shows it."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    help="Maximum number of executions.",
)
@click.option("--all", "is_unlimited", is_flag=True, help="List all executions. --limit is ignored.")
@common_options
@pass_context
def command(
    context: CommandContext,
    /,
    accepted_after: datetime | None,
    accepted_before: datetime | None,
    caller: str | None,
    limit: int,
    *,
    is_mine: bool,
    is_unlimited: bool,
    **filters: str | None,
) -> ExitCode:
    """List executions, newest first.

    You see the executions that you started through the API. An operator (OperatorPrincipalArns) sees all.
    """
    if is_mine and caller:
        raise click.UsageError("--mine can't be combined with --caller.")
    api, output = context.api_client(), context.output
    filters |= {
        "accepted_after": _to_text(accepted_after),
        "accepted_before": _to_text(accepted_before),
        "caller": "me" if is_mine else caller,
    }
    executions = api.executions(filters)
    with context.spinner("Reading executions"):
        listed = list(executions if is_unlimited else islice(executions, limit))
        has_more = next(executions, None) is not None
    if output.as_json:
        output.json({"executions": listed, "more": has_more})
        return ExitCode.OK
    rows = [_row(entry) for entry in listed]
    # Text has always the same columns.
    columns = len(_HEADINGS) if any(row[-1] for row in rows) or not output.as_table else -1
    output.table(_HEADINGS[:columns], [row[:columns] for row in rows])
    if has_more:
        output.info("There are more executions. To list them, add --limit N or --all.")
    if not listed:
        matching = " that match" if any(filters.values()) else ""
        output.info(
            f"No executions{matching}. You see those that you started through the API; an operator "
            "(OperatorPrincipalArns) sees all."
        )
    return ExitCode.OK


def _to_text(time: datetime | None) -> str | None:
    return to_rfc3339(time.timestamp()) if time else None


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("chatbot_id", "trigger", "caller")
    values = (str(entry.get(name) or "") for name in names)
    return str(entry["execution_id"]), str(entry["status"]), format_time(entry.get("created_at")), *values
