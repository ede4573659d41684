"""Reads the template as written, and its resources after SAM's transform for given parameters."""

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
CA_BUNDLE_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:authority-GhIjKl"
KMS_KEY_ARN = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0000-1111-2222-333344445555"
BOUNDARY_ARN = "arn:aws:iam::123456789012:policy/boundary"
# The functions that the state machine invokes, then all functions.
STEPS = ("StartFunction", "FollowFunction", "PollFunction", "CancelFunction", "NotifyFunction")
FUNCTIONS = ("ApiFunction", *STEPS, "ReconcileFunction", "DeliverFunction")
# Assumed by EventBridge. They exist only with an event bus or a schedule.
TRIGGER_ROLES = ("EventBusRole", "ScheduleRole")
ROLES = ("StateMachineRole", *(name.replace("Function", "Role") for name in FUNCTIONS), *TRIGGER_ROLES)
# These exist only with webhooks.
OPTIONAL_FUNCTIONS = {"DeliverFunction"}
WEBHOOKS = {
    "WebhookAllowedHosts": "hooks.example.com,*.example.org",
    "WebhookAllowedNetworks": "10.20.0.0/16",
    "WebhookCaBundle": CA_BUNDLE_ARN,
    "DefaultWebhookUrl": "https://hooks.example.com/results?token=abc",
}
# The event bus for results.
RESULT_BUS = {"ResultEventBusName": "results", "DefaultDeliverTo": "sns,dynamodb,eventbridge"}
# All triggers except the API.
TRIGGERS = {
    "EventBusName": "orders",
    "ScheduleExpression": "rate(1 hour)",
    "ScheduleRequest": '{"chatbot_id": "report-flow", "input_data": {"of": "today"}}',
}
# All optional parts together.
EVERYTHING = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "KmsKeyArn": KMS_KEY_ARN,
    "PermissionsBoundaryArn": BOUNDARY_ARN,
    "SubnetIds": "subnet-0a1b2c3d,subnet-4e5f6a7b",
    "SecurityGroupIds": "sg-0a1b2c3d",
    "Tracing": "ON",
    "ApiAccessLogs": "true",
    "AlarmEmail": "ops@example.com",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    **TRIGGERS,
    **WEBHOOKS,
    **RESULT_BUS,
}

type Resources = dict[str, dict[str, Any]]

_NOTHING = object()


@cache
def _parsed(path: Path) -> str:
    return json.dumps(yaml_parse(path.read_text(encoding="utf-8")))


def source(path: Path = PATH) -> dict[str, Any]:
    """Return a template as written, with short tags such as !Ref in their long form."""
    document: dict[str, Any] = json.loads(_parsed(path))
    return document


def definition() -> dict[str, Any]:
    """Return the state machine's definition as written."""
    document: dict[str, Any] = yaml.safe_load(definition_file().read_text(encoding="utf-8"))
    return document


def definition_file() -> Path:
    """Return the path of the state machine's definition."""
    file: Path = ROOT / source()["Resources"]["StateMachine"]["Properties"]["DefinitionS3Location"]
    return file


def deployed(**parameters: str) -> Resources:
    """Return the resources that CloudFormation would create, after SAM's transform and with evaluated conditions.

    References to parameters are replaced by their values. References to resources are unchanged.
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
        # `sam deploy` replaces these paths by addresses in S3.
        for pointer in ("CodeUri", "ContentUri"):
            if pointer in resource.get("Properties", {}):
                resource["Properties"][pointer] = f"s3://artifacts/{name}"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="us-east-1"))
    # The translator returns its own string types. JSON makes them plain strings.
    translated = json.loads(
        json.dumps(translator.translate(copy.deepcopy(template), dict(values))["Resources"])
    )
    rules = template["Conditions"]
    conditions = {name: decided(rule, rules, values) for name, rule in rules.items()}
    resources = {
        name: entry for name, entry in translated.items() if conditions.get(entry.get("Condition", ""), True)
    }
    result: Resources = _resolved(_looked_up(resources, template["Mappings"], values), values, conditions)
    return result


def _looked_up(node: Any, mappings: dict[str, Any], values: dict[str, Any]) -> Any:
    """Return the node with each Fn::FindInMap replaced by its value."""
    if isinstance(node, list):
        return [_looked_up(item, mappings, values) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Fn::FindInMap"}:
        name, key, field = node["Fn::FindInMap"]
        return mappings[name][str(values[key["Ref"]])][field]
    return {name: _looked_up(value, mappings, values) for name, value in node.items()}


def decided(rule: Any, rules: dict[str, Any], values: dict[str, Any]) -> bool:
    """Return the value of a condition. Supports only the functions that the template uses."""
    ((function, arguments),) = rule.items()
    match function:
        case "Condition":
            return decided(rules[arguments], rules, values)
        case "Fn::Or":
            return any(decided(argument, rules, values) for argument in arguments)
        case "Fn::And":
            return all(decided(argument, rules, values) for argument in arguments)
        case "Fn::Not":
            return not decided(arguments[0], rules, values)
        case "Fn::Contains":
            return arguments[1] in values[arguments[0]["Ref"]].split(",")
    assert function == "Fn::Equals", function
    left, right = (values[side["Ref"]] if isinstance(side, dict) else side for side in arguments)
    return bool(left == right)


def _resolved(node: Any, values: dict[str, Any], conditions: dict[str, bool]) -> Any:
    """Return the node with parameters and conditions replaced by their values."""
    if isinstance(node, list):
        items = (_resolved(item, values, conditions) for item in node)
        return [item for item in items if item is not _NOTHING]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        name, then, otherwise = node["Fn::If"]
        return _resolved(then if conditions[name] else otherwise, values, conditions)
    pairs = ((name, _resolved(value, values, conditions)) for name, value in node.items())
    return _evaluated({name: value for name, value in pairs if value is not _NOTHING}, values)


def _evaluated(node: dict[str, Any], values: dict[str, Any]) -> Any:
    """Return the value of a Ref, Fn::Split or Fn::Sub. Return any other node unchanged."""
    match node:
        case {"Ref": "AWS::NoValue"}:
            return _NOTHING
        case {"Ref": name}:
            return values.get(name, node)
        case {"Fn::Split": [separator, str(text)]}:
            return text.split(separator)
        # Of the references, only a list of a parameter is joined here. Of the literals, SAM's are not.
        case {"Fn::Join": [",", str(text)]}:
            return text
        case {"Fn::Sub": str(text)}:
            return _filled(text, {k: v for k, v in values.items() if isinstance(v, str)})
    return node


def _filled(text: str, values: dict[str, str]) -> Any:
    """Return a Fn::Sub with the known values, or plain text if it has no other placeholder."""
    filled = re.sub(r"\$\{([^!}]+)\}", lambda match: values.get(match[1], match[0]), text)
    return {"Fn::Sub": filled} if "${" in filled else filled


def named(reference: Any) -> str:
    """Return a reference as one word: `Table`, `Table.Arn`, or the text of a Fn::Sub."""
    if isinstance(reference, str):
        return reference
    ((_, value),) = reference.items()
    return ".".join(value) if isinstance(value, list) else str(value)


def of_type(resources: Resources, kind: str) -> Resources:
    """Return the resources of one type."""
    return {name: entry for name, entry in resources.items() if entry["Type"] == kind}


def one(kind: str) -> dict[str, Any]:
    """Return the properties of the only resource of a type, with all optional parts."""
    (resource,) = of_type(deployed(**EVERYTHING), kind).values()
    properties: dict[str, Any] = resource["Properties"]
    return properties


def statements(role: str, **parameters: str) -> list[dict[str, Any]]:
    """Return all statements of a role's policies, with actions and resources as lists."""
    resources = deployed(**parameters)
    properties = resources[role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    # A managed policy of AWS would be an ARN instead of a reference, and would fail here.
    documents += [
        resources[policy["Ref"]]["Properties"]["PolicyDocument"]
        for policy in properties.get("ManagedPolicyArns", [])
    ]
    return [
        statement | {key: as_list(statement[key]) for key in ("Action", "Resource")}
        for document in documents
        for statement in document["Statement"]
    ]


def as_list(value: Any) -> list[Any]:
    """Return the value as a list. IAM accepts a single value instead of a list."""
    return value if isinstance(value, list) else [value]
