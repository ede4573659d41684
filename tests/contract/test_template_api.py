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
    """Every operation by method and path."""
    return {
        (method, path): operation
        for path, item in body(mode)["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def schemes_of(operation: dict[str, Any], mode: str) -> list[dict[str, str]]:
    """Return the security schemes that an operation accepts, each alone."""
    accepted = []
    for requirement in operation["security"]:
        ((name, _),) = requirement.items()
        accepted.append(body(mode)["components"]["securitySchemes"][name])
    return accepted


def test_with_iam_every_operation_asks_for_a_signature() -> None:
    for operation in operations("IAM").values():
        (scheme,) = schemes_of(operation, "IAM")
        assert scheme["x-amazon-apigateway-authtype"] == "awsSigv4"
        assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")


def test_with_api_keys_every_operation_asks_for_one() -> None:
    for operation in operations("API_KEY").values():
        (scheme,) = schemes_of(operation, "API_KEY")
        assert scheme == {"type": "apiKey", "in": "header", "name": "x-api-key"}


def test_without_a_word_about_it_callers_sign() -> None:
    assert body("IAM") == deployed()["Api"]["Properties"]["Body"]


def test_keys_and_their_plan_exist_only_where_they_are_asked_for() -> None:
    kinds = ("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlan", "AWS::ApiGateway::UsagePlanKey")
    for kind in kinds:
        assert not of_type(deployed(AuthMode="IAM"), kind)
        assert len(of_type(deployed(AuthMode="API_KEY"), kind)) == 1


def test_the_plan_holds_for_the_stage_and_slows_a_key_down() -> None:
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
    # What the caller sends would be in API Gateway's log.
    assert not settings.get("DataTraceEnabled")
    assert resources["Api"]["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}


def test_the_access_log_is_an_option_and_holds_nothing_that_a_caller_sends() -> None:
    (stage,) = of_type(deployed(), "AWS::ApiGateway::Stage").values()
    assert "AccessLogSetting" not in stage["Properties"]
    assert "ApiAccessLog" not in deployed()
    resources = deployed(ApiAccessLogs="true")
    (stage,) = of_type(resources, "AWS::ApiGateway::Stage").values()
    setting = stage["Properties"]["AccessLogSetting"]
    assert setting["DestinationArn"]["Fn::Sub"].endswith(":log-group:${ApiAccessLog}")
    assert resources["ApiAccessLog"]["Type"] == "AWS::Logs::LogGroup"
    # One line of JSON, every value a text: API Gateway writes "-" for what does not apply.
    line = json.loads(setting["Format"])
    assert line["request_id"] == "$context.requestId"
    assert not {value for value in line.values() if re.search(r"path\b|overrideStatus|authorizer", value)}
    assert all(re.fullmatch(r"\$context\.\w+(\.\w+)?", value) for value in line.values())


def test_the_documented_fields_of_the_access_log_are_the_ones_that_it_has() -> None:
    (stage,) = of_type(deployed(ApiAccessLogs="true"), "AWS::ApiGateway::Stage").values()
    document = (template.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = document.partition("\n## Access log of the API\n")[2].partition("\n##")[0]
    assert json.loads(stage["Properties"]["AccessLogSetting"]["Format"]).keys() <= {
        *re.findall(r"`(\w+)`", section)
    }


def test_a_change_of_auth_mode_reaches_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body whose text is the same would stay undeployed, and the stage as open as it was."""
    deployments: list[str] = []
    for moment in (1_800_000_000, 1_800_000_060):
        monkeypatch.setattr(samtranslator.model.apigateway.time, "time", lambda moment=moment: moment)
        template._deployed.cache_clear()  # noqa: SLF001  # the one test for which the time of the transform counts
        deployments += of_type(deployed(), "AWS::ApiGateway::Deployment")
    template._deployed.cache_clear()  # noqa: SLF001
    assert len(set(deployments)) == 2


def test_siblings_call_their_variable_the_same() -> None:
    """API Gateway refuses an API in which they don't; the local AWS takes it."""
    variables: dict[str, set[str]] = {}
    for path in body("IAM")["paths"]:
        segments = path.split("/")
        for index, segment in enumerate(segments):
            if segment.startswith("{"):
                variables.setdefault("/".join(segments[:index]), set()).add(segment)
    assert variables
    assert all(len(names) == 1 for names in variables.values())


def test_the_api_has_the_routes_that_the_function_serves_and_no_other() -> None:
    served = {(method.lower(), path) for method, path in ROUTES}
    assert operations("IAM").keys() == served


def test_every_operation_is_answered_by_the_api_function() -> None:
    for operation in operations("IAM").values():
        integration = operation["x-amazon-apigateway-integration"]
        assert integration["type"] == "aws_proxy"
        # Lambda is invoked by POST whatever the caller's method.
        assert integration["httpMethod"] == "POST"
        assert integration["uri"]["Fn::Sub"].endswith("/functions/${ApiFunction.Arn}/invocations")


def test_what_api_gateway_refuses_by_itself_has_our_shape_of_error() -> None:
    responses = body("IAM")["x-amazon-apigateway-gateway-responses"]
    assert responses.keys() == {"DEFAULT_4XX", "DEFAULT_5XX"}
    for response in responses.values():
        template_text = response["responseTemplates"]["application/json"]
        assert template_text == '{"detail": $context.error.messageString}'
