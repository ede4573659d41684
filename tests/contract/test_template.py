"""The template's file, functions, state machine, logs and outputs."""

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract import template
from tests.contract.template import (
    EVERYTHING,
    FUNCTIONS,
    OPTIONAL_FUNCTIONS,
    ROOT,
    STEPS,
    WEBHOOKS,
    deployed,
    of_type,
    one,
)
from waterhook.domain.request import MAX_TIMEOUT_S

NAMING_PROPERTIES = {
    "BucketName",
    "FunctionName",
    "LayerName",
    "LogGroupName",
    "ManagedPolicyName",
    "Name",
    "QueueName",
    "RoleName",
    "StateMachineName",
    "TableName",
    "TopicName",
}


# What is deployed, and what a user may deploy.
SHIPPED = [
    template.PATH,
    template.definition_file(),
    *(ROOT / "docs" / "recipes").glob("*.yaml"),
    *(ROOT / "docs" / "recipes").glob("*/*.yaml"),
    ROOT / "events" / "parent.asl.yaml",
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_no_shipped_template_mentions_the_local_aws(path: Path) -> None:
    local = re.compile(r"\b127\.|\[::1\]|localhost|loopback|local AWS|ministack", re.IGNORECASE)
    text = path.read_text(encoding="utf-8")
    # The base URL of Waterflai may be on the loopback interface.
    base_url = re.search(r"^  WaterflaiBaseUrl:.*?(?=^  \w+:)", text, re.MULTILINE | re.DOTALL)
    assert local.findall(text.replace(base_url[0] if base_url else "", "")) == []


def is_leaf(node: yaml.Node) -> bool:
    """Return whether a flow collection is as simple as `[a, b]`, `!If [HasIt, !Ref It, other]` or `{Days: 5}`."""
    if isinstance(node, yaml.MappingNode):
        return len(node.value) == 1 and isinstance(node.value[0][1], yaml.ScalarNode)
    return not any(isinstance(item, yaml.MappingNode) for item in node.value)


def not_in_block_style(text: str) -> Iterator[int]:
    """Yield the line of each alias, and of each flow collection that is not a leaf."""
    seen: set[int] = set()
    pending: list[Any] = [yaml.compose(text)]
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias is the same node as its anchor
            yield node.start_mark.line + 1
            continue
        seen.add(id(node))
        if isinstance(node, yaml.CollectionNode):
            if node.flow_style and not is_leaf(node):
                yield node.start_mark.line + 1
            pending += chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value


def test_the_template_is_in_block_style_and_has_no_aliases() -> None:
    assert list(not_in_block_style(template.PATH.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &name [b]\nc: *name",
        "a: &name b\nc: *name",
        "a: {b: c, d: e}",
        "a: {b: [c]}",
        "a: [{b: c}]",
        "a: !If [b, {c: d}, e]",
    ],
)
def test_a_template_in_another_style_is_noticed(text: str) -> None:
    assert list(not_in_block_style(text))


def test_only_the_log_group_of_the_state_machine_has_a_fixed_name() -> None:
    named = {
        (name, key)
        for name, resource in template.source()["Resources"].items()
        for key in NAMING_PROPERTIES & resource.get("Properties", {}).keys()
        # In a permission, FunctionName is a reference to the function that it is for.
        if resource["Type"] != "AWS::Lambda::Permission"
    }
    assert named == {("StateMachineLogs", "LogGroupName")}
    name = deployed()["StateMachineLogs"]["Properties"]["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/states/${AWS::StackName}")


def test_each_condition_begins_with_has_or_is_and_is_used() -> None:
    text = template.PATH.read_text(encoding="utf-8")
    for name in template.source()["Conditions"]:
        assert re.match(r"(Has|Is)[A-Z]", name)
        assert len(re.findall(rf"\b{name}\b", text)) > 1


def test_functions_and_their_folders_correspond() -> None:
    functions = {
        resource["Properties"]["CodeUri"]
        for resource in template.source()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert functions == {f"functions/{app.parent.name}" for app in (ROOT / "functions").glob("*/app.py")}
    assert set(of_type(deployed(**WEBHOOKS), "AWS::Lambda::Function")) == set(FUNCTIONS)
    assert set(of_type(deployed(), "AWS::Lambda::Function")) == set(FUNCTIONS) - OPTIONAL_FUNCTIONS


def test_each_function_runs_python_3_13_on_arm64_with_the_layer() -> None:
    # These functions mostly wait, and are billed for their memory while they do.
    memory_mb = {"FollowFunction": 128, "DeliverFunction": 256}
    resources = deployed(**WEBHOOKS)
    (layer,) = of_type(resources, "AWS::Lambda::LayerVersion")
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        properties = function["Properties"]
        assert properties["MemorySize"] == memory_mb.get(name, 512)
        assert properties["Runtime"] == "python3.13"
        assert properties["Architectures"] == ["arm64"]
        assert properties["Layers"] == [{"Ref": layer}]
        assert properties["Handler"] == "app.handler"
    declared = template.source()["Resources"]["WaterhookLayer"]
    assert declared["Metadata"] == {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}
    assert declared["Properties"]["CompatibleArchitectures"] == ["arm64"]


def test_the_layer_is_compiled_by_the_python_version_of_the_functions() -> None:
    makefile = (ROOT / "layers" / "waterhook" / "Makefile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^VERSION := (.+)$", makefile, re.MULTILINE)
    runtimes = {
        entry["Properties"]["Runtime"] for entry in of_type(deployed(), "AWS::Lambda::Function").values()
    }
    assert runtimes == {f"python{version}"}
    assert template.source()["Resources"]["WaterhookLayer"]["Properties"]["CompatibleRuntimes"] == [*runtimes]


def test_all_functions_are_in_the_vpc_or_none() -> None:
    for function in of_type(deployed(**WEBHOOKS), "AWS::Lambda::Function").values():
        assert "VpcConfig" not in function["Properties"]
    parameters = WEBHOOKS | {"SubnetIds": "subnet-0a,subnet-0b", "SecurityGroupIds": "sg-0a"}
    for function in of_type(deployed(**parameters), "AWS::Lambda::Function").values():
        assert function["Properties"]["VpcConfig"] == {
            "SubnetIds": ["subnet-0a", "subnet-0b"],
            "SecurityGroupIds": ["sg-0a"],
        }


def is_accepted(rule: str, values: dict[str, str]) -> bool:
    """Return whether a rule of the template accepts the values of parameters."""
    (assertion,) = template.source()["Rules"][rule]["Assertions"]
    return template.decided(assertion["Assert"], {}, values)


@pytest.mark.parametrize(
    ("operators", "mode", "accepted"),
    [("", "IAM", True), ("", "API_KEY", True), ("arn", "IAM", True), ("arn", "API_KEY", False)],
)
def test_operators_need_callers_that_sign_their_requests(
    operators: str, mode: str, *, accepted: bool
) -> None:
    values = {"OperatorPrincipalArns": operators, "AuthMode": mode}
    assert is_accepted("OperatorsOnlyWithIam", values) is accepted


@pytest.mark.parametrize(
    ("subnets", "groups", "accepted"),
    [("", "", True), ("subnet-0a", "sg-0a", True), ("subnet-0a", "", False), ("", "sg-0a", False)],
)
def test_subnets_and_security_groups_are_set_together(subnets: str, groups: str, *, accepted: bool) -> None:
    values = {"SubnetIds": subnets, "SecurityGroupIds": groups}
    assert is_accepted("BothSubnetsAndSecurityGroupsOrNeither", values) is accepted


@pytest.mark.parametrize(
    ("url", "hosts", "accepted"),
    [
        ("", "", True),
        ("", "hooks.example.com", True),
        ("https://hooks.example.com/", "hooks.example.com", True),
        ("https://hooks.example.com/", "", False),
    ],
)
def test_a_default_webhook_needs_an_allowed_host(url: str, hosts: str, *, accepted: bool) -> None:
    values = {"DefaultWebhookUrl": url, "WebhookAllowedHosts": hosts}
    assert is_accepted("DefaultWebhookUrlOnlyWithWebhooks", values) is accepted


@pytest.mark.parametrize(
    ("targets", "bus", "accepted"),
    [
        ("sns,dynamodb", "", True),
        ("sns,dynamodb", "results", True),
        ("eventbridge", "default", True),
        ("dynamodb,eventbridge,sns", "results", True),
        ("eventbridge", "", False),
        ("sns,eventbridge", "", False),
    ],
)
def test_results_go_to_the_bus_by_default_only_where_there_is_one(
    targets: str, bus: str, *, accepted: bool
) -> None:
    values = {"DefaultDeliverTo": targets, "ResultEventBusName": bus}
    assert is_accepted("DeliverToEventBridgeOnlyWithBus", values) is accepted


def test_a_bus_for_results_adds_only_a_permission() -> None:
    def names(**parameters: str) -> set[str]:
        resources = deployed(**parameters)
        # The name of a deployment contains a hash of the API.
        return resources.keys() - of_type(resources, "AWS::ApiGateway::Deployment").keys()

    assert names(ResultEventBusName="results") - names() == {"PutResultEventsPolicy"}


def test_the_api_function_times_out_before_api_gateway() -> None:
    assert deployed()["ApiFunction"]["Properties"]["Timeout"] < 29


def test_the_outputs_and_their_conditions() -> None:
    outputs = template.source()["Outputs"]
    assert {name: output.get("Condition") for name, output in outputs.items()} == {
        "ApiUrl": None,
        "ApiInvokeArn": None,
        "ApiKeyId": "HasApiKey",
        "StateMachineArn": None,
        "TopicArn": None,
        "TableName": None,
        "BucketName": None,
        "ResultsQueueUrl": "HasResultsQueue",
        "ResultsQueueArn": "HasResultsQueue",
        "DeadLetterQueueUrl": None,
        "WebhookQueueUrl": "HasWebhooks",
        "WebhookDeadLetterQueueUrl": "HasWebhooks",
        "WebhookTableName": "HasWebhooks",
        "WebhookSecretArn": "HasWebhooks",
        "DeliverFunctionName": "HasWebhooks",
        "ReconcileFunctionName": None,
        "NotifyFunctionName": None,
        "LayerArn": None,
    }
    assert all(output["Description"] for output in outputs.values())
    assert not any("Export" in output for output in outputs.values())
    assert outputs["ApiUrl"]["Value"]["Fn::Sub"].endswith("/live")


def test_a_guided_deployment_needs_confirmation_of_the_changes() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))["default"]
    deploy = config["deploy"]["parameters"]
    assert config["global"]["parameters"]["stack_name"] == "waterhook"
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert deploy["confirm_changeset"]
    assert deploy["resolve_s3"]
    assert config["validate"]["parameters"]["lint"]


def placeholders(node: Any) -> set[str]:
    """Return each ${Name} in a definition."""
    if isinstance(node, dict):
        return set().union(*map(placeholders, node.values()))
    if isinstance(node, list):
        return set().union(*map(placeholders, node))
    return set(re.findall(r"\$\{(\w+)\}", node)) if isinstance(node, str) else set()


def test_the_substitutions_are_those_that_the_definition_uses() -> None:
    machine = one("AWS::StepFunctions::StateMachine")
    assert placeholders(template.definition()) == machine["DefinitionSubstitutions"].keys()


def test_each_substitution_of_a_function_is_its_arn() -> None:
    machine = one("AWS::StepFunctions::StateMachine")
    functions = {
        name: value
        for name, value in machine["DefinitionSubstitutions"].items()
        if name.endswith("FunctionArn")
    }
    assert functions == {f"{name}Arn": {"Fn::GetAtt": [name, "Arn"]} for name in STEPS}


def test_the_state_machine_is_standard_and_times_out_after_the_longest_deadline() -> None:
    assert one("AWS::StepFunctions::StateMachine")["StateMachineType"] == "STANDARD"
    assert template.definition()["TimeoutSeconds"] > MAX_TIMEOUT_S


def test_each_function_has_its_own_log_group() -> None:
    functions = of_type(deployed(**WEBHOOKS), "AWS::Lambda::Function")
    groups = {
        name: entry["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for name, entry in functions.items()
    }
    assert groups == {name: name.replace("Function", "Logs") for name in FUNCTIONS}


def test_each_log_group_expires_and_uses_the_customer_key() -> None:
    for group in of_type(deployed(LogRetentionDays="7", **EVERYTHING), "AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == "7"
        assert group["Properties"]["KmsKeyId"] == template.KMS_KEY_ARN
        assert group["DeletionPolicy"] == group["UpdateReplacePolicy"] == "Delete"
    for group in of_type(deployed(), "AWS::Logs::LogGroup").values():
        assert "KmsKeyId" not in group["Properties"]


def test_the_state_machine_logs_all_events_without_execution_data() -> None:
    logging = one("AWS::StepFunctions::StateMachine")["LoggingConfiguration"]
    assert logging["Level"] == "ALL"
    assert logging["IncludeExecutionData"] is False
    (destination,) = logging["Destinations"]
    assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"] == {"Fn::GetAtt": ["StateMachineLogs", "Arn"]}
