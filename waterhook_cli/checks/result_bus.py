"""Checks the event bus for results, and the rules that receive them."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import aws_error_code
from waterhook.notifications.delivery_targets import EVENT_SOURCE
from waterhook.notifications.notification_events import TYPE_PREFIX
from waterhook_cli.checks.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient


def check_result_bus(events: "EventBridgeClient", bus: str) -> Iterator[Finding]:
    """Check that the bus exists, and that a rule receives results, with a dead-letter queue for each target.

    `bus` is the value of the parameter ResultEventBusName. Without the bus EventBridge accepts events and drops them.
    """
    try:
        events.describe_event_bus(Name=bus)
    except ClientError as error:
        if aws_error_code(error) != "ResourceNotFoundException":
            raise
        yield Finding.problem(
            f"the event bus {bus} of ResultEventBusName does not exist. EventBridge accepts events for it and drops "
            "them without an error",
            "Create the bus and its rules, then publish what was lost again with `redeliver --since TIME`. To create "
            f"the bus: aws events create-event-bus --name {bus}",
        )
        return
    pages = events.get_paginator("list_rules").paginate(EventBusName=bus)
    rules = [
        rule
        for page in pages
        for rule in page["Rules"]
        if rule.get("State") != "DISABLED" and selects_results(rule.get("EventPattern", ""))
    ]
    if not rules:
        yield Finding.warning(
            f"no enabled rule of the event bus {bus} selects results: EventBridge drops them",
            "Deploy docs/recipes/bus-fifo.yaml, or add a rule, then its targets: aws events put-rule --name "
            f'waterhook-results --event-bus-name {bus} --event-pattern \'{{"source": ["{EVENT_SOURCE}"]}}\'',
        )
        return
    incomplete = [finding for rule in rules for finding in _check_targets(events, bus, rule["Name"])]
    yield from incomplete
    if not incomplete:
        yield Finding.ok(f"the event bus {bus} has rules for results, with dead-letter queues: {len(rules)}")


def selects_results(pattern: str) -> bool:
    """Return whether an event pattern may select results, by its `source` and `detail-type`.

    Filters such as a prefix are not evaluated; they count as selecting.
    """
    try:
        fields: Any = json.loads(pattern)
    except ValueError:
        return False
    if not isinstance(fields, Mapping):
        return False
    return _may_match(fields.get("source"), EVENT_SOURCE) and _may_match(
        fields.get("detail-type"), TYPE_PREFIX
    )


def _may_match(choices: Any, prefix: str) -> bool:
    if not isinstance(choices, list):
        return True
    return any(not isinstance(choice, str) or choice.startswith(prefix) for choice in choices)


def _check_targets(events: "EventBridgeClient", bus: str, rule: str) -> Iterator[Finding]:
    targets = events.list_targets_by_rule(Rule=rule, EventBusName=bus)["Targets"]
    if not targets:
        yield Finding.warning(
            f"the rule {rule} of the event bus {bus} has no target: it receives nothing",
            "Add a target to the rule, or delete the rule.",
        )
    for target in targets:
        if not target.get("DeadLetterConfig", {}).get("Arn"):
            yield Finding.warning(
                f"the target {target['Arn']} of the rule {rule} has no dead-letter queue: an event that can't be "
                "delivered for a day is lost",
                "Set DeadLetterConfig of the target, as docs/recipes/bus-fifo.yaml does.",
            )
