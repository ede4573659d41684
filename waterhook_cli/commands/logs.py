"""`waterhook logs`: prints the log lines of one execution, those of all functions and of the state machine."""

import json
import time
from collections.abc import Callable
from datetime import datetime

import click
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rich.text import Text

from waterhook.timestamps import to_epoch_s
from waterhook_cli.errors import CommandError, ExitCode, is_temporary, printable, to_command_error
from waterhook_cli.execution_logs import LogEvent, LogLine, LogReader, follow_events, log_groups
from waterhook_cli.execution_records import RecordReader, RecordSummary
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import Output
from waterhook_cli.parameter_types import ExecutionIdType, TimeType
from waterhook_cli.stack import Stack

# Calls are throttled when several operators read logs. A short timeout, because Ctrl-C waits for the calls.
_CONFIG = Config(read_timeout=10, retries={"mode": "standard", "total_max_attempts": 6})
# The clocks of the functions may differ by seconds.
_BEFORE_ACCEPTANCE_S = 60
_DAYS_WITHOUT_RECORD = 7
# The attempts of a webhook continue for three days.
_AFTER_END_S = 4 * 86_400
# Seconds between reads, and without a line after the end. On AWS a line is readable after about ten seconds.
_INTERVAL_S, _LOCAL_INTERVAL_S = 5.0, 0.5
_QUIET_S, _LOCAL_QUIET_S = 20.0, 2.0
_MAX_AFTER_END_S = 120.0
_MAX_UNAVAILABLE_S = 120.0
_LEVEL_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_SOURCE_WIDTH, _LEVEL_WIDTH = 13, 7


@click.command(
    "logs",
    epilog=examples(
        "waterhook logs 4f2c0a9e6d8b4c1fa37d5e9b20c18f46",
        "waterhook logs 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --tail",
        "waterhook logs 4f2c0a9e6d8b4c1fa37d5e9b20c18f46 --since 30d --json",
    ),
)
@click.argument("execution_id", type=ExecutionIdType(), metavar="ID")
@click.option(
    "--tail",
    "--follow",
    "-f",
    "is_followed",
    is_flag=True,
    help="Print new lines until the execution has ended and its last lines are printed.",
)
@click.option(
    "--since",
    type=TimeType(),
    help="Only lines since this time: 30m, 24h, 7d, 2026-01-31.  [default: when the execution was accepted]",
)
@click.option(
    "--until",
    type=TimeType(),
    help="Only lines before this time.  [default: 4 days after the end; with --since none]",
)
@common_options
@pass_context
def command(
    context: CommandContext,
    execution_id: str,
    since: datetime | None,
    until: datetime | None,
    *,
    is_followed: bool,
) -> ExitCode:
    """Print the log lines of an execution in the order of their times.

    A line has its time, the function, the level, the message and the fields that differ between lines. With --json:
    the events of CloudWatch Logs, one on each line.
    """
    if is_followed and until:
        raise click.UsageError("--tail can't be combined with --until.")
    stack, output = context.find_stack(), context.output
    records = RecordReader.of_stack(stack)
    with context.spinner("Reading logs"):
        record = records.read(execution_id)
        start_ms, end_ms = period_ms(record, since, until, time.time())
        texts = [execution_id]
        if record is not None and execution_id not in record.execution_name:
            texts.append(record.execution_name)  # in the log of the state machine
        reader = LogReader(
            stack.client("logs", _CONFIG),
            log_groups(stack.resources()),
            texts,
            has_patterns=not stack.is_local,
        )
        events = reader.read(start_ms, end_ms)
    for event in events:
        _print(event, output)
    has_lines = bool(events)
    if is_followed and record is not None and not _ended_long_ago(record):
        has_lines = _follow(stack, reader, records, execution_id, start_ms, output) or has_lines
    if not has_lines:
        _explain_no_lines(stack, record, execution_id, output, is_limited=bool(since or until))
    return ExitCode.OK


def period_ms(
    record: RecordSummary | None, since: datetime | None, until: datetime | None, now: float
) -> tuple[int, int | None]:
    """Return the first and the last millisecond in which lines are read. None: there is no last one.

    Without `since` it begins with the acceptance, and ends when the attempts of a webhook have ended: reading all logs
    since an old execution takes minutes. Without a record it begins some days ago.
    """
    accepted_at = to_epoch_s(record.created_at) if record else None
    ended_at = to_epoch_s(record.finished_at) if record else None
    start_s = (
        now - _DAYS_WITHOUT_RECORD * 86_400 if accepted_at is None else accepted_at - _BEFORE_ACCEPTANCE_S
    )
    end_s = None if ended_at is None else ended_at + _AFTER_END_S
    if since is not None:
        start_s, end_s = since.timestamp(), None
    if until is not None:
        end_s = until.timestamp()
    return int(start_s * 1000), None if end_s is None else int(end_s * 1000) - 1


def _ended_long_ago(record: RecordSummary) -> bool:
    """Return whether all lines of the end are readable."""
    ended_at = to_epoch_s(record.finished_at)
    return ended_at is not None and time.time() - ended_at > _MAX_AFTER_END_S


def _follow(
    stack: Stack, reader: LogReader, records: RecordReader, execution_id: str, start_ms: int, output: Output
) -> bool:
    """Print new lines until the execution has ended. Returns whether there were any."""

    def has_ended() -> bool:
        record = records.read(execution_id)
        return record is None or record.finished_at is not None

    has_lines = False
    # One for each service: a success of one does not end the failure of the other.
    reads, record_reads = Retry(output), Retry(output)
    for event in follow_events(
        lambda: reads.call(lambda: reader.read_new(start_ms), []),
        lambda: record_reads.call(has_ended, default=False),
        interval_s=_LOCAL_INTERVAL_S if stack.is_local else _INTERVAL_S,
        quiet_s=_LOCAL_QUIET_S if stack.is_local else _QUIET_S,
        max_s=_MAX_AFTER_END_S,
        clock=time.monotonic,
        sleep=time.sleep,
    ):
        _print(event, output)
        has_lines = True
    return has_lines


class Retry:
    """Replaces the results of calls that fail temporarily, for up to two minutes."""

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._failing_since: float | None = None

    def call[T](self, function: Callable[[], T], default: T) -> T:
        """Return the result, or `default` after a temporary error. Raises other errors, and any after two minutes."""
        try:
            result = function()
        except (ClientError, BotoCoreError) as error:
            if not is_temporary(error):
                raise
            if self._failing_since is None:
                self._failing_since = self._clock()
                explained = to_command_error(error)
                self._output.warning(f"{explained.message if explained else error}; trying again")
            elif self._clock() - self._failing_since > _MAX_UNAVAILABLE_S:
                raise
            return default
        self._failing_since = None
        return result


def _print(event: LogEvent, output: Output) -> None:
    """Print a line immediately."""
    if output.as_json:
        click.echo(json.dumps(event.to_dict()))
        return
    line = LogLine.of(event)
    if not output.as_table:
        output.table((), [(line.time, line.source, line.level, line.message, line.details)])
        return
    style = _LEVEL_STYLES.get(line.level, "")
    text = "  ".join(printable(part) for part in (line.message, line.details) if part)
    output.line(
        Text.assemble(
            (f"{line.time}  ", "dim"),
            f"{line.source:{_SOURCE_WIDTH}}  ",
            (f"{printable(line.level):{_LEVEL_WIDTH}}  {text}", style),
        )
    )


def _explain_no_lines(
    stack: Stack, record: RecordSummary | None, execution_id: str, output: Output, *, is_limited: bool
) -> None:
    """Print why there are no lines. Raises CommandError if there is no such execution."""
    days = stack.parameters.get("LogRetentionDays")
    deleted = f"Lines are deleted after {days} days (LogRetentionDays)." if days else "Old lines are deleted."
    if record is None:
        raise CommandError(
            ExitCode.NOT_FOUND,
            f"{stack} has no record and no log lines of execution {execution_id}",
            f"The id may belong to another stack: add --stack NAME. {deleted} Without a record, the last "
            f"{_DAYS_WITHOUT_RECORD} days are searched.\n"
            f"To search longer: waterhook logs {execution_id} --since 30d",
        )
    if is_limited:
        output.warning(f"No lines in this period. {deleted}")
    else:
        output.warning(
            f"No lines. The execution was accepted {record.created_at}. {deleted} A new line is readable after "
            "about ten seconds."
        )
