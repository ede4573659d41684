"""What the deployed functions say of themselves, and that alarms and dashboard deploy."""

import json
import time
from collections.abc import Iterator

import pytest

from local.local_aws.sam import STACK_NAME
from local.local_aws.stack_client import StackClient
from tests.contract.template import deployed, of_type
from tests.e2e.account import aws
from tests.e2e.conftest import WATCHED
from tests.support.captured_logs import CapturedLogs, metrics_of

pytestmark = pytest.mark.e2e


def logged(stack: StackClient, since: float) -> Iterator[str]:
    """Yield what all functions have logged as JSON since a moment, in epoch seconds."""
    logs = aws(stack, "logs")
    pages = logs.get_paginator("filter_log_events")
    for group in logs.describe_log_groups()["logGroups"]:
        for page in pages.paginate(logGroupName=group["logGroupName"], startTime=int(since * 1000)):
            for event in page["events"]:
                if event["message"].startswith("{"):
                    yield event["message"]


def ended(stack: StackClient, execution_id: str) -> str:
    """The ARN of an execution once it has ended: notify says its line after the notification has arrived."""
    stack.wait_for_notification(execution_id)
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    stack.wait_for_end(arn)
    return arn


def test_each_step_of_an_execution_has_a_line_that_names_it(stack: StackClient) -> None:
    since, execution_id = time.time(), stack.submit("instant")
    arn = ended(stack, execution_id)
    said = [json.loads(text) for text in logged(stack, since) if execution_id in text]
    # A function that another test has subscribed to the topic has a log here, too.
    lines = [line for line in said if line.get("service") == "waterhook"]
    # A GET of the API may be among them; of the loop each step is there once, bound by its execution.
    loop = [line for line in lines if line["message"] != "api"]
    assert {"start", "notify"} <= {line["message"] for line in loop}
    assert {line["correlation_id"] for line in loop} == {arn}
    assert {line["execution_id"] for line in lines} == {execution_id}
    assert {line["chatbot_id"] for line in lines} == {"instant"}


def test_the_deployed_functions_figures_are_those_of_their_stack(stack: StackClient) -> None:
    since = time.time()
    ended(stack, stack.submit("instant"))
    said = CapturedLogs(
        "", emf_lines=[json.loads(text) for text in logged(stack, since) if text.startswith('{"_aws"')]
    )
    assert {blob["stack"] for blob in said.emf_lines} == {STACK_NAME}
    assert all(list(metrics_of(blob)) for blob in said.emf_lines)
    assert {"Started", "OutcomeCompleted", "UpstreamLatency", "EstimatedCost"} <= said.metrics.keys()


def test_alarms_and_dashboard_deploy_where_an_email_is_given(strict: StackClient) -> None:
    cloudwatch = aws(strict, "cloudwatch")
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    every = of_type(deployed(CreateResultsQueue="true", **WATCHED), "AWS::CloudWatch::Alarm").values()
    # The local AWS has no metric math.
    declared = [entry["Properties"] for entry in every if "Metrics" not in entry["Properties"]]
    assert {alarm["AlarmDescription"] for alarm in alarms} == {
        properties["AlarmDescription"] for properties in declared
    }
    assert len(alarms) == len(declared)
    ours = [alarm for alarm in alarms if alarm["Namespace"] == "Waterhook"]
    assert all(alarm["Dimensions"] == [{"Name": "stack", "Value": STACK_NAME}] for alarm in ours)
    (board,) = cloudwatch.list_dashboards()["DashboardEntries"]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=board["DashboardName"])["DashboardBody"])
    assert "${" not in json.dumps(body)
    (topic,) = {action for alarm in alarms for action in alarm["AlarmActions"]}
    (subscription,) = aws(strict, "sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@waterhook.test")
