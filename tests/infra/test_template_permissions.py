"""Who may do what: one role each, and not a permission more than its code uses."""

from typing import Any

import pytest

from tests.infra.template import (
    BOUNDARY_ARN,
    EVERYTHING,
    FUNCTIONS,
    KMS_KEY_ARN,
    ROLES,
    SECRET_ARN,
    deployed,
    of_type,
    statements,
)

TABLE = "ExecutionsTable.Arn"
OBJECTS = "${ResultsBucket.Arn}/*"
TOPIC = "NotificationTopic"

# All that each role may do, its own log aside. A permission that is not here is a mistake, and so is one less.
GRANTS: dict[str, dict[str, set[str]]] = {
    "ApiRole": {
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"},
        "ExecutionStateMachine": {"states:StartExecution"},
        OBJECTS: {"s3:GetObject"},
    },
    "StartRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
    },
    "PollRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        TABLE: {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        OBJECTS: {"s3:PutObject"},
    },
    "CancelRole": {
        SECRET_ARN: {"secretsmanager:GetSecretValue"},
        OBJECTS: {"s3:PutObject"},
    },
    "NotifyRole": {
        TABLE: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
        TOPIC: {"sns:Publish"},
    },
    "ExecutionRole": {
        f"{name}.Arn": {"lambda:InvokeFunction"} for name in FUNCTIONS if name != "ApiFunction"
    },
}

LOG_DELIVERY = "CloudWatch Logs has no resource to name for the delivery of a vended log"
# Who may do something to any resource, and why nothing narrower exists.
ON_ANY_RESOURCE = {
    ("ExecutionRole", "logs:CreateLogDelivery"): LOG_DELIVERY,
    ("ExecutionRole", "logs:GetLogDelivery"): LOG_DELIVERY,
    ("ExecutionRole", "logs:UpdateLogDelivery"): LOG_DELIVERY,
    ("ExecutionRole", "logs:DeleteLogDelivery"): LOG_DELIVERY,
    ("ExecutionRole", "logs:ListLogDeliveries"): LOG_DELIVERY,
    ("ExecutionRole", "logs:PutResourcePolicy"): LOG_DELIVERY,
    ("ExecutionRole", "logs:DescribeResourcePolicies"): LOG_DELIVERY,
    ("ExecutionRole", "logs:DescribeLogGroups"): LOG_DELIVERY,
}


def named(resource: Any) -> str:
    """A resource as one word: `Table`, `Table.Arn`, or the text of a Fn::Sub."""
    if isinstance(resource, str):
        return resource
    ((_, value),) = resource.items()
    return ".".join(value) if isinstance(value, list) else str(value)


def grants(role: str, **parameters: str) -> dict[str, set[str]]:
    """What a role may do, by resource."""
    found: dict[str, set[str]] = {}
    for statement in statements(deployed(**parameters)[role]):
        assert statement["Effect"] == "Allow"
        for resource in statement["Resource"]:
            found.setdefault(named(resource), set()).update(statement["Action"])
    return found


def own_log(role: str) -> dict[str, set[str]]:
    logs = role.replace("Role", "Logs.Arn")
    # The state machine doesn't write its log: it has it delivered.
    return {} if role == "ExecutionRole" else {logs: {"logs:CreateLogStream", "logs:PutLogEvents"}}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_its_code_does_and_write_its_own_log(role: str) -> None:
    granted = grants(role)
    granted.pop("*", None)
    assert granted == GRANTS[role] | own_log(role)


def test_there_is_no_other_role() -> None:
    assert set(of_type(deployed(**EVERYTHING), "AWS::IAM::Role")) == set(ROLES)


def test_only_what_knows_no_resource_is_granted_on_any() -> None:
    anywhere = {
        (role, action)
        for role in ROLES
        for statement in statements(deployed(**EVERYTHING)[role])
        for action in statement["Action"]
        if "*" in statement["Resource"]
    }
    assert anywhere == ON_ANY_RESOURCE.keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_statement_grants_one_to_three_actions_by_their_full_name(role: str) -> None:
    for statement in statements(deployed(**EVERYTHING)[role]):
        assert 1 <= len(statement["Action"]) <= 3
        assert not any("*" in action for action in statement["Action"])


@pytest.mark.parametrize("role", ROLES)
def test_the_customer_s_key_is_granted_only_where_there_is_one(role: str) -> None:
    assert grants(role, **EVERYTHING)[KMS_KEY_ARN] == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert not any(action.startswith("kms:") for actions in grants(role).values() for action in actions)


def test_every_function_has_its_own_role() -> None:
    resources = deployed()
    roles = {name: resources[name]["Properties"]["Role"]["Fn::GetAtt"] for name in FUNCTIONS}
    assert roles == {name: [name.replace("Function", "Role"), "Arn"] for name in FUNCTIONS}
    assert resources["ExecutionStateMachine"]["Properties"]["RoleArn"] == {
        "Fn::GetAtt": ["ExecutionRole", "Arn"]
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_assumed_by_its_service_only(role: str) -> None:
    service = "states.amazonaws.com" if role == "ExecutionRole" else "lambda.amazonaws.com"
    assert deployed()[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    ]
    assert "ManagedPolicyArns" not in deployed()[role]["Properties"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_bounded_where_a_boundary_is_given(role: str) -> None:
    assert "PermissionsBoundary" not in deployed()[role]["Properties"]
    assert deployed(**EVERYTHING)[role]["Properties"]["PermissionsBoundary"] == BOUNDARY_ARN


def test_nobody_publishes_but_the_roles_that_may() -> None:
    publishers = [role for role in ROLES if "sns:Publish" in grants(role).get(TOPIC, set())]
    policy = deployed()["NotificationTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (denial,) = (statement for statement in policy if "ArnNotLike" in statement["Condition"])
    assert (denial["Effect"], denial["Principal"], denial["Action"]) == ("Deny", "*", "sns:Publish")
    exempt = [named(arn) for arn in denial["Condition"]["ArnNotLike"]["aws:PrincipalArn"]]
    session = "arn:${AWS::Partition}:sts::${AWS::AccountId}:assumed-role/${%s}/*"
    assert sorted(exempt) == sorted(
        [f"{role}.Arn" for role in publishers] + [session % role for role in publishers]
    )


def test_the_topic_s_policy_gives_nothing_away() -> None:
    for statement in deployed()["NotificationTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Deny"


def test_only_the_stage_of_this_api_invokes_its_function() -> None:
    (permission,) = of_type(deployed(), "AWS::Lambda::Permission").values()
    properties = permission["Properties"]
    assert properties["Principal"] == "apigateway.amazonaws.com"
    assert properties["FunctionName"] == {"Ref": "ApiFunction"}
    assert properties["SourceArn"]["Fn::Sub"].endswith(":${Api}/live/*/v1/executions/*")
