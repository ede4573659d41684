"""`waterhook status`: shows an execution."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.final_output import print_final_output
from waterhook_cli.follow_execution import follow, print_outcome
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import format_time
from waterhook_cli.parameter_types import ExecutionIdType
from waterhook_cli.progress import progress_text
from waterhook_cli.wait_option import WaitCommand, print_not_ended, require_one_way_to_wait, wait_option
from waterhook_cli.webhook_deliveries import webhook_text

_EXAMPLES = examples(
    "waterhook status 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
    "waterhook status 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --follow",
    "waterhook status 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --wait 10",
    "waterhook status 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --json",
)


@click.command("status", cls=WaitCommand, epilog=_EXAMPLES)
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@click.option(
    "--follow",
    "is_followed",
    is_flag=True,
    help="Show progress until the execution ends, then print its output.",
)
@wait_option
@common_options
@pass_context
def command(context: CommandContext, execution_id: str, wait_s: int | None, *, is_followed: bool) -> ExitCode:
    """Show the status, progress and output of an execution."""
    require_one_way_to_wait(wait_s, is_followed=is_followed)
    api, output = context.api_client(), context.output
    if is_followed:
        return follow(context, api, execution_id)
    with context.spinner("Waiting for the outcome") if wait_s else nullcontext():
        document = api.status(execution_id, wait_s)
    if wait_s and document.is_final:
        return print_outcome(document, output)
    if output.as_json:
        output.json(document.fields, document.text)
    else:
        output.fields(_labelled(document.fields))
        print_final_output(document.fields, output)
    return print_not_ended(context, execution_id, document) if wait_s else ExitCode.OK


def _labelled(fields: Mapping[str, Any]) -> dict[str, object]:
    """Return the printed fields of a status document by label."""
    metadata = fields.get("metadata")
    return {
        "execution": fields.get("execution_id"),
        "status": fields.get("status"),
        "chatbot": fields.get("chatbot_id"),
        "trigger": fields.get("trigger"),
        "caller": fields.get("caller"),
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
