"""The template's parameters, and the bounds that template and settings share."""

import ast
import re
from typing import Any

import pytest

from tests.contract import template
from tests.contract.template import FUNCTIONS, OPTIONAL_FUNCTIONS, ROOT, WEBHOOKS, deployed
from tests.support.builders import API_ENVIRONMENT
from waterhook.api.api_settings import ApiSettings, CallerIdentity
from waterhook.errors import SettingsError
from waterhook.settings import Settings

PACKAGE = ROOT / "layers" / "waterhook" / "waterhook"
SETTINGS = (
    PACKAGE / "settings.py",
    PACKAGE / "domain" / "webhook_settings.py",
    PACKAGE / "api" / "api_settings.py",
)
# Read by Powertools.
POWERTOOLS_VARIABLES = {"POWERTOOLS_LOG_LEVEL"}
# Only for the functions that the state machine does not invoke: they start or list its executions.
MACHINE_VARIABLES = {"WATERHOOK_STATE_MACHINE_ARN"}
FUNCTIONS_WITH_MACHINE = {"ApiFunction", "ReconcileFunction"}
# Only for the function that sends webhooks.
DELIVER_VARIABLES = {
    "WATERHOOK_WEBHOOK_DEAD_LETTER_QUEUE_URL",
    "WATERHOOK_WEBHOOK_SECRET_ARN",
    "WATERHOOK_WEBHOOK_CA_BUNDLE_ARN",
    "WATERHOOK_WEBHOOK_CONCURRENCY",
}
# Only for the function of the API.
IAM = "arn:aws:iam::111122223333"
PARAMETERS: dict[str, dict[str, Any]] = template.source()["Parameters"]
# Their bounds are those of CloudWatch and of Lambda. The package has none.
BOUNDED_BY_AWS = {"LateAlarmSeconds", "WebhookConcurrency"}
API_PARAMETERS = {"MaxWaitSeconds", "MaxWaiters"}
BOUNDED = [name for name, entry in PARAMETERS.items() if "MinValue" in entry and name not in BOUNDED_BY_AWS]


def refers_to(node: Any) -> set[str]:
    """Return the names in each Ref and Fn::Sub of a node."""
    if isinstance(node, list):
        return set().union(*map(refers_to, node))
    if not isinstance(node, dict):
        return set()
    names = {node["Ref"]} if "Ref" in node else set()
    if isinstance(node.get("Fn::Sub"), str):
        names |= {name.split(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", node["Fn::Sub"])}
    return names.union(*map(refers_to, node.values()))


def environment(name: str, **parameters: str) -> dict[str, str]:
    """Return a function's environment variables, with the logical id for a reference to a resource."""
    variables = deployed(**parameters)[name]["Properties"]["Environment"]["Variables"]
    return {
        key: value if isinstance(value, str) else next(iter(value.values()))
        for key, value in variables.items()
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_is_described_constrained_and_used(name: str) -> None:
    parameter = PARAMETERS[name]
    assert len(parameter["Description"]) > 20
    bounded = "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= parameter.keys()
    assert bounded or "AllowedPattern" in parameter
    if "AllowedValues" not in parameter:
        assert parameter["ConstraintDescription"]
    document = template.source()
    assert name in refers_to([document[section] for section in ("Conditions", "Globals", "Resources")])


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_description_of_a_parameter_has_its_default(name: str) -> None:
    default = str(PARAMETERS[name].get("Default", "none")) or "empty"
    phrase = f"Default {default}" if default != "none" else "No default"
    assert phrase in PARAMETERS[name]["Description"]


def test_the_four_most_important_parameters_come_first() -> None:
    first = ["WaterflaiApiKeySecretArn", "AuthMode", "FollowConcurrency", "AlarmEmail"]
    groups = template.source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert groups[0]["Parameters"] == [*PARAMETERS][:4] == first


def test_each_parameter_is_in_one_group_with_a_label() -> None:
    groups = template.source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert all(group["Label"]["default"] for group in groups)
    # `sam deploy --guided` prompts in the order of the parameters.
    assert [name for group in groups for name in group["Parameters"]] == [*PARAMETERS]


def test_only_the_secret_has_no_default() -> None:
    assert {name for name, entry in PARAMETERS.items() if "Default" not in entry} == {
        "WaterflaiApiKeySecretArn"
    }


@pytest.mark.parametrize(
    "url",
    [
        "https://api.waterflai.ai",
        "https://api.example.com:8443",
        "http://127.0.0.1:8080",
        "http://localhost",
        "http://[::1]:9000",
    ],
)
def test_template_and_settings_accept_an_https_or_loopback_base_url(url: str) -> None:
    assert re.search(PARAMETERS["WaterflaiBaseUrl"]["AllowedPattern"], url)
    assert Settings.from_env(environment("PollFunction", WaterflaiBaseUrl=url)).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.waterflai.ai",
        "http://api.waterflai.ai",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://api.waterflai.ai/",
        "https://api.waterflai.ai/v1",
        "https://api.waterflai.ai?x=1",
        "https://user:pass@api.waterflai.ai",
        "https://api.waterflai.ai#x",
        "https://api.waterflai.ai:port",
        "https://",
        "ftp://api.waterflai.ai",
        "https://api.waterflai.ai https://evil.example",
    ],
)
def test_template_and_settings_refuse_any_other_base_url(url: str) -> None:
    assert not re.search(PARAMETERS["WaterflaiBaseUrl"]["AllowedPattern"], url)
    with pytest.raises(SettingsError, match="WATERFLAI_BASE_URL"):
        Settings.from_env(environment("PollFunction", WaterflaiBaseUrl=url))


@pytest.mark.parametrize(
    ("name", "value", "is_valid"),
    [
        ("WaterflaiApiKeySecretArn", template.SECRET_ARN, True),
        ("WaterflaiApiKeySecretArn", template.SECRET_ARN.replace("aws", "aws-us-gov", 1), True),
        ("WaterflaiApiKeySecretArn", "waterflai", False),
        ("WaterflaiApiKeySecretArn", template.SECRET_ARN.removesuffix("-AbCdEf"), False),
        ("WaterflaiApiKeySecretArn", "", False),
        ("KmsKeyArn", "", True),
        ("KmsKeyArn", template.KMS_KEY_ARN, True),
        ("KmsKeyArn", template.KMS_KEY_ARN.replace("key/", "alias/"), False),
        ("KmsKeyArn", "*", False),
        ("PermissionsBoundaryArn", "", True),
        ("PermissionsBoundaryArn", template.BOUNDARY_ARN, True),
        ("PermissionsBoundaryArn", "arn:aws:iam::aws:policy/PowerUserAccess", True),
        ("PermissionsBoundaryArn", "boundary", False),
        ("SubnetIds", "", True),
        ("SubnetIds", "subnet-0a1b2c3d,subnet-4e5f6a7b", True),
        ("SubnetIds", "subnet-0a1b2c3d, subnet-4e5f6a7b", False),
        ("SubnetIds", "vpc-0a1b2c3d", False),
        ("SecurityGroupIds", "", True),
        ("SecurityGroupIds", "sg-0a1b2c3d", True),
        ("SecurityGroupIds", "default", False),
        ("EventBusName", "", True),
        ("EventBusName", "default", True),
        ("EventBusName", "aws.partner/example.com/orders", True),
        ("EventBusName", "arn:aws:events:us-east-1:123456789012:event-bus/orders", False),
        ("EventBusName", "my orders", False),
        ("ResultEventBusName", "", True),
        ("ResultEventBusName", "default", True),
        ("ResultEventBusName", "arn:aws:events:us-east-1:123456789012:event-bus/results", False),
        ("ScheduleExpression", "", True),
        ("ScheduleExpression", "rate(1 hour)", True),
        ("ScheduleExpression", "cron(0 8 ? * MON-FRI *)", True),
        ("ScheduleExpression", "at(2026-01-01T08:00:00)", True),
        ("ScheduleExpression", "0 8 * * *", False),
        ("ScheduleExpression", "every(hour)", False),
        ("ScheduleTimezone", "America/Argentina/Buenos_Aires", True),
        ("ScheduleTimezone", "", False),
        ("ScheduleRequest", '{"chatbot_id": "a",\n "input_data": {}}', True),
        ("ScheduleRequest", "chatbot", False),
        ("ScheduleRequest", "", False),
        ("AllowedChatbotIds", "", True),
        ("AllowedChatbotIds", "support-chat,report-flow", True),
        ("AllowedChatbotIds", "support-chat, report-flow", False),
        ("AllowedChatbotIds", ",", False),
        ("OperatorPrincipalArns", "", True),
        ("OperatorPrincipalArns", f"{IAM}:role/ops", True),
        ("OperatorPrincipalArns", f"{IAM}:role/team/ops,{IAM}:user/eve", True),
        (
            "OperatorPrincipalArns",
            f"{IAM}:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_A_0f",
            True,
        ),
        ("OperatorPrincipalArns", IAM.replace("aws", "aws-us-gov", 1) + ":role/ops", True),
        ("OperatorPrincipalArns", f"{IAM}:role/ops,", False),
        ("OperatorPrincipalArns", f",{IAM}:role/ops", False),
        ("OperatorPrincipalArns", f"{IAM}:role/ops,,{IAM}:user/eve", False),
        ("OperatorPrincipalArns", f"{IAM}:role/ops, {IAM}:user/eve", False),
        ("OperatorPrincipalArns", f"{IAM}:role/*", False),
        ("OperatorPrincipalArns", f"{IAM}:root", False),
        ("OperatorPrincipalArns", "arn:aws:sts::111122223333:assumed-role/ops/eve", False),
        ("OperatorPrincipalArns", "arn:aws:iam::1:role/ops", False),
        ("OperatorPrincipalArns", "ops", False),
        ("WebhookAllowedHosts", "", True),
        ("WebhookAllowedHosts", "*", True),
        ("WebhookAllowedHosts", "*,hooks.internal", True),
        ("WebhookAllowedHosts", "hooks.example.com,*.example.org,xn--bcher-kva.example", True),
        ("WebhookAllowedHosts", "10.20.0.1,fd00:1::1", True),
        ("WebhookAllowedHosts", "hooks.example.com, *.example.org", False),
        ("WebhookAllowedHosts", "Hooks.example.com", False),
        ("WebhookAllowedHosts", "hooks.example.com,", False),
        ("WebhookAllowedHosts", ",hooks.example.com", False),
        ("WebhookAllowedHosts", "https://hooks.example.com", False),
        ("WebhookAllowedHosts", "hooks.example.com:8443", False),
        ("WebhookAllowedHosts", "hooks.*.com", False),
        ("WebhookAllowedHosts", "**", False),
        ("WebhookAllowedHosts", "*example.com", False),
        ("WebhookAllowedHosts", "bücher.example", False),
        ("WebhookAllowedNetworks", "", True),
        ("WebhookAllowedNetworks", "10.20.0.0/16,fd00:1::/64", True),
        ("WebhookAllowedNetworks", "10.20.0.0", False),
        ("WebhookAllowedNetworks", "10.20.0.0/16, 10.30.0.0/16", False),
        ("WebhookAllowedNetworks", "10.20.0.0/16,", False),
        ("WebhookAllowedNetworks", "internal/16", False),
        ("WebhookCaBundle", "", True),
        ("WebhookCaBundle", template.CA_BUNDLE_ARN, True),
        ("WebhookCaBundle", "authority", False),
        ("WebhookCaBundle", template.CA_BUNDLE_ARN.removesuffix("-GhIjKl"), False),
        ("DefaultWebhookUrl", "", True),
        ("DefaultWebhookUrl", "https://hooks.example.com", True),
        ("DefaultWebhookUrl", "https://Hooks.example.com:8443/a/b?token=a%20b&c=d@e", True),
        ("DefaultWebhookUrl", "https://[fd00:1::1]/a", True),
        ("DefaultWebhookUrl", "https://hooks.example.com?a=~b/c!$&'()*+,;=:@-._", True),
        ("DefaultWebhookUrl", "https://hooks.example.com/a%2", False),
        ("DefaultWebhookUrl", "https://hooks.example.com/<a>", False),
        ("DefaultWebhookUrl", "https://hooks.example.com/a\\b", False),
        ("DefaultWebhookUrl", "https://hooks.example.com/[a]", False),
        ("DefaultWebhookUrl", "http://hooks.example.com", False),
        ("DefaultWebhookUrl", "https://user:pass@hooks.example.com/", False),
        ("DefaultWebhookUrl", "https://hooks.example.com/#part", False),
        ("DefaultWebhookUrl", "https://hooks.example.com/a b", False),
        ("DefaultWebhookUrl", "https://", False),
        ("DefaultWebhookUrl", "hooks.example.com", False),
    ],
)
def test_a_text_parameter_has_a_pattern(name: str, value: str, *, is_valid: bool) -> None:
    assert bool(re.search(PARAMETERS[name]["AllowedPattern"], value)) is is_valid
    if name == "OperatorPrincipalArns" and is_valid:
        assert ApiSettings.from_env(
            environment("ApiFunction", OperatorPrincipalArns=value)
        ).operators == tuple(value.split(",") if value else ())


def test_the_api_accepts_each_kind_of_caller_that_the_template_offers() -> None:
    for value in PARAMETERS["CallerIdentity"]["AllowedValues"]:
        read = ApiSettings.from_env(environment("ApiFunction", CallerIdentity=value))
        assert read.caller_identity == value
    assert ApiSettings.from_env(environment("ApiFunction")).caller_identity is CallerIdentity.ROLE
    assert PARAMETERS["CallerIdentity"]["AllowedValues"] == [*CallerIdentity]


def test_only_the_default_webhook_is_hidden_in_the_console() -> None:
    # It may contain a token. No other parameter contains a secret.
    assert [name for name, entry in PARAMETERS.items() if "NoEcho" in entry] == ["DefaultWebhookUrl"]


def test_the_functions_have_exactly_the_variables_that_settings_reads() -> None:
    read = {
        node.value
        for path in SETTINGS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(WATERFLAI|WATERHOOK)_[A-Z0-9_]+", node.value)
    }
    for name in FUNCTIONS:
        variables = environment(name, **WEBHOOKS).keys()
        no_machine = set() if name in FUNCTIONS_WITH_MACHINE else MACHINE_VARIABLES
        no_deliver = set() if name == "DeliverFunction" else DELIVER_VARIABLES
        no_api = set() if name == "ApiFunction" else API_ENVIRONMENT.keys()
        assert variables - POWERTOOLS_VARIABLES == read - no_machine - no_deliver - no_api
        assert variables >= POWERTOOLS_VARIABLES


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_has_a_queue_or_a_table_of_webhooks_without_webhooks(name: str) -> None:
    on = environment(name, **WEBHOOKS)
    assert on["WATERHOOK_WEBHOOK_QUEUE_URL"] == "WebhookQueue"
    assert on["WATERHOOK_WEBHOOK_TABLE"] == "WebhookDeliveriesTable"
    if name not in OPTIONAL_FUNCTIONS:
        off = environment(name)
        assert off["WATERHOOK_WEBHOOK_QUEUE_URL"] == off["WATERHOOK_WEBHOOK_TABLE"] == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_default_deployment_has_valid_settings(name: str) -> None:
    settings = Settings.from_env(environment(name, **WEBHOOKS if name in OPTIONAL_FUNCTIONS else {}))
    assert settings.retention_days == 30
    assert bool(settings.state_machine_arn) is (name in FUNCTIONS_WITH_MACHINE)


@pytest.mark.parametrize("name", BOUNDED)
def test_template_and_settings_have_the_same_bounds(name: str) -> None:
    least, most = PARAMETERS[name]["MinValue"], PARAMETERS[name]["MaxValue"]
    others = {"ShortestWaitSeconds": "1", "LongestWaitSeconds": "3600"}
    function, settings = (
        ("ApiFunction", ApiSettings) if name in API_PARAMETERS else ("PollFunction", Settings)
    )
    for value in (least, most):
        settings.from_env(environment(function, **others | {name: str(value)}))
    for value in (least - 1, most + 1):
        with pytest.raises(SettingsError):
            settings.from_env(environment(function, **others | {name: str(value)}))


@pytest.mark.parametrize("name", ["StartSemantics", "On503AtStart"])
def test_settings_accept_each_allowed_value_of_the_template(name: str) -> None:
    for value in PARAMETERS[name]["AllowedValues"]:
        Settings.from_env(environment("PollFunction", **{name: value}))
    with pytest.raises(SettingsError):
        Settings.from_env(environment("PollFunction", **{name: "SOMETHING_ELSE"}))


@pytest.mark.parametrize("value", ["sns", "dynamodb", "eventbridge", "SNS", "BOTH", "", " sns", "mail"])
def test_template_and_settings_accept_the_same_targets(value: str) -> None:
    variables = environment("PollFunction", DefaultDeliverTo=value, ResultEventBusName="results")
    # CloudFormation removes the spaces around an item, and compares each item with the pattern.
    if re.search(PARAMETERS["DefaultDeliverTo"]["AllowedPattern"], value.strip()):
        assert Settings.from_env(variables).deliver_to == (value.strip(),)
    else:
        with pytest.raises(SettingsError, match="WATERHOOK_DEFAULT_DELIVER_TO"):
            Settings.from_env(variables)


def test_each_chatbot_is_allowed_without_a_list() -> None:
    assert Settings.from_env(environment("StartFunction")).allowed_chatbots == frozenset()
    variables = environment("StartFunction", AllowedChatbotIds="a,b")
    assert Settings.from_env(variables).allowed_chatbots == {"a", "b"}
