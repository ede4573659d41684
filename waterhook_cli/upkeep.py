"""What an operator does to a stack: look what is wrong with it, publish again, erase."""

from contextlib import nullcontext
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import click

from waterhook.domain.status import Status
from waterhook_cli import doctor as checkup
from waterhook_cli.erase import CannotErase, Erased, Eraser, NoSuchExecution
from waterhook_cli.errors import ExitCode, Problem
from waterhook_cli.options import (
    ExecutionId,
    Moment,
    agreed,
    aws_options,
    common,
    output_of,
    require_consent,
    same_stack,
    stack_of,
)
from waterhook_cli.output import Output, busy
from waterhook_cli.redeliver import Redelivery, Sent
from waterhook_cli.target import NoStackError

_OUTCOMES = [str(status) for status in Status if status.is_final]
_YES = click.option("--yes", "-y", is_flag=True, help="Don't ask. Needed where there is no terminal.")


@click.command()
@common
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check the stack and what it depends on."""
    output = output_of(context)
    try:
        stack = stack_of(context)
    except NoStackError as missing:
        checkup.examine(checkup.before_deployment(missing.account), output)
        raise
    needs = 'eval "$(make -s env)"' if stack.local else aws_options(context)
    context.exit(checkup.examine(checkup.checks(stack, same_stack(context)), output, needs))


@click.command()
@click.argument("ids", type=ExecutionId(), metavar="[ID]...", nargs=-1)
@click.option(
    "--status",
    type=click.Choice(_OUTCOMES, case_sensitive=False),
    metavar="STATUS",
    help="Ended so: COMPLETED, FAILED, ...",
)
@click.option("--since", type=Moment(), help="Ended then or later: 2026-01-31, 24h, 7d.")
@click.option("--until", type=Moment(), help="Ended before.")
@click.option("--undelivered", is_flag=True, help="Only those that were never published.")
@click.option("--dry-run", is_flag=True, help="Only list which ones it would be.")
@_YES
@common
@click.pass_context
def redeliver(
    context: click.Context,
    ids: tuple[str, ...],
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    *,
    undelivered: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Publish notifications again: the same id, time and data."""
    if not (ids or status or since or until or undelivered):
        raise click.UsageError("Say which: an ID, --status, --since, --until or --undelivered.")
    if not dry_run:
        require_consent(yes=yes)
    output, stack = output_of(context), stack_of(context)
    redelivery = Redelivery(
        stack.client("dynamodb"),
        stack.client("lambda"),
        table=stack.output("TableName"),
        notify_function=stack.output("NotifyFunctionName"),
    )
    with nullcontext() if output.quiet else busy("Looking for executions"):
        found = list(
            redelivery.find(
                ids or None, status=status, since=since, until=until, undelivered_only=undelivered
            )
        )
    if ids and not found:
        raise Problem(ExitCode.NOT_FOUND, "no execution that has ended goes by that id and those filters")
    many = f"{len(found)} notification{'' if len(found) == 1 else 's'}"
    question = f"Publish {many} again, to every subscriber of {stack}?"
    if found and not dry_run and not agreed(question, output, yes=yes):
        context.exit(ExitCode.ENDED_OTHERWISE)
    told: list[dict[str, Any]] = []
    for execution_id in found:
        sent = None if dry_run else redelivery.send(execution_id)
        told.append(asdict(sent) if sent else {"execution_id": execution_id, "redelivered": False})
        if not output.as_json:
            output.result(execution_id if sent is None else _sent(sent))
    if output.as_json:
        output.json({"dry_run": dry_run, "executions": told})
    done = sum(entry["redelivered"] for entry in told)
    output.say(
        f"{len(told)} would be published again." if dry_run else f"{done} of {len(told)} published again."
    )
    if not dry_run and done < len(told):
        context.exit(ExitCode.ENDED_OTHERWISE)


def _sent(sent: Sent) -> str:
    return f"{sent.execution_id}  {sent.outcome if sent.redelivered else f'not published: {sent.reason}'}"


@click.command()
@click.argument("execution_id", type=ExecutionId(), metavar="ID")
@_YES
@common
@click.pass_context
def erase(context: click.Context, execution_id: str, *, yes: bool) -> None:
    """Erase an execution: its record and its output, permanently."""
    require_consent(yes=yes)
    output, stack = output_of(context), stack_of(context)
    if not agreed(f"Erase {execution_id} from {stack}? It can't be undone.", output, yes=yes):
        context.exit(ExitCode.ENDED_OTHERWISE)
    eraser = Eraser(
        stack.client("dynamodb"),
        stack.client("s3"),
        table=stack.output("TableName"),
        bucket=stack.output("BucketName"),
    )
    try:
        erased = eraser.erase(execution_id)
    except CannotErase as error:
        code = ExitCode.NOT_FOUND if isinstance(error, NoSuchExecution) else ExitCode.ENDED_OTHERWISE
        raise Problem(code, str(error)) from error
    if output.as_json:
        output.json(_as_json(erased))
    else:
        _tell(erased, output)


def _as_json(erased: Erased) -> dict[str, Any]:
    said = asdict(erased)
    for place in said["remaining"]:
        place["until"] = place["until"].isoformat() if isinstance(place["until"], date) else None
    return said


def _tell(erased: Erased, output: Output) -> None:
    output.point("erased", "green", f"record: {'yes' if erased.record else 'there was none'}")
    output.point("erased", "green", f"stored outputs: {len(erased.objects)}")
    if erased.record and not erased.notified:
        output.point("note", "yellow", "its outcome had not been published, and never will be")
    for place in erased.remaining:
        until = f", until {place.until}" if place.until else ""
        output.point("stays", "yellow", f"{place.place}{until}: {place.holds}")
