"""`waterhook submit`: starts an execution."""

from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.follow_execution import follow
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.parameter_types import EventsType, JsonObjectType


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
@click.option("--webhook", "url", metavar="URL", help="Send the outcome to this URL, https://...")
@click.option(
    "--webhook-events",
    type=EventsType(),
    help="Events that the webhook receives, separated by commas: completed,failed,progress.  [default: each outcome]",
)
@click.option(
    "--webhook-payload",
    type=click.Choice(["full", "thin"]),
    help="thin: the events of the webhook have no output.  [default: full]",
)
@click.option("--no-webhook", is_flag=True, help="Send nothing to the webhook of the deployment.")
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
    context: CommandContext,
    /,
    chatbot_id: str,
    key: str | None,
    url: str | None,
    webhook_events: list[str] | None,
    webhook_payload: str | None,
    *,
    no_webhook: bool,
    is_followed: bool,
    **request: Any,
) -> ExitCode:
    """Start an execution of the chatbot CHATBOT_ID."""
    fields = {name: value for name, value in request.items() if value not in (None, (), False)}
    if no_webhook:
        if url or webhook_events or webhook_payload:
            raise click.UsageError("--no-webhook can't be combined with the other options of webhooks.")
        fields["webhook"] = False
    elif url:
        webhook = {"url": url, "events": webhook_events, "payload": webhook_payload}
        fields["webhook"] = {name: value for name, value in webhook.items() if value is not None}
    elif webhook_events or webhook_payload:
        raise click.UsageError("--webhook-events and --webhook-payload require --webhook.")
    api, output = context.api_client(), context.output
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
