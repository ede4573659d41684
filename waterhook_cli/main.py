"""The command line: one group, and what its `--help` says of how commands end."""

import click

from waterhook import __version__
from waterhook_cli.commands.submit import browse, cancel, status, submit
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import Waterhook, common
from waterhook_cli.upkeep import doctor, erase, redeliver

# The line with nothing but \b keeps click from filling the lines of the list.
_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:>3}  {code.meaning.replace('`', '')}" for code in ExitCode
)
_WHICH = (
    "Without --stack, --profile or --region: the stack that `make up` started in this checkout, if there is one; "
    "else the stack `waterhook` on AWS. Its name is printed on standard error, unless --quiet."
)


@click.group(
    cls=Waterhook,
    epilog=f"{_WHICH}\n\n{_EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="waterhook")
@common
def cli() -> None:
    """Start, watch and care for Waterflai executions on a deployed Waterhook."""


for command in (submit, status, browse, cancel, redeliver, erase, doctor):
    cli.add_command(command)
