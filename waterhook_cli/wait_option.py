"""The option `--wait [SECONDS]`: the API answers when the execution ends, at the latest after so many seconds."""

from collections.abc import Callable
from typing import Any

import click

from waterhook.api.api_settings import MAX_WAIT_S
from waterhook_cli.api_client import ApiResponse
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext

DEFAULT_WAIT_S = 20
_NAME = "--wait"


class WaitCommand(click.Command):
    """A command with the option `--wait`, whose value may be left out, also before another argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the default value, unless the next argument is a number."""
        following = [*args[1:], ""]
        end = args.index("--") if "--" in args else len(args)
        completed = [
            f"{_NAME}={DEFAULT_WAIT_S}" if one == _NAME and number < end and not after.isdigit() else one
            for number, (one, after) in enumerate(zip(args, following, strict=False))
        ]
        return super().parse_args(ctx, completed)


def wait_option[F: Callable[..., Any]](function: F) -> F:
    """Add the option `--wait`, parameter `wait_s`."""
    return click.option(
        _NAME,
        "wait_s",
        type=click.IntRange(1, MAX_WAIT_S),
        metavar="[SECONDS]",
        help=f"Wait for the outcome, {DEFAULT_WAIT_S} seconds by default, at most {MAX_WAIT_S} and the stack's "
        "MaxWaitSeconds. Then print the output as --follow does.",
    )(function)


def require_one_way_to_wait(wait_s: int | None, *, is_followed: bool) -> None:
    """Raise a usage error if both `--wait` and `--follow` are set."""
    if wait_s is not None and is_followed:
        raise click.UsageError("--wait can't be combined with --follow, which waits without a limit.")


def print_not_ended(context: CommandContext, execution_id: str, response: ApiResponse) -> ExitCode:
    """Print that the execution continues, and the command that follows it."""
    context.output.info(f"{response.status}: the execution continues. To follow it:")
    context.output.info(f"waterhook status {execution_id} --follow{context.stack_options}")
    return ExitCode.NOT_ENDED
