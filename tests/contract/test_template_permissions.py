"""Permissions: one role for each function, with exactly the permissions that its code uses."""

import re
from typing import Any

import pytest

from tests.contract.template import (
    BOUNDARY_ARN,
    CA_BUNDLE_ARN,
    EVERYTHING,
    FUNCTIONS,
    KMS_KEY_ARN,
    OPTIONAL_FUNCTIONS,
    ROLES,
    SECRET_ARN,
    STEPS,
    TRIGGER_ROLES,
    TRIGGERS,
    WEBHOOKS,
    deployed,
    named,
    of_type,
    statements,
)

TABLE = "ExecutionsTable.Arn"
OBJECTS = "${ResultsBucket.Arn}/*"
TOPIC = "NotificationTopic"
MACHINE = "StateMachine"
DEAD_LETTERS = "DeadLetterQueue.Arn"
DELIVERIES = "WebhookDeliveriesTable.Arn"
SIGNING_SECRET = "WebhookSigningSecret.Id"  # its ARN
EXECUTIONS = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${StateMachine.Name}:*"

# All that each role may do, its own log aside. A permission that is not here is a mistake, and so is one less.
GRANTS: dict[str, dict[str, set[str]]] = {
    "ApiRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
        "${ExecutionsTable.Arn}/index/by_caller": {"dynamodb:Query"},
        "${ExecutionsTable.Arn}/index/by_time": {"dynamodb:Query"},
        MACHINE: {"states:StartExecution"},
        OBJECTS: {"s3:GetObject", "s3:PutObject"},
        TOPIC: {"sns:Publish"},
    },
    "StartRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
    },
    "FollowRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        OBJECTS: {"s3:PutObject"},
        TOPIC: {"sns:Publish"},
    },
    "PollRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        OBJECTS: {"s3:PutObject"},
        TOPIC: {"sns:Publish"},
    },
    "CancelRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        OBJECTS: {"s3:PutObject"},
    },
    "NotifyRole": {
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
        TOPIC: {"sns:Publish"},
    },
    "ReconcileRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
        "${ExecutionsTable.Arn}/index/unfinished": {"dynamodb:Query"},
        MACHINE: {"states:ListExecutions"},
        EXECUTIONS: {"states:DescribeExecution"},
        OBJECTS: {"s3:PutObject"},
        TOPIC: {"sns:Publish"},
        DEAD_LETTERS: {"sqs:SendMessage"},
    },
    "StateMachineRole": {f"{name}.Arn": {"lambda:InvokeFunction"} for name in STEPS},
    "DeliverRole": {
        "WebhookQueue.Arn": {
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:SendMessage",
        },
        "WebhookDeadLetterQueue.Arn": {"sqs:SendMessage"},
        TABLE: {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        DELIVERIES: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
        "${WebhookDeliveriesTable.Arn}/index/undelivered": {"dynamodb:Query"},
        OBJECTS: {"s3:GetObject"},
        SIGNING_SECRET: {"secretsmanager:GetSecretValue"},
        CA_BUNDLE_ARN: {"secretsmanager:GetSecretValue"},
    },
    # Rules send their dead letters by the queue's own policy.
    "EventBusRole": {MACHINE: {"states:StartExecution"}},
    "ScheduleRole": {MACHINE: {"states:StartExecution"}, DEAD_LETTERS: {"sqs:SendMessage"}},
}
# What webhooks add to the other roles.
GRANTS_WITH_WEBHOOKS: dict[str, dict[str, set[str]]] = {
    "ApiRole": {"WebhookQueue.Arn": {"sqs:SendMessage"}, DELIVERIES: {"dynamodb:GetItem"}},
    "FollowRole": {"WebhookQueue.Arn": {"sqs:SendMessage"}},
    "PollRole": {"WebhookQueue.Arn": {"sqs:SendMessage"}},
    "NotifyRole": {"WebhookQueue.Arn": {"sqs:SendMessage"}},
    "ReconcileRole": {"WebhookQueue.Arn": {"sqs:SendMessage"}},
}
# What an event bus for results adds.
BUS = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/results"
GRANTS_WITH_RESULT_BUS: dict[str, dict[str, set[str]]] = {
    role: {BUS: {"events:PutEvents"}}
    for role in ("ApiRole", "FollowRole", "PollRole", "NotifyRole", "ReconcileRole")
}
# The services that assume the other roles.
SERVICES = {
    "StateMachineRole": "states.amazonaws.com",
    "EventBusRole": "events.amazonaws.com",
    "ScheduleRole": "scheduler.amazonaws.com",
}

# With SubnetIds, for each function.
NETWORK = "arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}"
IN_A_VPC: dict[str, set[str]] = {
    f"{NETWORK}:*/*": {"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"},
    f"{NETWORK}:network-interface/*": {"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"},
}

TRACE = "X-Ray has no resource to name for a trace"
DESCRIBE = "EC2 has no resource to name for a description"
LOG_DELIVERY = "CloudWatch Logs has no resource to name for the delivery of a vended log"
# Roles and actions that are allowed on any resource, and why nothing narrower exists.
ON_ANY_RESOURCE = {
    ("StateMachineRole", "logs:CreateLogDelivery"): LOG_DELIVERY,
    ("StateMachineRole", "logs:GetLogDelivery"): LOG_DELIVERY,
    ("StateMachineRole", "logs:UpdateLogDelivery"): LOG_DELIVERY,
    ("StateMachineRole", "logs:DeleteLogDelivery"): LOG_DELIVERY,
    ("StateMachineRole", "logs:ListLogDeliveries"): LOG_DELIVERY,
    ("StateMachineRole", "logs:PutResourcePolicy"): LOG_DELIVERY,
    ("StateMachineRole", "logs:DescribeResourcePolicies"): LOG_DELIVERY,
    ("StateMachineRole", "logs:DescribeLogGroups"): LOG_DELIVERY,
    ("StateMachineRole", "xray:GetSamplingRules"): TRACE,
    ("StateMachineRole", "xray:GetSamplingTargets"): TRACE,
    **{
        (role, action): TRACE
        for role in ("StateMachineRole", *(name.replace("Function", "Role") for name in FUNCTIONS))
        for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
    },
    **{
        (name.replace("Function", "Role"), action): DESCRIBE
        for name in FUNCTIONS
        for action in ("ec2:DescribeSubnets", "ec2:DescribeNetworkInterfaces")
    },
}


def optional_parts(role: str) -> dict[str, str]:
    """Return the parameters without which a role does not exist."""
    return TRIGGERS | (WEBHOOKS if role.replace("Role", "Function") in OPTIONAL_FUNCTIONS else {})


def grants(role: str, **parameters: str) -> dict[str, set[str]]:
    """Return the allowed actions of a role by resource."""
    actions: dict[str, set[str]] = {}
    for statement in statements(role, **optional_parts(role) | parameters):
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            actions.setdefault(named(resource), set()).update(statement["Action"])
    return actions


def own_log(role: str) -> dict[str, set[str]]:
    logs = role.replace("Role", "Logs.Arn")
    # CloudWatch Logs delivers the log of the state machine. EventBridge writes no log.
    return {} if role in SERVICES else {logs: {"logs:CreateLogStream", "logs:PutLogEvents"}}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_permissions_of_its_code_and_its_log(role: str) -> None:
    granted = grants(role)
    granted.pop("*", None)
    assert granted == GRANTS[role] | own_log(role)


@pytest.mark.parametrize("role", ROLES)
def test_webhooks_add_only_the_permission_to_queue_them_and_to_show_them(role: str) -> None:
    granted = grants(role, **WEBHOOKS)
    granted.pop("*", None)
    assert granted == GRANTS[role] | own_log(role) | GRANTS_WITH_WEBHOOKS.get(role, {})


@pytest.mark.parametrize("role", ROLES)
def test_a_bus_for_results_adds_only_the_permission_to_put_events_on_it(role: str) -> None:
    granted = grants(role, ResultEventBusName="results")
    granted.pop("*", None)
    assert granted == GRANTS[role] | own_log(role) | GRANTS_WITH_RESULT_BUS.get(role, {})
    assert (BUS in granted) is ("sns:Publish" in GRANTS[role].get(TOPIC, set()))


def test_only_deliver_reads_the_signing_keys_and_the_certificates() -> None:
    for secret in (SIGNING_SECRET, CA_BUNDLE_ARN):
        assert [role for role in ROLES if secret in grants(role, **EVERYTHING)] == ["DeliverRole"]
    without = grants("DeliverRole", **WEBHOOKS | {"WebhookCaBundle": ""})
    assert GRANTS["DeliverRole"].keys() - without.keys() == {CA_BUNDLE_ARN}


def policy_documents(**parameters: str) -> list[dict[str, Any]]:
    """Return all policies of the template except trust policies."""
    documents = []
    for entry in deployed(**parameters).values():
        properties = entry["Properties"]
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
    return documents


def test_each_statement_has_a_sid_that_is_unique_in_its_policy() -> None:
    for document in policy_documents(**EVERYTHING):
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(re.fullmatch(r"([A-Z][a-z]+){2,}", sid) for sid in sids), sids


def test_each_managed_policy_is_attached_to_at_least_two_roles() -> None:
    resources = deployed(**EVERYTHING)
    attached = [
        policy["Ref"]
        for role in of_type(resources, "AWS::IAM::Role").values()
        for policy in role["Properties"].get("ManagedPolicyArns", [])
    ]
    policies = of_type(resources, "AWS::IAM::ManagedPolicy")
    assert set(attached) == set(policies)
    assert all(attached.count(policy) > 1 for policy in policies)
    # Only the role names its policies, so the list of the role is complete.
    for policy in policies.values():
        assert not {"Roles", "Users", "Groups"} & policy["Properties"].keys()


def test_there_is_no_other_role() -> None:
    assert set(of_type(deployed(**EVERYTHING), "AWS::IAM::Role")) == set(ROLES)
    assert set(of_type(deployed(), "AWS::IAM::Role")) == set(ROLES) - {*TRIGGER_ROLES, "DeliverRole"}


def test_only_actions_without_a_resource_are_allowed_on_all_resources() -> None:
    allowed_on_all = {
        (role, action)
        for role in ROLES
        for statement in statements(role, **EVERYTHING)
        for action in statement["Action"]
        if "*" in statement["Resource"]
    }
    assert allowed_on_all == ON_ANY_RESOURCE.keys()


def test_no_role_may_trace_when_tracing_is_off() -> None:
    for role in ROLES:
        assert not any(action.startswith("xray:") for actions in grants(role).values() for action in actions)


@pytest.mark.parametrize("role", ROLES)
def test_a_statement_allows_one_to_three_actions_without_wildcards(role: str) -> None:
    for statement in statements(role, **EVERYTHING):
        assert 1 <= len(statement["Action"]) <= 3
        assert not any("*" in action for action in statement["Action"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_use_the_customer_key_only_if_there_is_one(role: str) -> None:
    assert grants(role, **EVERYTHING)[KMS_KEY_ARN] == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert not any(action.startswith("kms:") for actions in grants(role).values() for action in actions)


@pytest.mark.parametrize("role", ROLES)
def test_only_lambda_manages_network_interfaces_and_only_in_a_vpc(role: str) -> None:
    vpc = {"SubnetIds": "subnet-0a", "SecurityGroupIds": "sg-0a"}
    granted = grants(role, **vpc)
    granted.pop("*", None)
    assert granted == GRANTS[role] | own_log(role) | ({} if role in SERVICES else IN_A_VPC)
    assert not any(action.startswith("ec2:") for actions in grants(role).values() for action in actions)
    for statement in statements(role, **optional_parts(role) | vpc):
        if statement["Action"][0].startswith("ec2:"):
            # Requests of a function's code have this condition key. Requests of Lambda itself do not.
            assert statement["Condition"] == {"Null": {"lambda:SourceFunctionArn": "true"}}


def test_each_function_has_its_own_role() -> None:
    resources = deployed(**WEBHOOKS)
    roles = {name: resources[name]["Properties"]["Role"]["Fn::GetAtt"] for name in FUNCTIONS}
    assert roles == {name: [name.replace("Function", "Role"), "Arn"] for name in FUNCTIONS}
    assert resources["StateMachine"]["Properties"]["RoleArn"] == {"Fn::GetAtt": ["StateMachineRole", "Arn"]}


@pytest.mark.parametrize("role", ROLES)
def test_only_its_service_assumes_a_role(role: str) -> None:
    properties = deployed(**optional_parts(role))[role]["Properties"]
    service = SERVICES.get(role, "lambda.amazonaws.com")
    expected = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if role in TRIGGER_ROLES:
        # Prevents that EventBridge uses the role for another account (confused deputy).
        expected["Condition"] = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert properties["AssumeRolePolicyDocument"]["Statement"] == [expected]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_the_permissions_boundary_of_the_parameter(role: str) -> None:
    assert "PermissionsBoundary" not in deployed(**optional_parts(role))[role]["Properties"]
    assert deployed(**EVERYTHING)[role]["Properties"]["PermissionsBoundary"] == BOUNDARY_ARN


def test_the_topic_policy_denies_publishing_to_all_other_roles() -> None:
    publishers = [role for role in ROLES if "sns:Publish" in grants(role).get(TOPIC, set())]
    policy = deployed()["NotificationTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (denial,) = (statement for statement in policy if "ArnNotEquals" in statement["Condition"])
    assert (denial["Effect"], denial["Principal"], denial["Action"]) == ("Deny", "*", "sns:Publish")
    exempt = [named(arn) for arn in denial["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]]
    assert sorted(exempt) == sorted(f"{role}.Arn" for role in publishers)
    assert denial["Condition"].keys() == {"ArnNotEquals"}


def test_the_topic_policy_allows_nothing() -> None:
    for statement in deployed()["NotificationTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Deny"


def test_only_the_api_and_three_rules_may_invoke_a_function() -> None:
    permissions = {
        (
            named(entry["Properties"]["FunctionName"]),
            entry["Properties"]["Principal"],
            named(entry["Properties"]["SourceArn"]).rpartition(":")[2],
        )
        for entry in of_type(deployed(**EVERYTHING), "AWS::Lambda::Permission").values()
    }
    assert permissions == {
        ("ApiFunction", "apigateway.amazonaws.com", "${Api}/live/*/v1/executions*"),
        ("ReconcileFunction", "events.amazonaws.com", "ReconcileFunctionExecutionEnded.Arn"),
        ("ReconcileFunction", "events.amazonaws.com", "ReconcileFunctionSweep.Arn"),
        ("DeliverFunction", "events.amazonaws.com", "DeliverFunctionSweep.Arn"),
    }
