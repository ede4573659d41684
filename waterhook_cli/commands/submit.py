"""`waterhook submit`: starts an execution."""

from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.follow_execution import follow
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.parameter_types import JsonObjectType


@click.command("submit")
@click.argument("chatbot_id")
@click.option(
    "--input",
    "input_data",
    type=JsonObjectType(),
    default="{}",
    help="Input of the chatbot, a JSON object.  [default: {}]",
)
@click.option(
    "--key", help="Idempotency key. A repeated request with the same key starts no second execution."
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Deadline in seconds after acceptance. Then the execution is TIMED_OUT.",
)
@click.option("--metadata", type=JsonObjectType(), help="Your own JSON object. The notification repeats it.")
@click.option(
    "--deliver-to",
    type=click.Choice(["sns", "dynamodb"]),
    multiple=True,
    help="Where to deliver the result. Repeat the option for both.",
)
@click.option("--progress", "progress_events", is_flag=True, help="Also publish progress notifications.")
@click.option(
    "--follow",
    "is_followed",
    is_flag=True,
    help="Show progress until the execution ends, then print its output.",
)
@common_options
@pass_context
def command(
    context: CommandContext, /, chatbot_id: str, key: str | None, *, is_followed: bool, **request: Any
) -> ExitCode:
    """Start an execution of the chatbot CHATBOT_ID."""
    api, output = context.api_client(), context.output
    fields = {name: value for name, value in request.items() if value not in (None, (), False)}
    accepted = api.submit(chatbot_id, fields, key)
    execution_id = str(accepted.fields.get("execution_id"))
    if is_followed:
        output.info(f"execution {execution_id}")
        return follow(context, api, execution_id)
    if output.as_json:
        output.json(accepted.fields, accepted.text)
    else:
        output.line(execution_id)
        output.info(
            f"{accepted.status}. To follow it: "
            f"waterhook status {execution_id} --follow{context.stack_options}"
        )
    return ExitCode.OK
