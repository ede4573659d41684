"""`waterhook completion`: prints the script with which a shell completes commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, examples

# click reads this variable when the shell runs `waterhook` to complete a word.
_VARIABLE = "_WATERHOOK_COMPLETE"
_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    "completion",
    epilog=examples(
        "waterhook completion bash >> ~/.bashrc",
        "waterhook completion zsh >> ~/.zshrc",
        "waterhook completion fish > ~/.config/fish/completions/waterhook.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(_SHELLS)), metavar="bash|zsh|fish")
@common_options
@click.pass_context
def command(click_context: click.Context, shell: str) -> ExitCode:
    """Print the script that completes commands and options in your shell.

    Completion calls no service. bash must be 4.4 or newer: that of macOS is older.
    """
    complete = _SHELLS[shell](click_context.find_root().command, {}, "waterhook", _VARIABLE)
    script = complete.source_template % complete.source_vars()
    output = click_context.ensure_object(CommandContext).output
    if output.as_json:
        output.json({"shell": shell, "script": script})
    else:
        click.echo(script)
    return ExitCode.OK
