"""`doctor`: every check, in the order in which a fault would be looked for."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from waterhook_cli.api_client import Api, sender
from waterhook_cli.checks import concurrency as checks_stack
from waterhook_cli.checks import dead_letters as checks_topic
from waterhook_cli.checks import records as checks_records
from waterhook_cli.checks import upstream as checks_upstream
from waterhook_cli.checks.finding import Check, Finding, Level
from waterhook_cli.errors import ExitCode
from waterhook_cli.output import Output
from waterhook_cli.stack import Account, Resource, Stack

_STYLES = {
    Level.OK: "green",
    Level.NOTE: "",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
    Level.UNKNOWN: "yellow",
}
_ANSWER_S = 10


def checks(stack: Stack, options: str = "") -> Iterator[Check]:
    """Yield the checks of a stack; each asks when it is looked through, not before.

    `options` are those that a `waterhook` command needs to find the same stack.
    """
    given, client = stack.parameters, stack.client
    base_url = given.get("WaterflaiBaseUrl", "")
    secret_arn = given.get("WaterflaiApiKeySecretArn", "")

    @cache
    def resources() -> list[Resource]:
        return stack.resources()

    # First: where the quota is too low, the deployment fails and nothing else can be well.
    yield Check(
        "concurrency",
        lambda: checks_stack.concurrency(client("lambda"), resources(), given, local=bool(stack.local)),
    )
    yield Check("the stack", lambda: checks_stack.state(stack))
    yield Check("the API", lambda: checks_stack.api(Api.of(stack)))
    yield Check(
        "the secret", lambda: checks_upstream.secret(client("secretsmanager"), secret_arn, stack.region)
    )
    yield Check(
        "Waterflai",
        lambda: checks_upstream.upstream(
            base_url, sender(base_url, _ANSWER_S), client("secretsmanager"), secret_arn
        ),
    )
    yield Check(
        "subscriptions",
        lambda: checks_topic.subscriptions(
            client("sns"), stack.output("TopicArn"), given.get("Delivery", "")
        ),
    )
    yield Check("alarms", lambda: checks_stack.alarms(client("cloudwatch"), resources()))
    yield Check("alarms' mail", lambda: checks_topic.alarm_mail(client("sns"), resources()))
    yield Check(
        "dead letters",
        lambda: checks_topic.dead_letters(
            client("sqs"), client("sns"), stack.output("TopicArn"), resources()
        ),
    )
    yield Check(
        "records",
        lambda: checks_records.records(
            client("dynamodb"), stack.output("TableName"), time.time(), given, options
        ),
    )


def before_deployment(account: Account) -> Iterator[Check]:
    """Yield what can be checked of an account that has no stack yet: whether FollowConcurrency may be set."""
    yield Check(
        "concurrency", lambda: checks_stack.concurrency(account.client("lambda"), [], {}, local=False)
    )


def examine(to_do: Iterable[Check], output: Output, aws_needs: str = "") -> ExitCode:
    """Print what the checks find, each as soon as it is known, and return the exit code.

    `aws_needs` is what an `aws` command needs to reach the same account; it is named where there is such a command.
    """
    found: list[tuple[Check, Finding]] = []
    for check in to_do:
        for finding in check.findings():
            found.append((check, finding))
            if not output.as_json:
                output.point(finding.level, _STYLES[finding.level], finding.what, finding.do)
    count = Counter(finding.level for _, finding in found)
    if output.as_json:
        listed = [
            {"check": check.about, "level": finding.level, "what": finding.what, "do": finding.do}
            for check, finding in found
        ]
        output.json({"findings": listed, "count": {level: count[level] for level in Level}})
    if aws_needs and any("aws " in finding.do for _, finding in found):
        output.say(f"The aws commands above need: {aws_needs}")
    output.say(summary(count))
    return ExitCode.PROBLEMS if count[Level.PROBLEM] else ExitCode.OK


def summary(count: Counter[Level]) -> str:
    """Return the last line: how many of what."""
    said = [
        f"{count[level]} {level}{'s' if count[level] > 1 else ''}"
        for level in (Level.PROBLEM, Level.WARNING)
        if count[level]
    ]
    if count[Level.UNKNOWN]:
        said.append(f"{count[Level.UNKNOWN]} not looked at")
    return ", ".join(said) or "All is well."
