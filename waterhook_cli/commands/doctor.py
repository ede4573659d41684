"""`waterhook doctor`: runs the checks of waterhook_cli/checks and prints their findings."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import click

from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook_cli.api_client import ApiClient, http_sender
from waterhook_cli.checks.alarms import check_alarm_subscriptions, check_alarms
from waterhook_cli.checks.api import check_api
from waterhook_cli.checks.concurrency import check_concurrency
from waterhook_cli.checks.dead_letters import check_dead_letters
from waterhook_cli.checks.finding import Check, Finding, Level
from waterhook_cli.checks.records import check_records
from waterhook_cli.checks.result_bus import check_result_bus
from waterhook_cli.checks.secret import check_secret
from waterhook_cli.checks.stack_status import check_stack_status
from waterhook_cli.checks.subscriptions import check_subscriptions
from waterhook_cli.checks.upstream import check_upstream
from waterhook_cli.checks.webhooks import check_webhooks
from waterhook_cli.errors import ExitCode
from waterhook_cli.hints import CommandOptions, has_sam_command
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
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
_SAM_NOTE = "Run sam in a checkout of Waterhook. If samconfig.toml has parameter_overrides, change the value there too."


_NO_OPTIONS = CommandOptions()


@click.command("doctor", epilog=examples("waterhook doctor", "waterhook doctor --stack shop --json"))
@common_options
@pass_context
def command(context: CommandContext) -> ExitCode:
    """Check the stack and the services that it uses."""
    try:
        stack = context.find_stack()
    except StackNotFoundError as error:
        # Before the first deployment, only the quota can be checked.
        run_checks(
            checks_of_account(error.account), context.output, CommandOptions(aws=context.aws_cli_options)
        )
        raise
    sam_options = f"--stack-name {stack.name} {context.aws_cli_options}".strip()
    if stack.is_local:
        options = CommandOptions(
            sam=sam_options, waterhook=context.stack_options, setup='eval "$(make -s env)"'
        )
    else:
        options = CommandOptions(
            sam=sam_options, aws=context.aws_cli_options, waterhook=context.stack_options
        )
    return run_checks(checks_of_stack(stack, context.stack_options), context.output, options)


def checks_of_stack(stack: Stack, stack_options: str = "") -> Iterator[Check]:
    """Yield the checks of a stack in their order. A check calls AWS only when it runs.

    `stack_options`: options of a `waterhook` command that uses the same stack.
    """
    parameters, client = stack.parameters, stack.client
    base_url = parameters.get("WaterflaiBaseUrl", "")
    secret_arn = parameters.get("WaterflaiApiKeySecretArn", "")

    @cache
    def resources() -> list[StackResource]:
        return stack.resources()

    # The first check: if the quota is too low, the deployment fails, and other findings are only consequences.
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
        lambda: check_subscriptions(
            client("sns"), stack.output("TopicArn"), parameters.get("DefaultDeliverTo", "")
        ),
    )
    yield Check("event bus for results", lambda: _check_result_bus(stack))
    yield Check("alarms", lambda: check_alarms(client("cloudwatch"), resources()))
    yield Check("alarms' mail", lambda: check_alarm_subscriptions(client("sns"), resources()))
    yield Check(
        "dead letters",
        lambda: check_dead_letters(client("sqs"), client("sns"), stack.output("TopicArn"), resources()),
    )
    yield Check("webhooks", lambda: _check_webhooks(stack, stack_options))
    yield Check(
        "records",
        lambda: check_records(
            client("dynamodb"), stack.output("TableName"), time.time(), parameters, stack_options
        ),
    )


def _check_result_bus(stack: Stack) -> Iterator[Finding]:
    bus = stack.parameters.get("ResultEventBusName")
    if bus:
        yield from check_result_bus(stack.client("events"), bus)
    else:
        yield Finding.ok("results do not go to an event bus")


def _check_webhooks(stack: Stack, stack_options: str) -> Iterator[Finding]:
    table = stack.outputs.get("WebhookTableName")
    if table is None:
        yield Finding.ok("webhooks are off")
        return
    client = stack.client("dynamodb")
    yield from check_webhooks(
        WebhookDeliveries(table, client),
        WebhookHosts(table, client, limit=1),  # it only reads, so the limit does not apply
        time.time(),
        stack.parameters,
        stack_options,
    )


def checks_of_account(account: Account) -> Iterator[Check]:
    """Yield the check that needs no stack: whether the quota of the account allows FollowConcurrency."""
    yield Check("concurrency", lambda: check_concurrency(account.client("lambda"), [], {}, is_local=False))


def run_checks(checks: Iterable[Check], output: Output, options: CommandOptions = _NO_OPTIONS) -> ExitCode:
    """Run the checks, print each finding immediately, and return the exit code."""
    findings: list[tuple[Check, Finding, str]] = []
    for check in checks:
        for finding in check.findings():
            hint = options.complete(finding.hint)
            findings.append((check, finding, hint))
            if not output.as_json:
                output.marked_line(finding.level, _STYLES[finding.level], finding.message, hint)
    count = Counter(finding.level for _, finding, _ in findings)
    if output.as_json:
        entries = [
            {"check": check.name, "level": finding.level, "what": finding.message, "do": hint}
            for check, finding, hint in findings
        ]
        output.json({"findings": entries, "count": {level: count[level] for level in Level}})
    hints = [hint for _, _, hint in findings]
    if any(map(options.needs_setup, hints)):
        output.info(f"Before the commands above, run in this shell: {options.setup}")
    if not options.setup and any(map(has_sam_command, hints)):
        output.info(_SAM_NOTE)
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
