"""`waterhook submit`: starts an execution."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

import click

from waterhook_cli.errors import ExitCode
from waterhook_cli.follow_execution import follow, print_outcome
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.parameter_types import EventsType, InputFieldType, JsonObjectType
from waterhook_cli.wait_option import WaitCommand, print_not_ended, require_one_way_to_wait, wait_option


@click.command(
    "submit",
    cls=WaitCommand,
    epilog=examples(
        "waterhook submit support-chat message='Where is my order?' --follow",
        "waterhook submit report-flow month=2026-01 pages:=12 tags:='[\"a\"]'",
        "waterhook submit report-flow text=@letter.txt data:=@data.json",
        "waterhook submit report-flow --input @request.json --wait",
    ),
)
@click.argument("chatbot_id", metavar="CHATBOT")
@click.argument("fields", type=InputFieldType(), metavar="[KEY=TEXT|KEY:=JSON]...", nargs=-1)
@click.option(
    "--input",
    "input_data",
    type=JsonObjectType(),
    default="{}",
    help="Input of the chatbot, a JSON object. KEY=TEXT and KEY:=JSON add fields to it or replace its fields.  "
    "[default: {}]",
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
    type=click.Choice(["sns", "dynamodb", "eventbridge"]),
    multiple=True,
    help="Where to deliver the result. Repeat the option for several targets.",
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
@wait_option
@common_options
@pass_context
def command(
    context: CommandContext,
    /,
    chatbot_id: str,
    fields: tuple[tuple[str, Any], ...],
    key: str | None,
    wait_s: int | None,
    *,
    is_followed: bool,
    **options: Any,
) -> ExitCode:
    """Start an execution of CHATBOT.

    KEY=TEXT is a field of its input with a text, KEY:=JSON one with any JSON value. @FILE after the sign reads the
    value from a file. Use --input for a text of others, which may begin with @, and for a key that contains =.
    """
    require_one_way_to_wait(wait_s, is_followed=is_followed)
    body = _request(fields, **options)
    if wait_s and "dynamodb" not in body.get("deliver_to", ["dynamodb"]):
        raise click.UsageError(
            "--wait requires --deliver-to dynamodb, because it reads the output from there."
        )
    api, output = context.api_client(), context.output
    try:
        with context.spinner("Waiting for the outcome") if wait_s else nullcontext():
            accepted = api.submit(chatbot_id, body, key, wait_s)
    except KeyboardInterrupt:
        output.info(
            "The execution may have started. To find it: "
            f"waterhook list --mine --limit 5{context.stack_options}"
        )
        raise
    execution_id = str(accepted.fields.get("execution_id"))
    if wait_s and accepted.is_final:
        # A repeated key of an execution that has ended, and a stack that does not let callers wait: 202.
        is_document = accepted.status_code == HTTPStatus.OK
        return print_outcome(accepted if is_document else api.status(execution_id), output)
    if is_followed:
        output.info(f"execution {execution_id}")
        return follow(context, api, execution_id)
    if output.as_json:
        output.json(accepted.fields, accepted.text)
    else:
        output.line(execution_id)
    if wait_s:
        return print_not_ended(context, execution_id, accepted)
    if not output.as_json:
        output.info(
            f"{accepted.status}. To follow it: "
            f"waterhook status {execution_id} --follow{context.stack_options}"
        )
    return ExitCode.OK


def _request(
    fields: Sequence[tuple[str, Any]],
    *,
    input_data: Mapping[str, Any],
    url: str | None,
    webhook_events: list[str] | None,
    webhook_payload: str | None,
    no_webhook: bool,
    **others: Any,
) -> dict[str, Any]:
    """Return the body of the request, with the given fields only. Raises a usage error."""
    body: dict[str, Any] = {"input_data": {**input_data, **_unique(fields)}}
    body |= {name: value for name, value in others.items() if value not in (None, (), False)}
    if no_webhook:
        if url or webhook_events or webhook_payload:
            raise click.UsageError("--no-webhook can't be combined with the other options of webhooks.")
        body["webhook"] = False
    elif url:
        webhook = {"url": url, "events": webhook_events, "payload": webhook_payload}
        body["webhook"] = {name: value for name, value in webhook.items() if value is not None}
    elif webhook_events or webhook_payload:
        raise click.UsageError("--webhook-events and --webhook-payload require --webhook.")
    return body


def _unique(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields. Raises a usage error if a key is repeated."""
    counts = Counter(key for key, _ in fields)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise click.UsageError(f"The key {repeated[0]!r} is given {counts[repeated[0]]} times.")
    return dict(fields)
