"""openapi.yaml matches the deployed API, and describes each field."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.contract.template import ROOT, deployed
from tests.fakes.clock import NOW
from tests.support.builders import DEFAULTS, request_dict
from tests.support.schemas import without_unknown_fields
from waterhook.api.callers import Caller
from waterhook.api.list_query import ListQuery
from waterhook.api.routes import ROUTES
from waterhook.domain.request import Request
from waterhook.errors import InvalidRequestError
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests

API: dict[str, Any] = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = API["components"]["schemas"]
BASES = {part.get("$ref") for schema in SCHEMAS.values() for part in schema.get("allOf", ())}
# For schemas that refer to components: without room for unknown fields, so that an example can't be out of date.
STRICT = {
    "components": {
        "schemas": {
            name: schema if f"#/components/schemas/{name}" in BASES else without_unknown_fields(schema)
            for name, schema in SCHEMAS.items()
        }
    }
}
METHODS = {"get", "post", "delete"}
TEXTS = [
    *("a", "support-chat", "a/b", "a%2Fb", "a?b#c", "größe", "🙂", "語", "...", "..a", "x" * 200, "🙂" * 200),
    *("", ".", "..", " ", "a b", "x" * 201, "\x00", "a\nb", "a\x7fb", "a\x85b", "\u00a0", "\u2028", "\u3000"),
    *(
        "\u200b",
        "\u00ad",
        "\ufeff",
        "\ue000",
        "\ufdd0",
        "\ufffd",
        "\uffff",
        "a\tb",
        '"',
        "\\",
        "é",
        "e\u0301",
    ),
]


def accepted(field: str, value: object) -> bool:
    try:
        Request.from_dict(request_dict(**{field: value}), DEFAULTS)
    except InvalidRequestError:
        return False
    return True


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize(
    ("field", "schema"), [("chatbot_id", "ChatbotId"), ("idempotency_key", "IdempotencyKey")]
)
def test_a_pattern_allows_exactly_what_the_function_accepts(field: str, schema: str, text: str) -> None:
    assert jsonschema_rs.is_valid(SCHEMAS[schema], text) is accepted(field, text)


def test_the_paths_are_the_routes_of_the_function() -> None:
    described = {
        (method.upper(), path.replace("{chatbot_id}", "{id}").replace("{execution_id}", "{id}"))
        for path, item in API["paths"].items()
        for method in METHODS & item.keys()
    }
    assert described == ROUTES.keys()


def test_the_security_schemes_are_those_of_the_deployed_api() -> None:
    schemes = API["components"]["securitySchemes"]
    for mode, name in (("IAM", "sigv4"), ("API_KEY", "api_key")):
        scheme = deployed(AuthMode=mode)["Api"]["Properties"]["Body"]["components"]["securitySchemes"][name]
        assert {key: value for key, value in schemes[name].items() if key != "description"} == scheme
    assert API["security"] == [{"sigv4": []}, {"api_key": []}]


def test_each_server_variable_has_a_default_and_a_description() -> None:
    for server in API["servers"]:
        assert server["description"]
        for name, variable in server["variables"].items():
            assert f"{{{name}}}" in server["url"]
            assert variable.keys() == {"default", "description"}


def resolved(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry merged into the component that it refers to."""
    component = API
    for name in entry.get("$ref", "#").split("/")[1:]:
        component = component[name]
    return {**component, **entry} if "$ref" in entry else entry


def test_the_headers_of_a_webhook_are_described() -> None:
    operation = API["webhooks"]["event"]["post"]
    described = {entry["name"] for entry in operation["parameters"]}
    request = UnsignedRequest("any", b"{}")
    headers = WebhookRequests(Keys(), lambda _ref: "", "/waterhook/tests", lambda: NOW).headers(
        request, "a.example"
    )
    assert described == {name for name in headers if name.startswith("webhook-")}
    assert headers["Content-Type"].partition(";")[0] in operation["requestBody"]["content"]


class Keys:
    """The key of any host."""

    def keys_for(self, host: str) -> list[bytes]:
        return [host.encode()]


def parts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operation, parameter, response and field with its place."""
    for path, item in [*API["paths"].items(), *API["webhooks"].items()]:
        operations = [item[method] for method in METHODS & item.keys()]
        yield from ((f"{path} {one['operationId']}", one) for one in operations)
        for one in [*operations, item]:
            yield from ((f"{path} {entry['name']}", entry) for entry in one.get("parameters", []))
            for code, response in one.get("responses", {}).items():
                yield f"{path} {code}", response
                yield from ((f"{path} {name}", entry) for name, entry in response.get("headers", {}).items())
    for name, schema in SCHEMAS.items():
        yield name, schema
        yield from fields(name, schema)


def fields(place: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in schema.get("allOf", ()):
        yield from fields(place, part)
    for name, entry in schema.get("properties", {}).items():
        yield f"{place}.{name}", entry
        yield from fields(f"{place}.{name}", entry.get("items", entry))


def test_each_operation_parameter_response_schema_and_field_has_a_description() -> None:
    found = list(parts())
    assert len(found) > 200
    assert [place for place, entry in found if not resolved(entry).get("description")] == []


def has_example(entry: dict[str, Any]) -> bool:
    """Whether an entry has an example, or allows so few values that it needs none."""
    schema = resolved(entry)
    if "schema" in schema and not {"example", "examples"} & schema.keys():
        return has_example(schema["schema"])
    if {"example", "examples", "enum", "const", "default"} & schema.keys():
        return True
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    needs_none = schema.get("type") in ("boolean", "null", ["boolean", "null"])
    return needs_none or any(map(has_example, alternatives))


def media_types() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the content of each request and response."""
    for path, item in [*API["paths"].items(), *API["webhooks"].items()]:
        for method in METHODS & item.keys():
            bodies = {"request": item[method].get("requestBody", {}), **item[method]["responses"]}
            for name, body in bodies.items():
                for content in resolved(body).get("content", {}).values():
                    yield f"{method} {path} {name}", content


def test_each_parameter_header_request_and_response_has_an_example() -> None:
    found = [*media_types(), *((place, entry) for place, entry in parts() if "schema" in entry)]
    assert len(found) > 30
    assert [place for place, entry in found if not has_example(entry)] == []


def test_each_field_has_an_example_or_occurs_in_that_of_its_schema() -> None:
    missing = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, entry in fields("", schema)
        if not has_example(entry) and not any(field[1:] in example for example in schema.get("examples", ()))
        # An object of its own schema, whose fields have examples.
        if not resolved(entry).keys() & {"properties", "allOf"}
    ]
    assert missing == []


def test_the_api_accepts_the_examples_of_the_parameters_of_a_list() -> None:
    parameters = API["paths"]["/v1/executions"]["get"]["parameters"]
    examples = {one["name"]: str(one["example"]) for one in parameters if "example" in one}
    assert {"next", "accepted_after", "accepted_before", "caller"} <= examples.keys()
    assert ListQuery.read(examples, Caller("key/1")).position is not None


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "examples" in schema])
def test_each_example_of_a_schema_is_valid_and_shows_every_field(name: str) -> None:
    for example in SCHEMAS[name]["examples"]:
        jsonschema_rs.validate(
            {"$ref": f"#/components/schemas/{name}", **STRICT}, example, validate_formats=True
        )
    if properties := SCHEMAS[name].get("properties"):
        assert properties.keys() == {field for example in SCHEMAS[name]["examples"] for field in example}


def test_each_example_of_a_field_is_valid() -> None:
    found = [(place, entry) for place, entry in parts() if "examples" in entry and "schema" not in entry]
    assert len(found) > 20
    for _, entry in found:
        for example in entry["examples"]:
            jsonschema_rs.validate({**entry, **STRICT}, example, validate_formats=True)


def test_each_example_of_a_request_or_response_is_valid() -> None:
    found = [content for _, content in media_types() if "example" in content]
    assert len(found) > 10
    for content in found:
        jsonschema_rs.validate({**content["schema"], **STRICT}, content["example"], validate_formats=True)
