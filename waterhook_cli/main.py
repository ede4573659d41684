"""The command group `waterhook`: lists the commands and turns errors into messages and exit codes."""

import os
from importlib import import_module
from typing import Any

import click

from waterhook import __version__
from waterhook_cli.errors import CommandError, ExitCode, one_line, to_command_error
from waterhook_cli.options import common_options
from waterhook_cli.output import Output

# In the order of `--help`. The command NAME is the function `command` of waterhook_cli/commands/NAME.py, with
# underscores for hyphens.
COMMANDS = (
    "submit",
    "status",
    "list",
    "listen",
    "cancel",
    "redeliver",
    "erase",
    "deliveries",
    "resend",
    "webhook-test",
    "webhook-secret",
    "rotate-webhook-secret",
    "doctor",
)

_STACK_HELP = (
    "Without --stack, --profile or --region, a command uses the local stack that `make up` started in this checkout. "
    "If there is no local stack, it uses the stack `waterhook` on AWS. The name of the stack is printed on standard "
    "error, unless --quiet is set."
)
# click does not rewrap a paragraph that begins with a line that contains only \b.
_EXIT_CODES_HELP = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:>3}  {code.meaning.replace('`', '')}" for code in ExitCode
)


class CommandGroup(click.Group):
    """The command group. The process exits with the code that the command returns, or with that of its error."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names in the order of COMMANDS."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and exit. Turns every other exception into a CommandError, which click prints."""
        try:
            exit_code: ExitCode = super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            Output().warning("Interrupted.", "")
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if command_error := to_command_error(error):
                raise command_error from error
            if "WATERHOOK_DEBUG" in os.environ:
                raise
            raise CommandError(
                ExitCode.BUG,
                f"this is a bug in the command itself: {type(error).__name__}: {one_line(error)}",
                "Set WATERHOOK_DEBUG=1 and repeat the command to get a traceback. Report it with the traceback.",
            ) from error
        ctx.exit(exit_code)


@click.group(
    cls=CommandGroup,
    epilog=f"{_STACK_HELP}\n\n{_EXIT_CODES_HELP}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="waterhook")
@common_options
def cli() -> None:
    """Start, follow and manage executions of a deployed Waterhook stack."""


for name in COMMANDS:
    cli.add_command(import_module(f"waterhook_cli.commands.{name.replace('-', '_')}").command, name)
