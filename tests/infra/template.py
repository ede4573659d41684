"""The template as it is written, and as SAM and CloudFormation make it out for given parameters."""

import copy
import json
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
FUNCTIONS = ("ApiFunction", "StartFunction", "PollFunction", "CancelFunction", "NotifyFunction")
ROLES = ("ApiRole", "ExecutionRole", "StartRole", "PollRole", "CancelRole", "NotifyRole")
# Every optional part at once: the richest template there is.
EVERYTHING = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "KmsKeyArn": KMS_KEY_ARN,
    "PermissionsBoundaryArn": BOUNDARY_ARN,
}

type Resources = dict[str, dict[str, Any]]

_NOTHING = object()


@cache
def _parsed() -> str:
    # Through JSON, so that what was an alias is a copy.
    return json.dumps(yaml_parse(PATH.read_text(encoding="utf-8")))


def source() -> dict[str, Any]:
    """The template as written, its short tags in their long form."""
    document: dict[str, Any] = json.loads(_parsed())
    return document


def definition() -> dict[str, Any]:
    """The state machine's definition, read with nothing but a YAML parser."""
    machine = source()["Resources"]["ExecutionStateMachine"]["Properties"]
    file = ROOT / machine.get("DefinitionS3Location", machine.get("DefinitionUri"))
    document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return document


def deployed(**parameters: str) -> Resources:
    """The resources that CloudFormation would make: SAM's transform done, conditions decided.

    References to parameters are their values; those to resources stay as they are.
    """
    return copy.deepcopy(_deployed(tuple(sorted(parameters.items()))))


@cache
def _deployed(given: tuple[tuple[str, str], ...]) -> Resources:
    template = source()
    values = {
        name: str(entry["Default"]) for name, entry in template["Parameters"].items() if "Default" in entry
    }
    values |= {"WaterflaiApiKeySecretArn": SECRET_ARN} | dict(given)
    conditions = {name: _decided(rule, values) for name, rule in template["Conditions"].items()}
    for name, resource in template["Resources"].items():
        # What `sam deploy` uploads has an address by now.
        for pointer in ("CodeUri", "ContentUri"):
            if pointer in resource.get("Properties", {}):
                resource["Properties"][pointer] = f"s3://artifacts/{name}"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    resources: Resources = translator.translate(template, dict(values))["Resources"]
    made = {
        name: entry for name, entry in resources.items() if conditions.get(entry.get("Condition", ""), True)
    }
    resolved: Resources = _resolved(json.loads(json.dumps(made)), values, conditions)
    return resolved


def _decided(rule: Any, values: dict[str, str]) -> bool:
    """What a condition comes to. Only what the template uses is known: Equals and Not."""
    ((function, arguments),) = rule.items()
    if function == "Fn::Not":
        return not _decided(arguments[0], values)
    assert function == "Fn::Equals", function
    left, right = (values[side["Ref"]] if isinstance(side, dict) else side for side in arguments)
    return bool(left == right)


def _resolved(node: Any, values: dict[str, str], conditions: dict[str, bool]) -> Any:
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
    items = ((name, _resolved(value, values, conditions)) for name, value in node.items())
    return {name: value for name, value in items if value is not _NOTHING}


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
