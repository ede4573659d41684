"""`waterhook list`: lists the caller's executions."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import click

from waterhook.domain.status import Status
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.output import format_time


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([str(status) for status in Status], case_sensitive=False),
    metavar="STATUS",
    help="List only executions with this status, for example RUNNING.",
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
def command(context: CommandContext, status: str | None, limit: int, *, is_unlimited: bool) -> ExitCode:
    """List the executions that you started, newest first."""
    api, output = context.api_client(), context.output
    executions = api.executions(status)
    listed = list(executions if is_unlimited else islice(executions, limit))
    has_more = next(executions, None) is not None
    if output.as_json:
        output.json({"executions": listed, "more": has_more})
        return ExitCode.OK
    if not listed:
        output.info(
            f"No executions{f' with status {status}' if status else ''}. "
            "Only executions that you started through the API are listed."
        )
    output.table(("ID", "STATUS", "ACCEPTED", "CHATBOT"), map(_row, listed))
    if has_more:
        output.info("There are more executions. To list them, add --limit N or --all.")
    return ExitCode.OK


def _row(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
    # The chatbot is the last column, because it has no fixed length.
    chatbot_id = str(entry.get("chatbot_id") or "")
    return str(entry["execution_id"]), str(entry["status"]), format_time(entry.get("created_at")), chatbot_id
