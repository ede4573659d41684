"""Webhooks: without allowed hosts nothing is deployed for them, and how the queue invokes deliver."""

import json
import re
from typing import Any

import pytest

from tests.contract import template
from tests.contract.template import EVERYTHING, WEBHOOKS, deployed, of_type
from waterhook.steps.sweep import SWEEP_INTERVAL_S

# Everything that the defaults deploy, as before there were webhooks.
DEFAULT_RESOURCES = {
    "Api",
    "ApiDeployment",
    "ApiFunction",
    "ApiLogs",
    "ApiPermission",
    "ApiRole",
    "ApiliveStage",
    "CancelFunction",
    "CancelLogs",
    "CancelRole",
    "DeadLetterQueue",
    "DeadLetterQueuePolicy",
    "ExecutionsTable",
    "FollowFunction",
    "FollowLogs",
    "FollowRole",
    "NotificationTopic",
    "NotificationTopicPolicy",
    "NotifyFunction",
    "NotifyLogs",
    "NotifyRole",
    "PollFunction",
    "PollLogs",
    "PollRole",
    "PublishPolicy",
    "ReadApiKeyPolicy",
    "ReconcileFunction",
    "ReconcileFunctionEventInvokeConfig",
    "ReconcileFunctionExecutionEnded",
    "ReconcileFunctionExecutionEndedPermission",
    "ReconcileFunctionSweep",
    "ReconcileFunctionSweepPermission",
    "ReconcileLogs",
    "ReconcileRole",
    "ResultsBucket",
    "ResultsBucketPolicy",
    "StartFunction",
    "StartLogs",
    "StartRole",
    "StateMachine",
    "StateMachineLogs",
    "StateMachineRole",
    "StoreOutputsPolicy",
    "WaterhookLayer",
}
ADDED = {
    "WebhookQueue",
    "WebhookDeadLetterQueue",
    "WebhookQueuePolicy",
    "WebhookDeliveriesTable",
    "WebhookSigningSecret",
    "QueueWebhooksPolicy",
    "DeliverFunction",
    "DeliverFunctionWebhookQueued",
    "DeliverFunctionSweep",
    "DeliverFunctionSweepPermission",
    "DeliverLogs",
    "DeliverRole",
}
ADDED_ALARMS = {"WebhookDeadLettersAlarm", "DeliverAlarm"}
OFF = EVERYTHING | {"WebhookAllowedHosts": "", "DefaultWebhookUrl": ""}


def logical_ids(**parameters: str) -> set[str]:
    """Return the logical ids of the resources, without the hashes that SAM appends to two of them."""
    return {
        re.sub(r"^(ApiDeployment|WaterhookLayer)[0-9a-f]{10}$", r"\1", name)
        for name in deployed(**parameters)
    }


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = deployed(**WEBHOOKS)[name]["Properties"]
    return found


def test_without_allowed_hosts_nothing_is_deployed_for_webhooks() -> None:
    assert logical_ids() == DEFAULT_RESOURCES
    assert logical_ids(WebhookAllowedHosts="hooks.example.com") == DEFAULT_RESOURCES | ADDED
    assert logical_ids(**EVERYTHING) - logical_ids(**OFF) == ADDED | ADDED_ALARMS


@pytest.mark.parametrize("parameters", [{}, OFF], ids=["the defaults", "every other option"])
def test_without_allowed_hosts_no_policy_and_no_alarm_mentions_webhooks(parameters: dict[str, str]) -> None:
    for name, entry in deployed(**parameters).items():
        text = json.dumps({key: value for key, value in entry["Properties"].items() if key != "Environment"})
        # The variable of the dashboard is empty.
        text = re.sub(r'"WebhookWidgets": ""|\$\{WebhookWidgets\}', "", text)
        assert not re.search(r"Webhook|Deliver(Function|Role|Logs)", text), name


def test_each_resource_of_webhooks_has_their_condition() -> None:
    resources = template.source()["Resources"]
    conditions = {
        name: resources[name].get("Condition") for name in (ADDED | ADDED_ALARMS) & resources.keys()
    }
    alarms = dict.fromkeys(ADDED_ALARMS, "HasAlarmsOfWebhooks")
    assert conditions == dict.fromkeys(conditions, "HasWebhooks") | alarms


def test_the_queue_invokes_deliver_with_one_message_and_limited_concurrency() -> None:
    mapping = properties("DeliverFunctionWebhookQueued")
    assert mapping["EventSourceArn"] == {"Fn::GetAtt": ["WebhookQueue", "Arn"]}
    assert mapping["FunctionName"] == {"Ref": "DeliverFunction"}
    assert mapping["BatchSize"] == 10
    parameter = template.source()["Parameters"]["WebhookConcurrency"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": str(parameter["Default"])}
    # The limits of Lambda.
    assert (parameter["MinValue"], parameter["MaxValue"]) == (2, 1000)


def test_a_message_becomes_visible_again_only_after_the_function_has_ended() -> None:
    queue = properties("WebhookQueue")
    assert properties("DeliverFunction")["Timeout"] == 50
    assert queue["VisibilityTimeout"] == 90
    # Receives are not attempts, so deliver itself sends dead letters.
    assert "RedrivePolicy" not in queue
    for name in ("WebhookQueue", "WebhookDeadLetterQueue"):
        assert properties(name)["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_deliver_sweeps_within_the_longest_delay_of_a_message() -> None:
    rule = properties("DeliverFunctionSweep")
    assert rule["ScheduleExpression"] == "rate(15 minutes)"
    assert SWEEP_INTERVAL_S == 900
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["DeliverFunction", "Arn"]}
    assert json.loads(target["Input"]) == {"sweep": {}}


def test_the_index_of_deliveries_has_what_a_sweep_needs() -> None:
    table = properties("WebhookDeliveriesTable")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert {entry["AttributeName"]: entry["AttributeType"] for entry in table["AttributeDefinitions"]} == {
        "pk": "S",
        "sk": "S",
        "undelivered": "S",
        "next_at": "N",
    }
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [
        ("pk", "HASH"),
        ("sk", "RANGE"),
    ]
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "undelivered"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["undelivered", "next_at"]
    assert index["Projection"] == {
        "ProjectionType": "INCLUDE",
        "NonKeyAttributes": ["queued", "status", "host"],
    }
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_no_version_changes_how_the_signing_secret_is_generated() -> None:
    # After a change, an update of a stack replaces the value: receivers refuse each signature.
    assert properties("WebhookSigningSecret")["GenerateSecretString"] == {
        "SecretStringTemplate": "{}",
        "GenerateStringKey": "key",
        "PasswordLength": 64,  # 64 letters and digits have more than 256 bits
        "ExcludePunctuation": True,
    }


def test_the_url_of_the_default_webhook_is_only_in_variables_of_functions() -> None:
    url = WEBHOOKS["DefaultWebhookUrl"]
    for name, entry in deployed(**EVERYTHING).items():
        if name not in of_type(deployed(**EVERYTHING), "AWS::Lambda::Function"):
            assert url not in json.dumps(entry), name
    assert "DefaultWebhookUrl" not in json.dumps(template.source()["Outputs"])
