"""The templates as they are written, and as SAM and CloudFormation make them out for given parameters."""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import yaml
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "template.yaml"

SECRET_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:waterflai-AbCdEf"
KMS_KEY_ARN = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0000-1111-2222-333344445555"
BOUNDARY_ARN = "arn:aws:iam::123456789012:policy/boundary"
# What the state machine calls, and what others call.
STEPS = ("StartFunction", "FollowFunction", "PollFunction", "CancelFunction", "NotifyFunction")
FUNCTIONS = ("ApiFunction", *STEPS, "ReconcileFunction")
# What EventBridge assumes, where there is an event bus or a schedule.
TRIGGER_ROLES = ("RequestedRole", "ScheduleRole")
ROLES = ("ExecutionRole", *(name.replace("Function", "Role") for name in FUNCTIONS), *TRIGGER_ROLES)
# Every other way in.
TRIGGERS = {
    "EventBusName": "orders",
    "ScheduleExpression": "rate(1 hour)",
    "ScheduleRequest": '{"chatbot_id": "report-flow", "input_data": {"of": "today"}}',
}
# Every optional part at once: the richest template there is.
EVERYTHING = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "KmsKeyArn": KMS_KEY_ARN,
    "PermissionsBoundaryArn": BOUNDARY_ARN,
    "Tracing": "ON",
    "AlarmEmail": "ops@example.com",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    **TRIGGERS,
}

type Resources = dict[str, dict[str, Any]]

_NOTHING = object()


@cache
def _parsed(path: Path) -> str:
    # Through JSON, so that what was an alias is a copy.
    return json.dumps(yaml_parse(path.read_text(encoding="utf-8")))


def source(path: Path = PATH) -> dict[str, Any]:
    """A template as written, its short tags in their long form."""
    document: dict[str, Any] = json.loads(_parsed(path))
    return document


def nested() -> dict[str, Path]:
    """The files of the nested templates by the resource that each is in the outer one."""
    stacks = of_type(source()["Resources"], "AWS::CloudFormation::Stack")
    return {name: ROOT / stack["Properties"]["TemplateURL"] for name, stack in stacks.items()}


def files() -> list[Path]:
    """Every template there is."""
    return [PATH, *nested().values()]


def definition() -> dict[str, Any]:
    """The state machine's definition, read with nothing but a YAML parser."""
    document: dict[str, Any] = yaml.safe_load(definition_file().read_text(encoding="utf-8"))
    return document


def definition_file() -> Path:
    """Where the state machine's definition stands."""
    path = nested()["Machine"]
    machine = source(path)["Resources"]["ExecutionStateMachine"]["Properties"]
    file: Path = path.parent / machine["DefinitionS3Location"]
    return file


def deployed(**parameters: str) -> Resources:
    """The resources that CloudFormation would make: SAM's transform done, conditions decided, stacks unpacked.

    References to parameters and to outputs of nested stacks are what they stand for; those to resources stay.
    """
    return copy.deepcopy(_deployed(tuple(sorted(parameters.items()))))


@cache
def _deployed(given: tuple[tuple[str, str], ...]) -> Resources:
    template = source()
    values: dict[str, Any] = {
        name: str(entry["Default"]) for name, entry in template["Parameters"].items() if "Default" in entry
    }
    values |= {"WaterflaiApiKeySecretArn": SECRET_ARN} | dict(given)
    for name, resource in template["Resources"].items():
        # What `sam deploy` uploads has an address by now.
        for pointer in ("CodeUri", "ContentUri"):
            if pointer in resource.get("Properties", {}):
                resource["Properties"][pointer] = f"s3://artifacts/{name}"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    template["Resources"] = translator.translate(copy.deepcopy(template), dict(values))["Resources"]
    resources, _ = _made(template, values)
    outputs: dict[str, Any] = {}
    for name, path in nested().items():
        if name not in resources:
            continue  # behind a condition
        parameters = resources.pop(name)["Properties"]["Parameters"]
        inner, said = _made(source(path), parameters)
        assert not inner.keys() & resources.keys(), "one name, two resources"
        resources |= inner
        outputs |= {f"{name}.Outputs.{key}": value for key, value in said.items()}
    unpacked: Resources = _unpacked(resources, outputs)
    return unpacked


def _made(template: dict[str, Any], values: dict[str, Any]) -> tuple[Resources, dict[str, Any]]:
    """A template's resources and outputs for the values of its parameters."""
    values = {name: _listed(value) for name, value in values.items()}
    template = _looked_up(template, template.get("Mappings", {}), values)
    rules = template.get("Conditions", {})
    conditions = {name: _decided(rule, values) for name, rule in rules.items()}
    resources = {
        name: entry
        for name, entry in template["Resources"].items()
        if conditions.get(entry.get("Condition", ""), True)
    }
    outputs = {
        name: entry["Value"]
        for name, entry in template.get("Outputs", {}).items()
        if conditions.get(entry.get("Condition", ""), True)
    }
    # Through JSON, since the translator's texts are a kind of their own.
    made: tuple[Resources, dict[str, Any]] = (
        _resolved(json.loads(json.dumps(resources)), values, conditions),
        _resolved(outputs, values, conditions),
    )
    return made


def _looked_up(node: Any, mappings: dict[str, Any], values: dict[str, Any]) -> Any:
    """The same with each Fn::FindInMap as what it finds for the value of a parameter."""
    if isinstance(node, list):
        return [_looked_up(item, mappings, values) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Fn::FindInMap"}:
        name, key, field = node["Fn::FindInMap"]
        return mappings[name][str(values[key["Ref"]])][field]
    return {name: _looked_up(value, mappings, values) for name, value in node.items()}


def _listed(value: Any) -> Any:
    """A list that had to be joined to be the value of a parameter."""
    if isinstance(value, dict) and value.keys() == {"Fn::Join"}:
        separator, items = value["Fn::Join"]
        assert separator == ","
        return items
    return value


def _decided(rule: Any, values: dict[str, Any]) -> bool:
    """What a condition comes to. Only what the templates use is known: Equals, Not and Or."""
    ((function, arguments),) = rule.items()
    if function == "Fn::Or":
        return any(_decided(argument, values) for argument in arguments)
    if function == "Fn::Not":
        return not _decided(arguments[0], values)
    assert function == "Fn::Equals", function
    left, right = (values[side["Ref"]] if isinstance(side, dict) else side for side in arguments)
    return bool(left == right)


def _resolved(node: Any, values: dict[str, Any], conditions: dict[str, bool]) -> Any:
    if isinstance(node, list):
        items = (_resolved(item, values, conditions) for item in node)
        return [item for item in items if item is not _NOTHING]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Fn::If"}:
        name, then, otherwise = node["Fn::If"]
        return _resolved(then if conditions[name] else otherwise, values, conditions)
    if node.keys() == {"Ref"}:
        return _NOTHING if node["Ref"] == "AWS::NoValue" else values.get(node["Ref"], node)
    if node.keys() == {"Fn::Sub"} and isinstance(node["Fn::Sub"], str):
        return _filled(node["Fn::Sub"], {k: v for k, v in values.items() if isinstance(v, str)})
    items = ((name, _resolved(value, values, conditions)) for name, value in node.items())
    return {name: value for name, value in items if value is not _NOTHING}


def _unpacked(node: Any, outputs: dict[str, Any]) -> Any:
    """The same with each output of a nested stack as what it is there."""
    if isinstance(node, list):
        return [_unpacked(item, outputs) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Fn::GetAtt"}:
        return outputs.get(".".join(node["Fn::GetAtt"]), node)
    if node.keys() == {"Fn::Sub"} and isinstance(node["Fn::Sub"], str):
        return _filled(node["Fn::Sub"], {name: f"${{{named(value)}}}" for name, value in outputs.items()})
    return {name: _unpacked(value, outputs) for name, value in node.items()}


def _filled(text: str, values: dict[str, str]) -> Any:
    """A Fn::Sub with what is known put in; plain text once nothing is left to put in."""
    filled = re.sub(r"\$\{([^!}]+)\}", lambda found: values.get(found[1], found[0]), text)
    return {"Fn::Sub": filled} if "${" in filled else filled


def named(reference: Any) -> str:
    """A reference as one word: `Table`, `Table.Arn`, or the text of a Fn::Sub."""
    if isinstance(reference, str):
        return reference
    ((_, value),) = reference.items()
    return ".".join(value) if isinstance(value, list) else str(value)


def of_type(resources: Resources, kind: str) -> Resources:
    """The resources of one type."""
    return {name: entry for name, entry in resources.items() if entry["Type"] == kind}


def one(kind: str) -> dict[str, Any]:
    """The properties of the only resource of a type, with every option on."""
    (resource,) = of_type(deployed(**EVERYTHING), kind).values()
    properties: dict[str, Any] = resource["Properties"]
    return properties


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """Every statement of a role's policies, actions and resources as lists."""
    return [
        statement | {key: as_list(statement[key]) for key in ("Action", "Resource")}
        for policy in role["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def as_list(value: Any) -> list[Any]:
    """IAM's habit: one thing may stand for a list of one."""
    return value if isinstance(value, list) else [value]
