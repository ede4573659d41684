"""Executions, as somebody at a terminal starts, watches, lists and cancels them."""

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

import click
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from waterhook.domain.status import Status
from waterhook_cli import follow
from waterhook_cli.api import Api, Document, sender
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import ExecutionId, JsonObject, common, output_of, same_stack, stack_of
from waterhook_cli.output import Output, moment, read_json, style_of

_STATUSES = [str(status) for status in Status]
_HTTP_OK = 200


@click.command()
@click.argument("chatbot_id")
@click.option("--input", "input_data", type=JsonObject(), default="{}", help="The chatbot's input.")
@click.option("--key", help="Idempotency key: the same key and request are the same execution.")
@click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Deadline, from now on.")
@click.option("--metadata", type=JsonObject(), help="Your own object, echoed in the notification.")
@click.option(
    "--deliver-to",
    type=click.Choice(["sns", "dynamodb"]),
    multiple=True,
    help="Where the result goes; twice for both.",
)
@click.option("--progress", is_flag=True, help="Publish progress events, too.")
@click.option("--follow", "following", is_flag=True, help="Watch it to its end, then print its output.")
@common
@click.pass_context
def submit(
    context: click.Context,
    /,
    chatbot_id: str,
    key: str | None,
    *,
    progress: bool,
    following: bool,
    **given: Any,
) -> None:
    """Start an execution of CHATBOT_ID."""
    output, api = output_of(context), Api.of(stack_of(context))
    named = {
        "input_data": given["input_data"],
        "timeout_seconds": given["timeout"],
        "metadata": given["metadata"],
        "deliver_to": list(given["deliver_to"]) or None,
        "progress_events": progress or None,
    }
    accepted = api.submit(
        chatbot_id, {name: value for name, value in named.items() if value is not None}, key
    )
    execution_id = str(accepted.fields.get("execution_id"))
    if following:
        output.say(f"execution {execution_id}")
        context.exit(_follow(api, execution_id, output, same_stack(context)))
    if output.as_json:
        output.json(accepted.text)
        return
    output.result(execution_id)
    output.say(
        f"{accepted.status}. To watch it: waterhook status {execution_id} --follow{same_stack(context)}"
    )


@click.command()
@click.argument("execution_id", type=ExecutionId(), metavar="ID")
@click.option("--follow", "following", is_flag=True, help="Watch it to its end, then print its output.")
@common
@click.pass_context
def status(context: click.Context, execution_id: str, *, following: bool) -> None:
    """Show where an execution stands, and its output."""
    output, api = output_of(context), Api.of(stack_of(context))
    if following:
        context.exit(_follow(api, execution_id, output, same_stack(context)))
    document = api.status(execution_id)
    if output.as_json:
        output.json(document.text)
        return
    output.fields(_described(document.fields))
    _tell_output(document, output)


@click.command("list")
@click.option(
    "--status",
    "wanted",
    type=click.Choice(_STATUSES, case_sensitive=False),
    metavar="STATUS",
    help="Only these: RUNNING, FAILED, ...",
)
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many at most."
)
@click.option("--all", "every", is_flag=True, help="All of them, whatever the limit.")
@common
@click.pass_context
def browse(context: click.Context, wanted: str | None, limit: int, *, every: bool) -> None:
    """List the executions that you have started, newest first."""
    output, api = output_of(context), Api.of(stack_of(context))
    found = api.executions(wanted)
    listed = list(found if every else islice(found, limit))
    more = next(found, None) is not None
    if output.as_json:
        output.json({"executions": listed, "more": more})
        return
    if not listed:
        output.say(
            "None." if wanted else "None. You see those that you have started yourself through the API."
        )
    output.rows(("ID", "STATUS", "ACCEPTED", "CHATBOT"), map(_row, listed))
    if more:
        output.say("There are more: --limit N, or --all.")


@click.command()
@click.argument("execution_id", type=ExecutionId(), metavar="ID")
@common
@click.pass_context
def cancel(context: click.Context, execution_id: str) -> None:
    """Cancel an execution. One that has ended keeps its outcome."""
    output, api = output_of(context), Api.of(stack_of(context))
    answer = api.cancel(execution_id)
    fields = answer.fields
    cancelled, before = bool(fields.get("cancelled")), str(fields.get("previous_status"))
    if output.as_json:
        output.json(answer.text)
    elif cancelled:
        output.result(f"CANCELLED, it was {before}")
    elif before == Status.ACCEPTED:
        output.result(f"not cancelled: {fields.get('message')}")
    elif before in _STATUSES and not Status(before).is_final:
        output.result(f"{before}, it will be cancelled as soon as that is possible")
    else:
        output.result(f"{before}, it had ended before")
    # Before the start it ends in any case: as CANCELLED, or as UNCERTAIN.
    ended = before in _STATUSES and (Status(before).is_final or before == Status.ACCEPTED)
    if not cancelled and ended and before != Status.CANCELLED:
        context.exit(ExitCode.ENDED_OTHERWISE)


def _follow(api: Api, execution_id: str, output: Output, where: str) -> ExitCode:
    try:
        document = follow.watched(
            lambda: api.status(execution_id), follow.display(quiet=output.quiet), output
        )
    except KeyboardInterrupt:
        output.say(f"It goes on. To watch it again: waterhook status {execution_id} --follow{where}")
        output.say(f"To end it: waterhook cancel {execution_id}{where}")
        raise
    if output.as_json:
        output.json(document.text)
        return follow.exit_code(document)
    message = document.fields.get("error_message")
    tell = output.say if document.status == Status.COMPLETED else output.warn
    tell(f"{document.status}{f': {message}' if message else ''}", style_of(document.status))
    _tell_output(document, output)
    return follow.exit_code(document)


def _described(fields: Mapping[str, Any]) -> dict[str, object]:
    """Return what people are shown of a status document, by its label."""
    percent = follow.percent_of(fields)
    parts = ["" if percent is None else f"{percent:.0f} %", follow.nodes_of(fields)]
    return {
        "execution": fields.get("execution_id"),
        "status": fields.get("status"),
        "chatbot": fields.get("chatbot_id"),
        "progress": ", ".join(filter(None, parts)),
        "accepted": moment(fields.get("created_at")),
        "waiting": _waiting(fields.get("waiting")),
        "started": moment(fields.get("started_at")),
        "ended": moment(fields.get("completed_at")),
        "notified": moment(fields.get("notified_at")),
        "cancel asked": moment(fields.get("cancel_requested")),
        "error": fields.get("error_message"),
        "waterflai": fields.get("waterflai_execution_id"),
        "metadata": json.dumps(fields["metadata"], ensure_ascii=False) if fields.get("metadata") else None,
    }


def _waiting(waiting: Mapping[str, Any] | None) -> str | None:
    """Return why and until when a request waits for its start, or None where it does not."""
    if not waiting:
        return None
    return f"{waiting.get('reason')}, next attempt {moment(waiting.get('next_attempt_at'))}"


def _tell_output(document: Document, output: Output) -> None:
    """Print the output on standard output, also one that is too large to be in the document."""
    fields = document.fields
    if fields.get("final_output") is not None:
        output.document(fields["final_output"])
    elif link := fields.get("final_output_url"):
        fetched = _fetched(link)
        if fetched is None:
            output.warn(f"The output can't be fetched. For an hour it is at {link}")
        else:
            output.document(fetched)
    elif fields.get("output_error"):
        output.warn(f"There is no output: {fields['output_error']}")


def _fetched(link: str) -> Any:
    """Return the JSON behind a link, or None where it can't be had."""
    try:
        answer = sender(link)(AWSRequest("GET", link))
        return read_json(answer.text) if answer.status_code == _HTTP_OK else None
    except (BotoCoreError, ValueError, RecursionError):
        return None


def _row(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return id, status, time of acceptance, chatbot: the last one is the only one of any length."""
    chatbot = str(entry.get("chatbot_id") or "")
    return str(entry["execution_id"]), str(entry["status"]), moment(entry.get("created_at")), chatbot
