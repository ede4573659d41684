"""`doctor`: every check, in the order in which a fault would be looked for."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from waterhook_cli import checks_stack, checks_topic, checks_upstream
from waterhook_cli.api import Api, sender
from waterhook_cli.errors import ExitCode
from waterhook_cli.findings import Check, Finding, Level
from waterhook_cli.output import Output
from waterhook_cli.target import Resource, Stack

_STYLES = {
    Level.OK: "green",
    Level.NOTE: "",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
    Level.UNKNOWN: "yellow",
}
_ANSWER_S = 10


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the checks of a stack; each asks when it is looked through, not before."""
    given, client = stack.parameters, stack.client
    base_url = given.get("WaterflaiBaseUrl", "")
    secret_arn = given.get("WaterflaiApiKeySecretArn", "")

    @cache
    def resources() -> list[Resource]:
        return stack.resources()

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
    yield Check(
        "concurrency",
        lambda: checks_stack.concurrency(client("lambda"), resources(), given, local=bool(stack.local)),
    )
    yield Check("alarms", lambda: checks_stack.alarms(client("cloudwatch"), resources()))
    yield Check("alarms' mail", lambda: checks_topic.alarm_mail(client("sns"), resources()))
    yield Check("dead letters", lambda: checks_topic.dead_letters(client("sqs"), resources()))
    yield Check(
        "records",
        lambda: checks_stack.records(client("dynamodb"), stack.output("TableName"), time.time()),
    )


def examine(to_do: Iterable[Check], output: Output) -> ExitCode:
    """Tell what the checks find, each as soon as it is known, and return how the command ends."""
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
