"""Checks the alarms of the stack, and the subscriptions of their SNS topic."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from waterhook_cli.checks.finding import Finding, deploy_hint
from waterhook_cli.checks.subscriptions import list_subscriptions
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sns import SNSClient

_ALARM_TYPES = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
_MAX_NAMES = 100  # limit of DescribeAlarms


def check_alarms(cloudwatch: "CloudWatchClient", resources: Iterable[StackResource]) -> Iterator[Finding]:
    """Check that no alarm of the stack is in state ALARM."""
    logical_ids = {
        resource.physical_id: resource.logical_id for resource in resources if resource.type in _ALARM_TYPES
    }
    if not logical_ids:
        yield Finding.note(
            "the stack has no alarms", deploy_hint("AlarmEmail=YOU@EXAMPLE.COM", "to get alarms by mail")
        )
        return
    alarm_types: Any = ["MetricAlarm", "CompositeAlarm"]
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNames=[*logical_ids][:_MAX_NAMES], AlarmTypes=alarm_types
    )
    alarms: list[Any] = [
        alarm for page in pages for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]
    ]
    active = [alarm for alarm in alarms if alarm.get("StateValue") == "ALARM"]
    for alarm in active:
        yield Finding.problem(
            f"{logical_ids[alarm['AlarmName']]} is in state ALARM: {alarm.get('StateReason', '')}",
            alarm.get("AlarmDescription", "") or "Find the alarm and its fix in docs/runbook/README.md.",
        )
    if not active:
        yield Finding.ok(f"no alarm is in state ALARM ({len(alarms)} alarms)")


def check_alarm_subscriptions(sns: "SNSClient", resources: Iterable[StackResource]) -> Iterator[Finding]:
    """Check that the alarm topic of the stack has a confirmed subscription. Yields nothing if it has no such topic."""
    for topic in resources:
        if (topic.type, topic.logical_id) != ("AWS::SNS::Topic", "AlarmTopic"):
            continue
        subscriptions = list_subscriptions(sns, topic.physical_id)
        if any(entry["SubscriptionArn"].startswith("arn:") for entry in subscriptions):
            yield Finding.ok("the alarm topic has a confirmed subscription")
        else:
            endpoints = ", ".join(entry["Endpoint"] for entry in subscriptions)
            yield Finding.warning(
                "the alarm topic has no confirmed subscription, so no alarm is sent"
                + (f": {endpoints} has not confirmed" if endpoints else ""),
                "Confirm with the link in the mail from AWS. The link expires after two days. Then subscribe again: "
                "aws sns subscribe --protocol email --notification-endpoint YOU@EXAMPLE.COM "
                f"--topic-arn {topic.physical_id}",
            )
