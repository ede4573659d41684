"""The template as a whole: its file, its functions, its state machine, its logs, its outputs."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint_file  # type: ignore[import-untyped]

from tests.infra import template
from tests.infra.template import EVERYTHING, FUNCTIONS, ROOT, STEPS, deployed, of_type, one
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


FILES = pytest.mark.parametrize("path", template.files(), ids=lambda path: path.name)


# Everything that is deployed, or that a user may deploy.
SHIPPED = [
    *template.files(),
    template.definition_file(),
    *(ROOT / "docs" / "recipes").glob("*.yaml"),
    ROOT / "events" / "parent.asl.yaml",
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_nothing_that_is_deployed_is_there_for_a_local_aws(path: Path) -> None:
    local = re.compile(r"\b127\.|\[::1\]|localhost|loopback|local AWS|ministack", re.IGNORECASE)
    text = path.read_text(encoding="utf-8")
    # The user may run a Waterflai of their own on the same machine.
    base_url = re.search(r"^  WaterflaiBaseUrl:.*?(?=^  \w+:)", text, re.MULTILINE | re.DOTALL)
    assert local.findall(text.replace(base_url[0] if base_url else "", "")) == []


@pytest.mark.parametrize(("name", "path"), template.nested().items())
def test_a_nested_template_gets_every_parameter_it_has_and_needs_no_transform(name: str, path: Path) -> None:
    given = template.source()["Resources"][name]["Properties"]["Parameters"]
    document = template.source(path)
    assert given.keys() == document["Parameters"].keys()
    # Without a macro inside it, the stack is created with nobody's leave but for its roles.
    assert "Transform" not in document
    for parameter, value in given.items():
        # What is checked outside is not checked again; what is passed on keeps its name.
        assert value == {"Ref": parameter} or parameter not in template.source()["Parameters"]


@pytest.mark.parametrize("path", template.nested().values(), ids=lambda path: path.name)
def test_a_nested_template_has_nothing_for_the_linter_to_say(path: Path) -> None:
    # `sam deploy` uploads a definition that has a file of its own (W3002), and writes aliases out (W1101).
    config = ManualArgs(regions=["us-east-1"], ignore_checks=["W3002", "W1101"])
    assert lint_file(path, config=config) == []


def test_no_resource_has_a_name_of_our_choice_but_the_state_machine_s_log_group() -> None:
    named = {
        (name, key)
        for path in template.files()
        for name, resource in template.source(path)["Resources"].items()
        for key in NAMING_PROPERTIES & resource.get("Properties", {}).keys()
        # A permission says which function it is for; it doesn't name it.
        if resource["Type"] != "AWS::Lambda::Permission"
    }
    assert named == {("ExecutionLogs", "LogGroupName")}
    name = deployed()["ExecutionLogs"]["Properties"]["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/states/${AWS::StackName}")


@FILES
def test_every_condition_is_a_question_and_is_asked(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in template.source(path)["Conditions"]:
        assert re.match(r"(Has|Is)[A-Z]", name)
        assert len(re.findall(rf"\b{name}\b", text)) > 1


def test_every_function_has_a_folder_and_every_folder_a_function() -> None:
    functions = {
        resource["Properties"]["CodeUri"]
        for resource in template.source()["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert functions == {f"functions/{app.parent.name}" for app in (ROOT / "functions").glob("*/app.py")}
    assert set(of_type(deployed(), "AWS::Lambda::Function")) == set(FUNCTIONS)


def test_every_function_runs_python_3_13_on_arm64_with_the_layer() -> None:
    resources = deployed()
    (layer,) = of_type(resources, "AWS::Lambda::LayerVersion")
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        properties = function["Properties"]
        # Follow mostly waits, and waiting is paid by the size.
        assert properties["MemorySize"] == (128 if name == "FollowFunction" else 512)
        assert properties["Runtime"] == "python3.13"
        assert properties["Architectures"] == ["arm64"]
        assert properties["Layers"] == [{"Ref": layer}]
        assert properties["Handler"] == "app.handler"
    build = template.source()["Resources"]["WaterhookLayer"]["Metadata"]
    assert build == {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}


def test_the_layer_is_compiled_by_the_version_that_runs_it() -> None:
    makefile = (ROOT / "layers" / "waterhook" / "Makefile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^VERSION := (.+)$", makefile, re.MULTILINE)
    runtimes = {
        entry["Properties"]["Runtime"] for entry in of_type(deployed(), "AWS::Lambda::Function").values()
    }
    assert runtimes == {f"python{version}"}
    assert template.source()["Resources"]["WaterhookLayer"]["Properties"]["CompatibleRuntimes"] == [*runtimes]


def test_the_api_answers_before_api_gateway_hangs_up() -> None:
    assert deployed()["ApiFunction"]["Properties"]["Timeout"] < 29


def test_the_outputs_are_what_a_caller_needs() -> None:
    outputs = template.source()["Outputs"]
    assert {name: output.get("Condition") for name, output in outputs.items()} == {
        "ApiUrl": None,
        "ApiInvokeArn": None,
        "ApiKeyId": "IsApiKeyAuth",
        "StateMachineArn": None,
        "TopicArn": None,
        "TableName": None,
        "BucketName": None,
        "ResultsQueueUrl": "HasResultsQueue",
        "ResultsQueueArn": "HasResultsQueue",
        "DeadLetterQueueUrl": None,
        "ReconcileFunctionName": None,
        "NotifyFunctionName": None,
        "LayerArn": None,
    }
    assert all(output["Description"] for output in outputs.values())
    assert not any("Export" in output for output in outputs.values())
    assert outputs["ApiUrl"]["Value"]["Fn::Sub"].endswith("/live")


def test_a_guided_deployment_on_a_real_account_asks_before_it_changes_anything() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))["default"]
    deploy = config["deploy"]["parameters"]
    assert config["global"]["parameters"]["stack_name"] == "waterhook"
    # The second is for stacks inside a stack that SAM has transformed.
    assert deploy["capabilities"] == "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
    assert deploy["confirm_changeset"]
    assert deploy["resolve_s3"]
    assert config["validate"]["parameters"]["lint"]


def placeholders(node: Any) -> set[str]:
    """Every ${Name} in a definition."""
    if isinstance(node, dict):
        return set().union(*map(placeholders, node.values()))
    if isinstance(node, list):
        return set().union(*map(placeholders, node))
    return set(re.findall(r"\$\{(\w+)\}", node)) if isinstance(node, str) else set()


def test_the_definition_gets_every_value_it_asks_for_and_no_other() -> None:
    machine = one("AWS::StepFunctions::StateMachine")
    assert placeholders(template.definition()) == machine["DefinitionSubstitutions"].keys()


def test_a_function_s_value_is_that_function() -> None:
    machine = one("AWS::StepFunctions::StateMachine")
    functions = {
        name: value
        for name, value in machine["DefinitionSubstitutions"].items()
        if name.endswith("FunctionArn")
    }
    assert functions == {f"{name}Arn": {"Fn::GetAtt": [name, "Arn"]} for name in STEPS}


def test_the_machine_is_a_standard_one_that_outlives_every_deadline() -> None:
    assert one("AWS::StepFunctions::StateMachine")["StateMachineType"] == "STANDARD"
    assert template.definition()["TimeoutSeconds"] > MAX_TIMEOUT_S


def test_every_function_has_a_log_group_of_its_own() -> None:
    functions = of_type(deployed(), "AWS::Lambda::Function")
    groups = {
        name: entry["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for name, entry in functions.items()
    }
    assert groups == {name: name.replace("Function", "Logs") for name in FUNCTIONS}


def test_every_log_expires_and_is_under_the_customer_s_key() -> None:
    for group in of_type(deployed(LogRetentionDays="7", **EVERYTHING), "AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == "7"
        assert group["Properties"]["KmsKeyId"] == template.KMS_KEY_ARN
        assert group["DeletionPolicy"] == group["UpdateReplacePolicy"] == "Delete"
    for group in of_type(deployed(), "AWS::Logs::LogGroup").values():
        assert "KmsKeyId" not in group["Properties"]


def test_the_machine_logs_every_event_and_none_of_the_customer_s_data() -> None:
    logging = one("AWS::StepFunctions::StateMachine")["LoggingConfiguration"]
    assert logging["Level"] == "ALL"
    assert logging["IncludeExecutionData"] is False
    (destination,) = logging["Destinations"]
    assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"] == {"Fn::GetAtt": ["ExecutionLogs", "Arn"]}
