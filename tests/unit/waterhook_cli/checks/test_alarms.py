"""The checks of the alarms and of their topic."""

from typing import Any

from tests.fakes.aws import Topic
from tests.unit.waterhook_cli.checks.helpers import (
    FOLLOW_FUNCTION,
    NOTE,
    OK,
    WARNING,
    PendingSubscription,
    only,
)
from waterhook_cli.checks.alarms import check_alarm_subscriptions, check_alarms
from waterhook_cli.checks.finding import Finding
from waterhook_cli.stack import StackResource

ALARM = StackResource("Stalled", "AWS::CloudWatch::Alarm", "shop-Stalled-1")


class Alarms:
    """CloudWatch with these alarms."""

    def __init__(self, *alarms: dict[str, str]) -> None:
        self._alarms = alarms

    def get_paginator(self, name: str) -> "Alarms":
        return self

    def paginate(self, *, AlarmNames: list[str], AlarmTypes: list[str]) -> list[dict[str, Any]]:  # noqa: N803
        assert AlarmNames == [ALARM.physical_id]
        return [{"MetricAlarms": list(self._alarms)}]


def test_an_alarm_in_state_alarm_is_a_problem_with_its_reason() -> None:
    inactive = {"AlarmName": "a", "StateValue": "OK"}
    active = {
        "AlarmName": ALARM.physical_id,
        "StateValue": "ALARM",
        "StateReason": "1 > 0",
        "AlarmDescription": "See Stalled.",
    }
    cloudwatch: Any = Alarms(inactive, active)
    finding = only(check_alarms(cloudwatch, [ALARM]))
    assert finding == Finding.problem("Stalled is in state ALARM: 1 > 0", "See Stalled.")
    cloudwatch = Alarms(inactive)
    assert only(check_alarms(cloudwatch, [FOLLOW_FUNCTION, ALARM])).level == OK
    assert only(check_alarms(cloudwatch, [FOLLOW_FUNCTION])).level == NOTE


def test_a_topic_of_alarms_without_a_confirmed_subscription_is_a_warning(topic: Topic) -> None:
    resource = StackResource("AlarmTopic", "AWS::SNS::Topic", topic.arn)
    assert only(check_alarm_subscriptions(topic.sns, [FOLLOW_FUNCTION, resource])).level == OK
    sns: Any = PendingSubscription()
    finding = only(check_alarm_subscriptions(sns, [resource]))
    assert finding.level == WARNING
    assert (
        finding.message
        == "the alarm topic has no confirmed subscription, so no alarm is sent: a@example.com has not confirmed"
    )
    assert list(check_alarm_subscriptions(sns, [FOLLOW_FUNCTION])) == []
