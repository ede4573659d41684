"""Checks the stack's alarms, and the subscriptions of their topic."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from waterhook_cli.checks.finding import Finding
from waterhook_cli.checks.subscriptions import list_subscriptions
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sns import SNSClient

_ALARM_TYPES = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
_MAX_NAMES = 100  # of one DescribeAlarms


def check_alarms(cloudwatch: "CloudWatchClient", resources: Iterable[StackResource]) -> Iterator[Finding]:
    """Check that no alarm is in state ALARM."""
    logical_ids = {
        resource.physical_id: resource.logical_id for resource in resources if resource.type in _ALARM_TYPES
    }
    if not logical_ids:
        yield Finding.note("no alarms are deployed", "Deploy with AlarmEmail or AlarmTopicArn.")
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
            alarm.get("AlarmDescription", "") or "See docs/runbook/README.md.",
        )
    if not active:
        yield Finding.ok(f"none of {len(alarms)} alarms is in state ALARM")


def check_alarm_subscriptions(sns: "SNSClient", resources: Iterable[StackResource]) -> Iterator[Finding]:
    """Check that the stack's own topic for alarms has a confirmed subscription. Without that topic, yield nothing."""
    for topic in resources:
        if (topic.type, topic.logical_id) != ("AWS::SNS::Topic", "AlarmTopic"):
            continue
        subscriptions = list_subscriptions(sns, topic.physical_id)
        if any(entry["SubscriptionArn"].startswith("arn:") for entry in subscriptions):
            yield Finding.ok("the topic of the alarms has a confirmed subscription")
        else:
            endpoints = ", ".join(entry["Endpoint"] for entry in subscriptions)
            yield Finding.warning(
                "the topic of the alarms has no confirmed subscription"
                + (f": {endpoints} has not confirmed" if endpoints else ""),
                "Confirm with the link in AWS's mail; after two days deploy with another AlarmEmail and back.",
            )
