"""`waterhook cancel`: cancels an execution."""

import click

from waterhook.domain.status import Status
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import (
    CommandContext,
    common_options,
    examples,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.parameter_types import ExecutionIdType


@click.command(
    "cancel",
    epilog=examples(
        "waterhook cancel 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook cancel 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --yes",
    ),
)
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@yes_option
@common_options
@pass_context
def command(context: CommandContext, execution_id: str, *, yes: bool) -> ExitCode:
    """Cancel an execution. An execution that has ended keeps its outcome."""
    require_confirmation_possible(yes=yes)
    stack = context.find_stack()
    api, output = context.api_client(stack), context.output
    if not yes:
        document = api.status(execution_id)
        chatbot = document.fields.get("chatbot_id")
        question = (
            f"Cancel execution {execution_id} ({document.status}, chatbot {chatbot}) of {stack}? Its job ends, and "
            "can't be continued."
        )
        # An execution that has ended is not changed.
        if not document.is_final and not context.confirm(question, yes=yes):
            return ExitCode.UNSUCCESSFUL
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
