"""JSON Schemas of the request, the notification and the webhook, generated from openapi.yaml by `make schemas`.

The components of an OpenAPI 3.1 document are JSON Schemas of draft 2020-12. Each file contains the components that it
needs, without OpenAPI's own keywords and with each `allOf` merged, so that any validator and code generator can use it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local.local_aws.environment import ROOT

type Schema = dict[str, Any]

DOCUMENT = ROOT / "openapi.yaml"
FOLDER = ROOT / "schemas"
_COMPONENTS = "#/components/schemas/"
# Their values are no schemas.
_PLAIN = {"const", "enum", "examples", "required"}
_LINK = "final_output_url"
_MAX_LINE = 100


def read_document(path: Path = DOCUMENT) -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def schemas(document: Mapping[str, Any]) -> dict[str, Schema]:
    """Return the JSON Schemas by file name."""
    components, version = document["components"]["schemas"], document["info"]["version"]
    contents = {
        "request": _request(components),
        "notification": _notification(components),
        "webhook": _webhook(components),
    }
    return {
        f"{name}.schema.json": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:waterhook:{name}:{version}",
            "$comment": "Written by `make schemas` from openapi.yaml. Edit that file.",
            **schema,
        }
        for name, schema in contents.items()
    }


def to_text(schema: Schema) -> str:
    """Return the content of a file. What fits on a line is on one."""
    return _indented(schema, "") + "\n"


def _indented(value: Any, indent: str) -> str:
    line = json.dumps(value)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= _MAX_LINE:
        return line
    inner = f"{indent}  "
    if isinstance(value, list):
        lines = [f"{inner}{_indented(entry, inner)}" for entry in value]
        return "\n".join(["[", ",\n".join(lines), f"{indent}]"])
    lines = [f"{inner}{json.dumps(name)}: {_indented(entry, inner)}" for name, entry in value.items()]
    return "\n".join(["{", ",\n".join(lines), f"{indent}}}"])


def _request(components: Mapping[str, Schema]) -> Schema:
    """The request of all triggers. In the API, the path contains `chatbot_id`."""
    body = components["Request"]
    request = body | {
        "required": ["chatbot_id", *body["required"]],
        "properties": {"chatbot_id": {"$ref": f"{_COMPONENTS}ChatbotId"}, **body["properties"]},
        # Step Functions adds such a field to the input of a nested execution. It is ignored.
        "patternProperties": {"^AWS_": True},
        # The API has the chatbot in its path.
        "examples": [{"chatbot_id": "support-chat", **example} for example in body["examples"]],
    }
    return {"title": "Request", **_bundle(components, request)}


def _notification(components: Mapping[str, Schema]) -> Schema:
    """The events that are published. They always have `final_output`, and never the link of a webhook."""
    events = [event for event in components["Event"]["oneOf"] if not event["$ref"].endswith("/TestEvent")]
    schema = _bundle(components, {"oneOf": events})
    for data in _outcome_data(schema):
        data["properties"].pop(_LINK, None)
        data["required"].append("final_output")
    schema["$defs"]["CompletedEvent"] |= _output_rule({}, {})
    description = (
        "What the SNS topic and the event bus receive: the outcome of an execution, or progress. A later version may "
        "add fields and types. Ignore an event whose type you do not use before you validate it."
    )
    return {"title": "Notification", "description": description, **schema}


def _webhook(components: Mapping[str, Schema]) -> Schema:
    """The bodies of webhooks: with the payload `full` or `thin`."""
    schema = _bundle(components, {"oneOf": components["Event"]["oneOf"]})
    for data in _outcome_data(schema):
        data["oneOf"] = [
            {"title": "Payload full", "required": ["final_output"], "properties": {"final_output": True}},
            {"title": "Payload thin", "properties": {"final_output": False, _LINK: False}},
        ]
    # With the payload `full`, an output in S3 has a link. No other event has one.
    schema["$defs"]["CompletedEvent"] |= _output_rule({_LINK: True}, {_LINK: False})
    schema["$defs"]["CompletedEvent"]["then"]["properties"]["data"]["dependentRequired"] = {
        "final_output": [_LINK]
    }
    description = (
        "Body of a webhook: the outcome of an execution with the payload `full` or `thin`, progress, or a test. A "
        "later version may add fields and types. Ignore an event whose type you do not use before you validate it."
    )
    return {"title": "Webhook", "description": description, **schema}


def _output_rule(with_dataref: Schema, without_dataref: Schema) -> Schema:
    """The output of a completed job is in `data`, or it is in S3, or there is an `output_error`.

    The arguments are further properties of `data`. Generators of clients don't support such a rule, so it is not in
    openapi.yaml.
    """
    null: Schema = {"type": "null"}
    in_s3 = {"type": "object", "properties": {"final_output": null, "output_error": False, **with_dataref}}
    not_in_s3 = {
        "type": "object",
        "properties": without_dataref,
        "if": {"required": ["output_error"], "properties": {"output_error": True}},
        "then": {"properties": {"final_output": null}},
        "else": {"properties": {"final_output": {"not": null}}},
    }
    return {
        "if": {"required": ["dataref"], "properties": {"dataref": True}},
        "then": {"properties": {"data": in_s3}},
        "else": {"properties": {"data": not_in_s3}},
    }


def _outcome_data(schema: Schema) -> list[Schema]:
    """Return the definitions of `data` that belong to an outcome."""
    return [entry for entry in schema["$defs"].values() if "final_output" in entry.get("properties", {})]


def _bundle(components: Mapping[str, Schema], root: Schema) -> Schema:
    """Return a schema with all that it refers to in its `$defs`."""
    definitions: dict[str, Schema] = {}

    def bundled(node: Any) -> Any:
        if isinstance(node, list):
            return [bundled(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        copy = {
            name: value if name in _PLAIN else bundled(value)
            for name, value in _merged(components, node).items()
            if name != "discriminator"
        }
        if "$ref" in copy:
            name = copy["$ref"].removeprefix(_COMPONENTS)
            copy["$ref"] = f"#/$defs/{name}"
            if name not in definitions:
                # Reserves its place, so that a definition comes before those that it uses.
                definitions[name] = {}
                definitions[name] = {"title": name, **bundled(components[name])}
        return copy

    return {**bundled(root), "$defs": definitions}


def _merged(components: Mapping[str, Schema], schema: Schema) -> Schema:
    """Return a schema with the parts of its `allOf` merged into it."""
    merged: Schema = {}
    for part in schema.get("allOf", ()):
        name = part.get("$ref", "").removeprefix(_COMPONENTS)
        whole = _merged(components, components[name]) if name else part
        merged |= whole | {
            "required": [*merged.get("required", ()), *whole.get("required", ())],
            "properties": merged.get("properties", {}) | whole.get("properties", {}),
        }
    return merged | {name: value for name, value in schema.items() if name != "allOf"}


def main() -> int:
    """Write the files and return the exit code."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas(read_document()).items():
        (FOLDER / name).write_text(to_text(schema), encoding="utf-8")
        sys.stdout.write(f"{FOLDER.name}/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
