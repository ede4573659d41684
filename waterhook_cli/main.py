"""The command group `waterhook`: lists the commands and turns errors into messages and exit codes."""

import os
from importlib import import_module
from typing import Any

import click

from waterhook import __version__
from waterhook_cli.errors import CommandError, ExitCode, one_line, to_command_error
from waterhook_cli.options import CommandContext, common_options, examples
from waterhook_cli.output import Output

# The sections of `--help` with their commands. The command NAME is the function `command` of
# waterhook_cli/commands/NAME.py, with underscores for hyphens.
SECTIONS = {
    "Executions": ("submit", "status", "list", "cancel", "logs", "open"),
    "Results": ("listen", "redeliver", "erase"),
    "Webhooks": ("deliveries", "resend", "webhook-test", "webhook-secret", "rotate-webhook-secret"),
    "Operation": ("doctor", "completion"),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)

# So many characters of a command's help may be in the list of commands: its whole first sentence.
_SENTENCE = 200
_STACK_HELP = (
    "Without --stack, --profile or --region, a command uses the local stack that `make up` started in this checkout. "
    "If there is no local stack, it uses the stack `waterhook` on AWS. The name of the stack is printed on standard "
    "error, unless --quiet is set."
)
_EXAMPLES = examples(
    "waterhook submit support-chat message='Where is my order?' --follow",
    "waterhook list --status failed --after 24h",
    "waterhook logs 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
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

    def format_commands(  # click's signature
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the commands in their sections."""
        # The same width in all sections, so that the texts are in one column.
        width = max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            rows = [(name.ljust(width), self.commands[name].get_short_help_str(_SENTENCE)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and exit. Turns every other exception into a CommandError, which click prints."""
        context = ctx.ensure_object(CommandContext)  # that of the command too
        try:
            exit_code: ExitCode = super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            Output().warning("Interrupted.", "")
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except CommandError as error:
            raise _with_complete_hint(error, context) from error.__cause__
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if command_error := to_command_error(error):
                raise _with_complete_hint(command_error, context) from error
            if "WATERHOOK_DEBUG" in os.environ:
                raise
            raise CommandError(
                ExitCode.BUG,
                f"this is a bug in the command itself: {type(error).__name__}: {one_line(error)}",
                "Set WATERHOOK_DEBUG=1 and repeat the command to get a traceback. Report it with the traceback.",
            ) from error
        ctx.exit(exit_code)


def _with_complete_hint(error: CommandError, context: CommandContext) -> CommandError:
    """Return the error with the options of the stack in the commands of its hint."""
    error.hint = context.complete_hint(error.hint)
    return error


@click.group(
    cls=CommandGroup,
    epilog=f"{_EXAMPLES}\n\n{_STACK_HELP}\n\n{_EXIT_CODES_HELP}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="waterhook")
@common_options
def cli() -> None:
    """Start, follow and manage executions of a deployed Waterhook stack."""


for name in COMMANDS:
    cli.add_command(import_module(f"waterhook_cli.commands.{name.replace('-', '_')}").command, name)
