"""Logs and metrics of the deployed functions. Alarms and dashboard are deployed."""

import json
import time
from collections.abc import Iterator

import pytest

from local.local_aws.sam import STACK_NAME
from local.local_aws.stack_client import StackClient
from tests.contract.template import deployed, of_type
from tests.e2e.account import aws_client
from tests.e2e.conftest import WATCHED
from tests.e2e.executions import owner_arn
from tests.support.captured_logs import CapturedLogs, metrics_of

pytestmark = pytest.mark.e2e


def logged(stack: StackClient, since: float) -> Iterator[str]:
    """Yield the JSON lines of all functions since a time in epoch seconds."""
    logs = aws_client(stack, "logs")
    pages = logs.get_paginator("filter_log_events")
    for group in logs.describe_log_groups()["logGroups"]:
        for page in pages.paginate(logGroupName=group["logGroupName"], startTime=int(since * 1000)):
            for event in page["events"]:
                if event["message"].startswith("{"):
                    yield event["message"]


def wait_for_end(stack: StackClient, execution_id: str) -> str:
    """Return the ARN of the ended execution. The notify function logs its line after it has published."""
    arn = owner_arn(stack, execution_id)
    stack.wait_for_end(arn)
    return arn


def test_each_step_logs_a_line_with_its_execution(stack: StackClient) -> None:
    since, execution_id = time.time(), stack.submit("instant")
    arn = wait_for_end(stack, execution_id)
    documents = [json.loads(text) for text in logged(stack, since) if execution_id in text]
    # A function that another test has subscribed to the topic logs here too.
    lines = [line for line in documents if line.get("service") == "waterhook"]
    steps = [line for line in lines if line["message"] != "api"]
    assert {"start", "notify"} <= {line["message"] for line in steps}
    assert {line["correlation_id"] for line in steps} == {arn}
    assert {line["execution_id"] for line in lines} == {execution_id}
    assert {line["chatbot_id"] for line in lines} == {"instant"}


def test_the_deployed_functions_log_metrics_of_their_stack(stack: StackClient) -> None:
    since = time.time()
    wait_for_end(stack, stack.submit("instant"))
    metric_lines = [json.loads(text) for text in logged(stack, since) if text.startswith('{"_aws"')]
    captured = CapturedLogs("", emf_lines=metric_lines)
    assert {blob["stack"] for blob in captured.emf_lines} == {STACK_NAME}
    assert all(list(metrics_of(blob)) for blob in captured.emf_lines)
    assert {"Started", "OutcomeCompleted", "UpstreamLatency", "EstimatedCost"} <= captured.metrics.keys()


def test_alarms_and_dashboard_deploy_where_an_email_is_given(strict: StackClient) -> None:
    cloudwatch = aws_client(strict, "cloudwatch")
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    template = deployed(CreateResultsQueue="true", WebhookAllowedHosts="localhost", **WATCHED)
    templates = of_type(template, "AWS::CloudWatch::Alarm").values()
    # The local AWS does not support metric math.
    declared = [entry["Properties"] for entry in templates if "Metrics" not in entry["Properties"]]
    assert {alarm["AlarmDescription"] for alarm in alarms} == {
        properties["AlarmDescription"] for properties in declared
    }
    assert len(alarms) == len(declared)
    custom = [alarm for alarm in alarms if alarm["Namespace"] == "Waterhook"]
    assert all(alarm["Dimensions"] == [{"Name": "stack", "Value": STACK_NAME}] for alarm in custom)
    (board,) = cloudwatch.list_dashboards()["DashboardEntries"]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=board["DashboardName"])["DashboardBody"])
    assert "${" not in json.dumps(body)
    (topic,) = {action for alarm in alarms for action in alarm["AlarmActions"]}
    (subscription,) = aws_client(strict, "sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@waterhook.test")
