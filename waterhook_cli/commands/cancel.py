"""`waterhook cancel`: cancels an execution."""

import click

from waterhook.domain.status import Status
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.parameter_types import ExecutionIdType


@click.command("cancel")
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@common_options
@pass_context
def command(context: CommandContext, execution_id: str) -> ExitCode:
    """Cancel an execution. An execution that has ended keeps its outcome."""
    api, output = context.api_client(), context.output
    response = api.cancel(execution_id)
    fields = response.fields
    is_cancelled, previous = bool(fields.get("cancelled")), str(fields.get("previous_status"))
    is_known = previous in Status.__members__
    has_ended = is_known and Status(previous).is_final
    if output.as_json:
        output.json(response.fields, response.text)
    elif is_cancelled:
        output.line(f"CANCELLED. The status before was {previous}.")
    elif previous == Status.ACCEPTED:
        output.line(f"Not cancelled: {fields.get('message')}")
    elif is_known and not has_ended:
        output.line(
            f"{previous}. Cancellation is requested. The execution is cancelled when its job has started."
        )
    else:
        output.line(f"{previous}. The execution had already ended, so it was not cancelled.")
    # An ACCEPTED execution that was not cancelled has another outcome, for example UNCERTAIN.
    if is_cancelled or previous == Status.CANCELLED or not (has_ended or previous == Status.ACCEPTED):
        return ExitCode.OK
    return ExitCode.UNSUCCESSFUL
