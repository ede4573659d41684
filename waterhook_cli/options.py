"""The options that all commands have, and the context that a command gets from them."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import click

from waterhook_cli.api_client import ApiClient
from waterhook_cli.errors import printable
from waterhook_cli.hints import CommandOptions
from waterhook_cli.output import Output, OutputFormat, spinner
from waterhook_cli.stack import Stack, StackSelection, find_stack

OUTPUT_VARIABLE = "WATERHOOK_OUTPUT"


@dataclass
class CommandContext:
    """Values of the common options. A command gets its output, its stack and its API client from here."""

    stack: str | None = None
    local: bool = False
    profile: str | None = None
    region: str | None = None
    output_format: str | None = None
    quiet: bool = False
    found_name: str | None = None
    """Name of the stack, when it was found."""

    @property
    def output(self) -> Output:
        """Output according to `--output` and `--quiet`. Raises UsageError if WATERHOOK_OUTPUT is wrong."""
        name = (self.output_format or os.environ.get(OUTPUT_VARIABLE, "")).lower()
        if name and name not in OutputFormat:
            raise click.UsageError(f"{OUTPUT_VARIABLE} is {name!r}: expected {', '.join(OutputFormat)}")
        return Output(OutputFormat(name) if name else None, quiet=self.quiet)

    def find_stack(self) -> Stack:
        """Return the selected stack, and print its name on standard error. Raises CommandError."""
        output = self.output  # a wrong WATERHOOK_OUTPUT is reported before any call
        with self.spinner("Looking for the stack"):
            stack = find_stack(StackSelection(self.stack, self.local, self.profile, self.region))
        self.found_name = stack.name
        output.info(str(stack), "dim")
        return stack

    def api_client(self, stack: Stack | None = None) -> ApiClient:
        """Return an API client of the selected stack. `stack`: the result of `find_stack`, if it was called."""
        return ApiClient.for_stack(stack or self.find_stack())

    def complete_hint(self, hint: str) -> str:
        """Return a hint whose commands have the options for the same stack and account."""
        sam = f"--stack-name {self.found_name} {self.aws_cli_options}".strip() if self.found_name else ""
        return CommandOptions(waterhook=self.stack_options, aws=self.aws_cli_options, sam=sam).complete(hint)

    def spinner(self, title: str) -> AbstractContextManager[None]:
        """Return a context manager that shows a spinner, unless `--quiet`."""
        return nullcontext() if self.quiet else spinner(title)

    @property
    def stack_options(self) -> str:
        """Options of a `waterhook` command that uses the same stack, with a leading space."""
        named = {"stack": self.stack, "profile": self.profile, "region": self.region}
        options = "".join(f" --{name} {shlex.quote(value)}" for name, value in named.items() if value)
        return options + (" --local" if self.local else "")

    @property
    def aws_cli_options(self) -> str:
        """Options of an `aws` or `sam` command that uses the same account and region."""
        named = {"profile": self.profile, "region": self.region}
        return " ".join(f"--{name} {shlex.quote(value)}" for name, value in named.items() if value)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Return whether the user confirms: `yes`, or the answer at the terminal."""
        if yes or click.confirm(printable(question), err=True):
            return True
        self.output.warning("Nothing was done.", "")
        return False


pass_context = click.make_pass_decorator(CommandContext, ensure=True)


def common_options[F: Callable[..., Any]](function: F) -> F:
    """Add the common options. An option after the command's name takes precedence over one before it."""
    for names, attributes in reversed(_COMMON_OPTIONS):
        function = click.option(*names, **attributes, expose_value=False, callback=_store)(function)
    return function


_COMMON_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("--stack",), {"metavar": "NAME", "help": "Name of the stack on AWS.  [WATERHOOK_STACK; waterhook]"}),
    (("--local",), {"is_flag": True, "help": "Use the local stack that `make up` started."}),
    (("--profile",), {"metavar": "NAME", "help": "AWS profile.  [AWS_PROFILE]"}),
    (("--region",), {"metavar": "NAME", "help": "AWS region.  [AWS_REGION; the profile's]"}),
    (
        ("--output", "output_format"),
        {
            "type": click.Choice(list(OutputFormat), case_sensitive=False),
            "help": f"Form of the results.  [{OUTPUT_VARIABLE}; table on a terminal, else text]",
        },
    ),
    # The same parameter as --output, so the last one on the command line applies.
    (("--json", "output_format"), {"flag_value": str(OutputFormat.JSON), "help": "Short for --output json."}),
    (("--quiet", "-q"), {"is_flag": True, "help": "Print only errors and warnings on standard error."}),
]


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, one on each line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Store the value of a common option, before or after the command's name."""
    if value:
        setattr(context.ensure_object(CommandContext), str(parameter.name), value)


yes_option = click.option(
    "--yes", "-y", is_flag=True, help="Skip the confirmation. Required if standard input is not a terminal."
)


def require_confirmation_possible(*, yes: bool) -> None:
    """Raise a usage error if `CommandContext.confirm` can't prompt."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(
            "Standard input is not a terminal, so the command can't prompt for confirmation: add --yes."
        )
