"""`waterhook doctor`: runs the checks of waterhook_cli/checks and prints their findings."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import click

from waterhook_cli.api_client import ApiClient, http_sender
from waterhook_cli.checks.alarms import check_alarm_subscriptions, check_alarms
from waterhook_cli.checks.api import check_api
from waterhook_cli.checks.concurrency import check_concurrency
from waterhook_cli.checks.dead_letters import check_dead_letters
from waterhook_cli.checks.finding import Check, Finding, Level
from waterhook_cli.checks.records import check_records
from waterhook_cli.checks.secret import check_secret
from waterhook_cli.checks.stack_status import check_stack_status
from waterhook_cli.checks.subscriptions import check_subscriptions
from waterhook_cli.checks.upstream import check_upstream
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, pass_context
from waterhook_cli.output import Output
from waterhook_cli.stack import Account, Stack, StackNotFoundError, StackResource

_STYLES = {
    Level.OK: "green",
    Level.NOTE: "",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
    Level.UNKNOWN: "yellow",
}
_UPSTREAM_TIMEOUT_S = 10


@click.command("doctor")
@common_options
@pass_context
def command(context: CommandContext) -> ExitCode:
    """Check the stack and what it depends on."""
    try:
        stack = context.find_stack()
    except StackNotFoundError as error:
        # The quota can be checked before the first deployment.
        run_checks(checks_of_account(error.account), context.output)
        raise
    aws_cli_options = 'eval "$(make -s env)"' if stack.is_local else context.aws_cli_options
    return run_checks(checks_of_stack(stack, context.stack_options), context.output, aws_cli_options)


def checks_of_stack(stack: Stack, stack_options: str = "") -> Iterator[Check]:
    """Yield the checks of a stack in their order. Each calls AWS when it runs, not before.

    `stack_options` are those with which a `waterhook` command finds the same stack.
    """
    parameters, client = stack.parameters, stack.client
    base_url = parameters.get("WaterflaiBaseUrl", "")
    secret_arn = parameters.get("WaterflaiApiKeySecretArn", "")

    @cache
    def resources() -> list[StackResource]:
        return stack.resources()

    # First: where the quota is too low, the deployment fails, and the other findings follow from that.
    yield Check(
        "concurrency",
        lambda: check_concurrency(client("lambda"), resources(), parameters, is_local=stack.is_local),
    )
    yield Check("the stack", lambda: check_stack_status(stack))
    yield Check("the API", lambda: check_api(ApiClient.for_stack(stack)))
    yield Check("the secret", lambda: check_secret(client("secretsmanager"), secret_arn, stack.region))
    yield Check(
        "Waterflai",
        lambda: check_upstream(
            base_url, http_sender(base_url, _UPSTREAM_TIMEOUT_S), client("secretsmanager"), secret_arn
        ),
    )
    yield Check(
        "subscriptions",
        lambda: check_subscriptions(client("sns"), stack.output("TopicArn"), parameters.get("Delivery", "")),
    )
    yield Check("alarms", lambda: check_alarms(client("cloudwatch"), resources()))
    yield Check("alarms' mail", lambda: check_alarm_subscriptions(client("sns"), resources()))
    yield Check(
        "dead letters",
        lambda: check_dead_letters(client("sqs"), client("sns"), stack.output("TopicArn"), resources()),
    )
    yield Check(
        "records",
        lambda: check_records(
            client("dynamodb"), stack.output("TableName"), time.time(), parameters, stack_options
        ),
    )


def checks_of_account(account: Account) -> Iterator[Check]:
    """Yield the checks of an account without a stack: whether its quota allows FollowConcurrency."""
    yield Check("concurrency", lambda: check_concurrency(account.client("lambda"), [], {}, is_local=False))


def run_checks(checks: Iterable[Check], output: Output, aws_cli_options: str = "") -> ExitCode:
    """Run the checks, print each finding when it is known, and return the exit code.

    `aws_cli_options` are what an `aws` command needs to reach the same account. They are printed where a hint has such
    a command.
    """
    findings: list[tuple[Check, Finding]] = []
    for check in checks:
        for finding in check.findings():
            findings.append((check, finding))
            if not output.as_json:
                output.marked_line(finding.level, _STYLES[finding.level], finding.message, finding.hint)
    count = Counter(finding.level for _, finding in findings)
    if output.as_json:
        entries = [
            {"check": check.name, "level": finding.level, "what": finding.message, "do": finding.hint}
            for check, finding in findings
        ]
        output.json({"findings": entries, "count": {level: count[level] for level in Level}})
    if aws_cli_options and any("aws " in finding.hint for _, finding in findings):
        output.info(f"The aws commands above need: {aws_cli_options}")
    output.info(_summary(count))
    return ExitCode.PROBLEMS if count[Level.PROBLEM] else ExitCode.OK


def _summary(count: Counter[Level]) -> str:
    """Return the number of problems, warnings and checks that could not run."""
    parts = [
        f"{count[level]} {level}{'s' if count[level] > 1 else ''}"
        for level in (Level.PROBLEM, Level.WARNING)
        if count[level]
    ]
    if count[Level.UNKNOWN]:
        parts.append(f"{count[Level.UNKNOWN]} not checked")
    return ", ".join(parts) or "No problems."
