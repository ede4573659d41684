"""The template deploys in each account, also a new one with the lowest quotas, and in each partition."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract import template
from tests.contract.template import EVERYTHING, FUNCTIONS, ROOT, deployed, of_type

PARAMETERS: dict[str, dict[str, Any]] = template.source()["Parameters"]
RESERVED = "ReservedConcurrentExecutions"
# No type here needs a setting of the account, a service-linked role, or a quota that starts at 0.
KINDS = {
    "AWS::ApiGateway::ApiKey",
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGateway::UsagePlan",
    "AWS::ApiGateway::UsagePlanKey",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::DynamoDB::Table",
    "AWS::Events::Rule",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
    "AWS::SecretsManager::Secret",
    "AWS::StepFunctions::StateMachine",
}
# Properties that use a quota, or that need a setting of the account.
OPTIONAL_CLAIMS = {
    "AccessLogSetting",  # needs the account's role for CloudWatch; ApiAccessLogs
    "MaximumConcurrency",  # of the queue of webhooks: a limit that reserves nothing; WebhookAllowedHosts
    "VpcConfig",  # uses network interfaces and addresses; SubnetIds
}
CLAIMS = {
    "AccessLogSettings",
    "AutoPublishAlias",
    "DataTraceEnabled",
    "LoggingLevel",  # needs the account's role for CloudWatch
    "ProvisionedConcurrencyConfig",
    "ProvisionedThroughput",
    "Quota",
    "SnapStart",
    "VpcEndpointIds",
}
# The maximum memory of a function in a new account.
NEW_ACCOUNT_MEMORY_MB = 3008


def keys(node: Any) -> set[str]:
    """Return the names of all properties, also nested."""
    if isinstance(node, list):
        return set().union(*map(keys, node))
    if not isinstance(node, dict):
        return set()
    return set(node).union(*map(keys, node.values()))


def reservations(**parameters: str) -> dict[str, str]:
    functions = of_type(deployed(**parameters), "AWS::Lambda::Function")
    return {
        name: entry["Properties"][RESERVED]
        for name, entry in functions.items()
        if RESERVED in entry["Properties"]
    }


def test_no_concurrency_is_reserved_by_default() -> None:
    # A new account has a quota of 10, and Lambda refuses any reservation there.
    assert reservations() == {}
    assert reservations(**EVERYTHING) == {}


def test_each_reservation_depends_on_a_parameter_whose_default_is_0() -> None:
    document = template.source()
    found = {
        name: resource["Properties"][RESERVED]
        for name, resource in document["Resources"].items()
        if RESERVED in resource.get("Properties", {})
    }
    assert found, f"no resource has {RESERVED}"
    assert RESERVED not in keys(document["Globals"])
    for value in found.values():
        condition, reserved, otherwise = value["Fn::If"]
        assert otherwise == {"Ref": "AWS::NoValue"}
        assert int(PARAMETERS[reserved["Ref"]]["Default"]) == 0
        assert document["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [reserved, "0"]}]}


@pytest.mark.parametrize("value", ["1", "50"])
def test_only_the_follow_function_reserves_the_concurrency_of_the_parameter(value: str) -> None:
    assert reservations(FollowConcurrency=value) == {"FollowFunction": value}


@pytest.mark.parametrize(
    ("parameters", "claims"),
    [({}, set()), (EVERYTHING, OPTIONAL_CLAIMS)],
    ids=["the defaults", "every option"],
)
def test_the_defaults_need_no_quota_and_no_setting_of_the_account(
    parameters: dict[str, str], claims: set[str]
) -> None:
    resources = deployed(**parameters)
    assert {entry["Type"] for entry in resources.values()} <= KINDS
    assert keys(resources) & (CLAIMS | OPTIONAL_CLAIMS) == claims
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Properties"]["MemorySize"] <= NEW_ACCOUNT_MEMORY_MB


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_variables_of_a_function_leave_2000_characters_for_lists_and_a_url(name: str) -> None:
    """Lambda allows 4 KB. References become ARNs, URLs and names, of which few are longer than 110 characters."""
    function = deployed(WebhookAllowedHosts="*")[name]["Properties"]
    variables = function["Environment"]["Variables"]
    size = sum(len(key) + (len(value) if isinstance(value, str) else 110) for key, value in variables.items())
    assert size + 2000 < 4096


def test_each_listed_type_is_in_the_template() -> None:
    assert {entry["Type"] for entry in deployed(**EVERYTHING).values()} == KINDS


def test_optional_resources_are_absent_by_default() -> None:
    kinds = {entry["Type"] for entry in deployed().values()}
    optional = {kind for kind in KINDS if kind.startswith("AWS::CloudWatch::")} | {
        "AWS::ApiGateway::ApiKey",
        "AWS::ApiGateway::UsagePlan",
        "AWS::ApiGateway::UsagePlanKey",
        "AWS::SNS::Subscription",
        "AWS::Scheduler::Schedule",
        "AWS::Lambda::EventSourceMapping",
        "AWS::SecretsManager::Secret",
    }
    assert kinds == KINDS - optional
    for function in of_type(deployed(), "AWS::Lambda::Function").values():
        assert function["Properties"]["TracingConfig"] == {"Mode": "PassThrough"}


# Templates that a user deploys, and code that builds ARNs or addresses.
WRITTEN = [
    template.PATH,
    template.definition_file(),
    *(ROOT / "docs" / "recipes").glob("*.yaml"),
    *(ROOT / "docs" / "recipes").glob("*/*.yaml"),
    ROOT / "events" / "parent.asl.yaml",
    *(ROOT / "layers" / "waterhook" / "waterhook").rglob("*.py"),
    *(ROOT / "functions").glob("*/app.py"),
    *(ROOT / "waterhook_cli").rglob("*.py"),
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: "/".join(path.parts[-2:]))
def test_no_file_contains_a_partition_or_a_domain_of_aws(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # Messages may show an example ARN. The name of a service is the same in each partition.
    text = re.sub(r"^ *ConstraintDescription:.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r'"?(Service|Principal)"?: "?[a-z.]+\.amazonaws\.com', "", text)
    assert re.findall(r"arn:aws(?!\[)[a-z-]*:|amazonaws\.com", text) == []
