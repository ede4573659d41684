"""The option `--follow`: polls the status of an execution until it is final, then prints outcome and output."""

import time
from collections.abc import Callable

from waterhook.domain.status import Status
from waterhook_cli.api_client import ApiClient, ApiResponse
from waterhook_cli.errors import AccessDeniedError, CommandError, ExitCode
from waterhook_cli.final_output import print_final_output
from waterhook_cli.options import CommandContext
from waterhook_cli.output import Output, status_style
from waterhook_cli.progress import ProgressDisplay, progress_display

# The API itself polls Waterflai at most every two seconds.
_MIN_INTERVAL_S, _MAX_INTERVAL_S = 1.0, 5.0
_INTERVAL_PER_AGE = 0.02
# The command ends when the API has been unavailable for longer. The execution continues.
_MAX_UNAVAILABLE_S = 120.0


def follow(context: CommandContext, api: ApiClient, execution_id: str) -> ExitCode:
    """Show progress until the execution is final, then print its outcome and output.

    Ctrl-C ends the command. The execution continues, and the commands to follow or cancel it are printed.
    """
    output = context.output
    try:
        document = poll_until_final(
            lambda: api.status(execution_id), progress_display(quiet=output.quiet), output
        )
    except KeyboardInterrupt:
        options = context.stack_options
        output.info(
            f"The execution continues. To follow it again: waterhook status {execution_id} --follow{options}"
        )
        output.info(f"To cancel it: waterhook cancel {execution_id}{options}")
        raise
    return print_outcome(document, output)


def print_outcome(document: ApiResponse, output: Output) -> ExitCode:
    """Print the outcome and the output of a final status document, and return the exit code."""
    completed = document.status == Status.COMPLETED
    if output.as_json:
        output.json(document.fields, document.text)
    else:
        message = document.fields.get("error_message")
        text = f"{document.status}: {message}" if message else document.status
        (output.info if completed else output.warning)(text, status_style(document.status))
        print_final_output(document.fields, output)
    return ExitCode.OK if completed else ExitCode.UNSUCCESSFUL


def poll_until_final(
    read_status: Callable[[], ApiResponse],
    display: ProgressDisplay,
    output: Output,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ApiResponse:
    """Show each status document, and return the final one.

    Retries for two minutes if the API is unavailable, then raises CommandError. Raises any other error immediately.
    """
    started_at = answered_at = clock()
    is_warned = False
    with display:
        while True:
            try:
                document = read_status()
            except CommandError as error:
                retryable = error.exit_code == ExitCode.UNAVAILABLE and not isinstance(
                    error, AccessDeniedError
                )
                if not retryable or clock() - answered_at > _MAX_UNAVAILABLE_S:
                    raise
                if not is_warned:
                    output.warning(f"{error.message}; trying again for up to two minutes")
                is_warned = True
            else:
                answered_at, is_warned = clock(), False
                display.show(document)
                if document.is_final:
                    return document
            sleep(poll_interval_s(clock() - started_at))


def poll_interval_s(age_s: float) -> float:
    """Return the polling interval in seconds, `age_s` after the first poll."""
    return min(max(_MIN_INTERVAL_S, age_s * _INTERVAL_PER_AGE), _MAX_INTERVAL_S)
