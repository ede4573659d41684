"""`waterhook open`: links to one execution in the console of AWS."""

import sys
import time

import click

from waterhook_cli.console_links import console_links
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.execution_logs import log_groups
from waterhook_cli.execution_records import RecordReader
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.parameter_types import ExecutionIdType

_LABELS = {
    "state_machine_execution": "state machine",
    "logs": "logs",
    "record": "record",
    "output": "output",
}


@click.command(
    "open",
    epilog=examples(
        "waterhook open 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook open 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --print",
    ),
)
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@click.option("--print", "is_printed_only", is_flag=True, help="Print the links, and open no browser.")
@common_options
@pass_context
def command(context: CommandContext, execution_id: str, *, is_printed_only: bool) -> ExitCode:
    """Open an execution in the console of AWS.

    Prints links to the state machine execution, the logs, the record, and the output if it is in S3. On a terminal, it
    also opens the first one in the browser. With --json it only prints.
    """
    stack, output = context.find_stack(), context.output
    if stack.is_local:
        options = context.stack_options
        raise CommandError(
            ExitCode.UNAVAILABLE,
            "the local AWS has no console",
            f"To see its log lines: waterhook logs {execution_id}{options}\n"
            f"To see its status and output: waterhook status {execution_id}{options}",
        )
    with context.spinner("Reading the record"):
        record = RecordReader.of_stack(stack).read(execution_id)
        if record is None:
            raise CommandError(
                ExitCode.NOT_FOUND,
                f"{stack} has no record of execution {execution_id}: it was erased or has expired, or the id belongs "
                "to another stack",
                f"Its log lines may still exist: waterhook logs {execution_id}",
            )
        groups = [group.name for group in log_groups(stack.resources())]
    links = console_links(
        record, region=stack.region, table=stack.output("TableName"), log_groups=groups, now=time.time()
    )
    if output.as_json:
        output.json({"execution_id": execution_id, **links})
        return ExitCode.OK
    if output.as_table:
        # A label on a line of its own: the links are long.
        for name, link in links.items():
            output.line(f"{_LABELS[name]}:")
            output.line(link)
    else:
        output.table(("NAME", "LINK"), links.items())
    if not is_printed_only and sys.stdout.isatty() and click.launch(links["state_machine_execution"]) != 0:
        output.warning("No browser could be started. Open a link above.")
    return ExitCode.OK
