"""`waterhook resend`: begins deliveries of webhooks again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook_cli.errors import ExitCode, is_temporary, one_line, to_command_error
from waterhook_cli.execution_records import ID_COLUMNS, RESULT_COLUMNS
from waterhook_cli.options import (
    CommandContext,
    common_options,
    examples,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.output import Output
from waterhook_cli.parameter_types import ExecutionIdType, HostType, TimeType
from waterhook_cli.webhook_deliveries import accepted_ms
from waterhook_cli.webhook_stack import DeliverFunction, DeliverFunctionError, deliveries_of, webhook_output

# At most ten a second: each one queues a message, and the receiver gets a request for it.
_INTERVAL_S = 0.1
# So many calls in a row that AWS did not carry out end the command.
_MAX_FAILED_CALLS = 3


@dataclass(frozen=True, slots=True)
class Resend:
    """Result for one execution. `resent` is None if it is unknown, because the call was interrupted."""

    execution_id: str
    resent: bool | None
    outcome: str | None = None
    event_id: str | None = None
    reason: str | None = None
    """Why nothing is sent, or why it is unknown."""


def find(
    deliveries: WebhookDeliveries, *, failed_only: bool, since: datetime | None, host: str | None
) -> list[str]:
    """Return the ids of executions whose deliveries match, those that were accepted first before the others.

    With `failed_only`: the deliveries that failed at `since` or later. Otherwise all that began then, from a scan of
    the table. Raises RecordUnavailableError.
    """
    since_s = since.timestamp() if since else 0.0
    found: Iterable[Any] = deliveries.failed(since_s) if failed_only else deliveries.created_since(since_s)
    matching = [entry for entry in found if host in {None, entry.host}]
    matching.sort(key=lambda entry: accepted_ms(entry.event_id))
    return list(dict.fromkeys(entry.execution_id for entry in matching))


class Resender:
    """Begins deliveries again, one after the other, at a limited rate."""

    def __init__(
        self,
        function: DeliverFunction,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._function = function
        self._clock = clock
        self._sleep = sleep
        self._next_at = 0.0
        self._failed_calls = 0

    def resend(self, execution_id: str) -> Resend:
        """Begin the delivery of one execution again, at the earliest _INTERVAL_S after the one before.

        A refusal and an error of the function are results, so that the caller can continue. So is a call that failed
        for a temporary reason, unless it is the third one in a row. Other errors of boto3 are raised.
        """
        self._sleep(max(self._next_at - self._clock(), 0.0))
        self._next_at = self._clock() + _INTERVAL_S
        try:
            result = self._resend(execution_id)
        except (ClientError, BotoCoreError) as error:
            self._failed_calls += 1
            if self._failed_calls >= _MAX_FAILED_CALLS or not is_temporary(error):
                raise
            return Resend(execution_id, resent=None, reason=f"{_message(error)}. Repeat the command")
        self._failed_calls = 0
        return result

    def _resend(self, execution_id: str) -> Resend:
        try:
            result = self._function.invoke({"resend": {"execution_id": execution_id}}, "resent")
        except DeliverFunctionError as error:
            # It may have failed after its first write. The sweep then sends the webhook.
            return Resend(execution_id, resent=None, reason=f"{error.message}. {error.hint}")
        return Resend(
            execution_id,
            resent=result["resent"] is True,
            outcome=result.get("outcome"),
            event_id=result.get("event_id"),
            reason=result.get("reason"),
        )


def _message(error: Exception) -> str:
    explained = to_command_error(error)
    return explained.message if explained else one_line(error)


@click.command(
    "resend",
    epilog=examples(
        "waterhook resend 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook resend --failed --since 7d --host hooks.example.com --dry-run",
        "waterhook resend --failed --yes",
    ),
)
@click.argument("ids", type=ExecutionIdType(), metavar="[ID]...", nargs=-1)
@click.option("--failed", "failed_only", is_flag=True, help="Deliveries that failed permanently.")
@click.option(
    "--since",
    type=TimeType(),
    help="With --failed: only those that failed at this time or later: 30m, 24h, 7d, 2026-01-31. Without --failed: all "
    "deliveries that began then, also delivered ones. This reads the whole table of deliveries.",
)
@click.option("--host", type=HostType(), help="Only deliveries to this host. Requires --failed or --since.")
@click.option("--dry-run", is_flag=True, help="List the executions, but send nothing.")
@yes_option
@common_options
@pass_context
def command(
    context: CommandContext,
    /,
    ids: tuple[str, ...],
    since: datetime | None,
    host: str | None,
    *,
    failed_only: bool,
    dry_run: bool,
    yes: bool,
) -> ExitCode:
    """Send webhooks again, with all their attempts and the same webhook-id.

    Select executions by their IDs, or with --failed or --since. With these options, the command prompts for
    confirmation.
    """
    if ids and (failed_only or since or host):
        raise click.UsageError("An ID can't be combined with --failed, --since or --host.")
    if not (ids or failed_only or since):
        raise click.UsageError("No deliveries are selected. Add an ID, --failed or --since.")
    if not (ids or dry_run):
        require_confirmation_possible(yes=yes)
    stack, output = context.find_stack(), context.output
    deliveries = deliveries_of(stack)
    function = DeliverFunction(webhook_output(stack, "DeliverFunctionName"), stack.client("lambda"))
    with context.spinner("Looking for deliveries"):
        selected = list(ids) or find(deliveries, failed_only=failed_only, since=since, host=host)
    selected = list(dict.fromkeys(selected))
    count = f"{len(selected)} webhook{'' if len(selected) == 1 else 's'}"
    if selected and not (ids or dry_run):
        again = "" if failed_only else " Receivers get those that were delivered a second time."
        if not context.confirm(f"Send {count} of {stack} again?{again}", yes=yes):
            return ExitCode.UNSUCCESSFUL
    if dry_run:
        _print_dry_run(selected, output)
        return ExitCode.OK
    exit_code = _send(Resender(function), selected, output, repeats_all=not failed_only)
    output.info(f"To see the results: waterhook deliveries{context.stack_options}")
    return exit_code


def _print_dry_run(selected: list[str], output: Output) -> None:
    if output.as_json:
        entries = [asdict(Resend(execution_id, resent=False)) for execution_id in selected]
        output.json({"dry_run": True, "executions": entries})
    else:
        print_row = output.row_printer(*ID_COLUMNS)
        for execution_id in selected:
            print_row(execution_id)
    output.info(f"Dry run: {len(selected)} would be sent again.")


def _send(resender: Resender, selected: list[str], output: Output, *, repeats_all: bool) -> ExitCode:
    """Resend, print each result immediately, and report what was not done if the command ends early."""
    results: list[Resend] = []
    print_row = output.row_printer(*RESULT_COLUMNS)

    def add(result: Resend) -> None:
        results.append(result)
        if not output.as_json:
            print_row(result.execution_id, _result_text(result))

    try:
        for execution_id in selected:
            add(resender.resend(execution_id))
    except (KeyboardInterrupt, ClientError, BotoCoreError) as error:
        if len(results) < len(selected):
            add(_interrupted(selected[len(results)], error))
        for execution_id in selected[len(results) :]:
            add(Resend(execution_id, resent=False, reason="not tried"))
        _print_end(results, output)
        again = "also those that were sent again" if repeats_all else "those that are still failed"
        output.warning(f"If you repeat the command, it sends {again}. The webhook-id stays the same.")
        raise
    _print_end(results, output)
    return ExitCode.OK if all(result.resent for result in results) else ExitCode.UNSUCCESSFUL


def _interrupted(execution_id: str, error: BaseException) -> Resend:
    """Return the result of the call that `error` ended."""
    if isinstance(error, Exception):
        resent = None if is_temporary(error) else False
        return Resend(execution_id, resent=resent, reason=_message(error))
    return Resend(execution_id, resent=None, reason="interrupted. It may be sent again")


def _print_end(results: list[Resend], output: Output) -> None:
    if output.as_json:
        output.json({"dry_run": False, "executions": [asdict(result) for result in results]})
    resent = sum(result.resent is True for result in results)
    output.info(f"{resent} of {len(results)} are sent again.")


def _result_text(result: Resend) -> str:
    if result.resent:
        return str(result.outcome)
    state = "not sent" if result.resent is False else "unknown"
    return f"{state}: {result.reason}"
