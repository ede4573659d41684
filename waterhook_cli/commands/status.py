"""`waterhook status`: shows an execution."""

import json
from collections.abc import Mapping
from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.final_output import print_final_output
from waterhook_cli.follow_execution import follow
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.output import format_time
from waterhook_cli.parameter_types import ExecutionIdType
from waterhook_cli.progress import progress_text
from waterhook_cli.webhook_deliveries import webhook_text


@click.command("status")
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@click.option(
    "--follow",
    "is_followed",
    is_flag=True,
    help="Show progress until the execution ends, then print its output.",
)
@common_options
@pass_context
def command(context: CommandContext, execution_id: str, *, is_followed: bool) -> ExitCode:
    """Show the status, progress and output of an execution."""
    api, output = context.api_client(), context.output
    if is_followed:
        return follow(context, api, execution_id)
    document = api.status(execution_id)
    if output.as_json:
        output.json(document.fields, document.text)
    else:
        output.fields(_labelled(document.fields))
        print_final_output(document.fields, output)
    return ExitCode.OK


def _labelled(fields: Mapping[str, Any]) -> dict[str, object]:
    """Return the printed fields of a status document by label."""
    metadata = fields.get("metadata")
    return {
        "execution": fields.get("execution_id"),
        "status": fields.get("status"),
        "chatbot": fields.get("chatbot_id"),
        "progress": progress_text(fields),
        "accepted": format_time(fields.get("created_at")),
        "waiting": _waiting_text(fields.get("waiting")),
        "started": format_time(fields.get("started_at")),
        "ended": format_time(fields.get("completed_at")),
        "notified": format_time(fields.get("notified_at")),
        "webhook": webhook_text(fields["webhook"]) if fields.get("webhook") else None,
        "cancel sent": format_time(fields.get("cancel_requested")),
        "error": fields.get("error_message"),
        "waterflai": fields.get("waterflai_execution_id"),
        "metadata": json.dumps(metadata, ensure_ascii=False) if metadata else None,
    }


def _waiting_text(waiting: Mapping[str, Any] | None) -> str | None:
    """Return why an execution waits to start, and the time of the next attempt; None if it does not wait."""
    if not waiting:
        return None
    return f"{waiting.get('reason')}, next attempt {format_time(waiting.get('next_attempt_at'))}"
