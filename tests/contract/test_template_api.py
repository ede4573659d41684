"""The REST API after SAM's transform, for both values of AuthMode."""

import json
import re
from typing import Any

import pytest
import samtranslator.model.apigateway  # type: ignore[import-untyped]

from tests.contract import template
from tests.contract.template import deployed, of_type
from waterhook.api.routes import ROUTES

METHODS = {"delete", "get", "head", "options", "patch", "post", "put"}


def body(mode: str) -> dict[str, Any]:
    document: dict[str, Any] = deployed(AuthMode=mode)["Api"]["Properties"]["Body"]
    return document


def operations(mode: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each operation by its method and path."""
    return {
        (method, path): operation
        for path, item in body(mode)["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def schemes_of(operation: dict[str, Any], mode: str) -> list[dict[str, str]]:
    """Return the security schemes of an operation."""
    accepted = []
    for requirement in operation["security"]:
        ((name, _),) = requirement.items()
        accepted.append(body(mode)["components"]["securitySchemes"][name])
    return accepted


def test_each_operation_needs_a_signature_with_iam() -> None:
    for operation in operations("IAM").values():
        (scheme,) = schemes_of(operation, "IAM")
        assert scheme["x-amazon-apigateway-authtype"] == "awsSigv4"
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")


def test_each_operation_needs_an_api_key_with_api_key() -> None:
    for operation in operations("API_KEY").values():
        (scheme,) = schemes_of(operation, "API_KEY")
        assert scheme == {"type": "apiKey", "in": "header", "name": "x-api-key"}


def test_iam_is_the_default() -> None:
    assert body("IAM") == deployed()["Api"]["Properties"]["Body"]


def test_api_keys_and_their_usage_plan_exist_only_with_api_key() -> None:
    kinds = ("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlan", "AWS::ApiGateway::UsagePlanKey")
    for kind in kinds:
        assert not of_type(deployed(AuthMode="IAM"), kind)
        assert len(of_type(deployed(AuthMode="API_KEY"), kind)) == 1


def test_the_usage_plan_throttles_each_key_of_the_stage() -> None:
    resources = deployed(AuthMode="API_KEY")
    (stage,) = of_type(resources, "AWS::ApiGateway::Stage")
    (plan,) = of_type(resources, "AWS::ApiGateway::UsagePlan").values()
    assert plan["Properties"]["ApiStages"] == [{"ApiId": {"Ref": "Api"}, "Stage": {"Ref": stage}}]
    assert plan["Properties"]["Throttle"]["RateLimit"] > 0


def test_the_only_stage_is_live_regional_and_throttled() -> None:
    resources = deployed()
    (stage,) = of_type(resources, "AWS::ApiGateway::Stage").values()
    assert stage["Properties"]["StageName"] == "live"
    (settings,) = stage["Properties"]["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"]) == ("/*", "*")
    assert settings["ThrottlingRateLimit"] > 0
    # The data trace would log the requests of callers.
    assert not settings.get("DataTraceEnabled")
    assert resources["Api"]["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}


def test_the_access_log_is_optional_and_has_no_data_of_the_caller() -> None:
    (stage,) = of_type(deployed(), "AWS::ApiGateway::Stage").values()
    assert "AccessLogSetting" not in stage["Properties"]
    assert "ApiAccessLog" not in deployed()
    resources = deployed(ApiAccessLogs="true")
    (stage,) = of_type(resources, "AWS::ApiGateway::Stage").values()
    setting = stage["Properties"]["AccessLogSetting"]
    assert setting["DestinationArn"]["Fn::Sub"].endswith(":log-group:${ApiAccessLog}")
    assert resources["ApiAccessLog"]["Type"] == "AWS::Logs::LogGroup"
    # One line of JSON with only strings: API Gateway writes "-" for an empty variable.
    line = json.loads(setting["Format"])
    assert line["request_id"] == "$context.requestId"
    assert not {value for value in line.values() if re.search(r"path\b|overrideStatus|authorizer", value)}
    assert all(re.fullmatch(r"\$context\.\w+(\.\w+)?", value) for value in line.values())


def test_the_fields_of_the_access_log_are_documented() -> None:
    (stage,) = of_type(deployed(ApiAccessLogs="true"), "AWS::ApiGateway::Stage").values()
    document = (template.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = document.partition("\n## Access log of the API\n")[2].partition("\n##")[0]
    assert json.loads(stage["Properties"]["AccessLogSetting"]["Format"]).keys() <= {
        *re.findall(r"`(\w+)`", section)
    }


def test_each_deployment_has_a_new_deployment_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a change of AuthMode would not reach the stage."""
    deployments: list[str] = []
    for moment in (1_800_000_000, 1_800_000_060):
        monkeypatch.setattr(samtranslator.model.apigateway.time, "time", lambda moment=moment: moment)
        template._deployed.cache_clear()  # noqa: SLF001  # only here the result depends on the time of the transform
        deployments += of_type(deployed(), "AWS::ApiGateway::Deployment")
    template._deployed.cache_clear()  # noqa: SLF001
    assert len(set(deployments)) == 2


def test_sibling_paths_have_the_same_variable() -> None:
    """API Gateway refuses different names. The local AWS accepts them."""
    variables: dict[str, set[str]] = {}
    for path in body("IAM")["paths"]:
        segments = path.split("/")
        for index, segment in enumerate(segments):
            if segment.startswith("{"):
                variables.setdefault("/".join(segments[:index]), set()).add(segment)
    assert variables
    assert all(len(names) == 1 for names in variables.values())


def test_the_api_has_the_routes_of_the_function() -> None:
    served = {(method.lower(), path) for method, path in ROUTES}
    assert operations("IAM").keys() == served


def test_each_operation_invokes_the_api_function() -> None:
    for operation in operations("IAM").values():
        integration = operation["x-amazon-apigateway-integration"]
        assert integration["type"] == "aws_proxy"
        # API Gateway invokes Lambda by POST for each method of the caller.
        assert integration["httpMethod"] == "POST"
        assert integration["uri"]["Fn::Sub"].endswith("/functions/${ApiFunction.Arn}/invocations")


def test_errors_of_api_gateway_have_a_detail() -> None:
    responses = body("IAM")["x-amazon-apigateway-gateway-responses"]
    assert responses.keys() == {"DEFAULT_4XX", "DEFAULT_5XX"}
    for response in responses.values():
        template_text = response["responseTemplates"]["application/json"]
        assert template_text == '{"detail": $context.error.messageString}'
