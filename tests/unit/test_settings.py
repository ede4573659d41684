"""Settings of the deployment: all invalid variables are reported in one error, when the function starts."""

import pytest

from tests.fakes.clock import NOW
from tests.support.builders import API_ENVIRONMENT, environment, settings
from waterhook.domain.polling_policy import Limits
from waterhook.domain.request import RequestDefaults
from waterhook.domain.webhook import Webhook
from waterhook.errors import SettingsError
from waterhook.settings import Settings


def message_for(**changes: str | None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environment(**changes))
    return str(caught.value)


def test_the_environment_of_the_template_is_read() -> None:
    read = Settings.from_env(environment())
    assert (read.base_url, read.table, read.bucket, read.source) == (
        "https://api.waterflai.test",
        "executions",
        "results",
        "/waterhook/tests",
    )
    assert (read.default_timeout_s, read.start_deadline_s) == (3600, 900)
    assert (read.shortest_wait_s, read.longest_wait_s, read.retention_days) == (2, 60, 30)
    assert (read.at_least_once, read.uncertain_on_503) == (False, False)


def test_unknown_environment_variables_are_ignored() -> None:
    assert Settings.from_env(environment() | {"PATH": "/bin", "AWS_REGION": "x"}) == settings()


# Only the API function has the ARN of the state machine. An empty list of chatbots allows all of them. Without a bus or
# allowed hosts, these targets are off.
OPTIONAL = {"WATERHOOK_STATE_MACHINE_ARN", "WATERHOOK_ALLOWED_CHATBOTS", "WATERHOOK_RESULT_EVENT_BUS"} | {
    name for name in environment() if "WEBHOOK" in name
}


NAMES = environment().keys() - API_ENVIRONMENT.keys()


def test_every_missing_variable_is_named_in_one_error() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({})
    message = str(caught.value)
    for name in NAMES:
        assert (name in message) is (name not in OPTIONAL)


@pytest.mark.parametrize("name", sorted(NAMES - OPTIONAL))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_variable_is_the_only_one_named(name: str, value: str | None) -> None:
    message = message_for(**{name: value})
    assert message.startswith(f"{name}: ")
    assert ";" not in message


def test_the_arn_of_the_state_machine_is_optional() -> None:
    assert Settings.from_env(environment(WATERHOOK_STATE_MACHINE_ARN=None)).state_machine_arn == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://api.waterflai.ai",
        "https://api.waterflai.ai:8443",
        "http://127.0.0.1:8000",
        "http://localhost:8000",
        "http://[::1]:8000",
    ],
)
def test_the_base_url_may_be_https_or_http_on_a_loopback_address(url: str) -> None:
    assert Settings.from_env(environment(WATERFLAI_BASE_URL=url)).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.waterflai.ai",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "http://127.0.0.1@evil.test",
        "https://user:secret@api.waterflai.ai",
        "https://api.waterflai.ai/",
        "https://api.waterflai.ai?x=1",
        "https://api.waterflai.ai#",
        "https://",
        "https://api.waterflai.ai\n",
        "https://api waterflai.ai",
        "HTTPS://api.waterflai.ai",
        "ftp://api.waterflai.ai",
        "api.waterflai.ai",
        "https://api.waterflai.ai:123456",
    ],
)
def test_another_base_url_is_refused(url: str) -> None:
    assert message_for(WATERFLAI_BASE_URL=url).startswith("WATERFLAI_BASE_URL: expected https:")


INVALID_NUMBERS = [
    "-1",
    "1.0",
    " 5",
    "5\n",
    "\u0665",
    "\u00b2",
    "five",
    "1_0",
    "9" * 4000,
]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("WATERHOOK_DEFAULT_TIMEOUT_S", 1, 2_592_000),
        ("WATERHOOK_START_DEADLINE_S", 1, 86_400),
        ("WATERHOOK_SHORTEST_WAIT_S", 1, 60),
        ("WATERHOOK_LONGEST_WAIT_S", 2, 3600),
        ("WATERHOOK_RETENTION_DAYS", 1, 3650),
        ("WATERHOOK_FOLLOW_CONCURRENCY", 0, 10_000),
        ("WATERHOOK_FOLLOW_S", 30, 840),
    ],
)
def test_a_number_outside_of_its_limits_or_with_another_format_is_refused(
    name: str, least: int, most: int
) -> None:
    for value in (least, most):
        Settings.from_env(environment(**{name: str(value)}))
    for wrong in (str(least - 1), str(most + 1), *INVALID_NUMBERS):
        assert name in message_for(**{name: wrong})


def test_the_shortest_wait_may_equal_the_longest_but_not_exceed_it() -> None:
    Settings.from_env(environment(WATERHOOK_SHORTEST_WAIT_S="60"))
    assert "expected at most WATERHOOK_LONGEST_WAIT_S (60), got 61" in message_for(
        WATERHOOK_SHORTEST_WAIT_S="61"
    )


@pytest.mark.parametrize(
    ("name", "value", "field", "parsed"),
    [
        ("WATERHOOK_START_SEMANTICS", "AT_LEAST_ONCE", "at_least_once", True),
        ("WATERHOOK_ON_503_AT_START", "UNCERTAIN", "uncertain_on_503", True),
        ("WATERHOOK_DEFAULT_DELIVER_TO", "sns", "deliver_to", ("sns",)),
        ("WATERHOOK_DEFAULT_DELIVER_TO", "dynamodb,sns", "deliver_to", ("dynamodb", "sns")),
        ("WATERHOOK_DEFAULT_DELIVER_TO", "sns, dynamodb,sns", "deliver_to", ("sns", "dynamodb")),
        ("WATERHOOK_RESULT_EVENT_BUS", "results", "result_event_bus", "results"),
    ],
)
def test_each_choice_sets_its_field(name: str, value: str, field: str, parsed: object) -> None:
    assert getattr(Settings.from_env(environment(**{name: value})), field) == parsed


@pytest.mark.parametrize("name", ["WATERHOOK_START_SEMANTICS", "WATERHOOK_ON_503_AT_START"])
@pytest.mark.parametrize("value", ["both", "AT_LEAST_ONCE ", "x" * 10_000])
def test_an_unknown_choice_is_refused_with_a_short_message(name: str, value: str) -> None:
    message = message_for(**{name: value})
    assert message.startswith(f"{name}: expected one of ")
    assert len(message) < 200


@pytest.mark.parametrize("value", ["", ",", "both", "SNS", "sns;dynamodb", "sns,mail", "x" * 10_000])
def test_an_unknown_target_is_refused_with_a_short_message(value: str) -> None:
    message = message_for(WATERHOOK_DEFAULT_DELIVER_TO=value)
    assert message.startswith(
        "WATERHOOK_DEFAULT_DELIVER_TO: expected one or more of sns, dynamodb, eventbridge, got "
    )
    assert len(message) < 200


def test_results_go_to_the_bus_by_default_only_where_there_is_one() -> None:
    assert message_for(WATERHOOK_DEFAULT_DELIVER_TO="sns,eventbridge") == (
        "WATERHOOK_DEFAULT_DELIVER_TO: eventbridge needs WATERHOOK_RESULT_EVENT_BUS, which is empty"
    )
    with_bus = environment(
        WATERHOOK_DEFAULT_DELIVER_TO="sns,eventbridge", WATERHOOK_RESULT_EVENT_BUS="results"
    )
    assert Settings.from_env(with_bus).defaults == RequestDefaults(
        timeout_s=3600, deliver_to=("sns", "eventbridge"), has_result_bus=True
    )


def test_the_settings_contain_the_defaults_of_requests() -> None:
    assert settings().defaults == RequestDefaults(timeout_s=3600, deliver_to=("sns", "dynamodb"))


def test_the_settings_contain_the_limits_of_the_polling_policy() -> None:
    assert settings().limits(NOW) == Limits(2, 60, NOW)


@pytest.mark.parametrize("name", ["WATERHOOK_MAX_RUNNING", "WATERHOOK_MAX_RUNNING_PER_CHATBOT"])
@pytest.mark.parametrize("value", ["-1", "1001"])
def test_a_concurrency_limit_outside_of_0_to_1000_is_refused(name: str, value: str) -> None:
    assert message_for(**{name: value}).startswith(f"{name}: expected a whole number from 0 to 1000")


def test_spaces_and_empty_entries_in_the_list_of_chatbots_are_ignored() -> None:
    read = Settings.from_env(environment(WATERHOOK_ALLOWED_CHATBOTS=" support-chat, ,report-flow,"))
    assert read.allowed_chatbots == read.defaults.allowed_chatbots == {"support-chat", "report-flow"}


@pytest.mark.parametrize(
    ("concurrency", "may_follow", "follows"),
    [("1", True, True), ("50", False, False), ("0", True, False)],
)
def test_following_needs_reserved_concurrency_and_a_job_that_allows_it(
    concurrency: str,
    may_follow: bool,
    follows: bool,
) -> None:
    read = Settings.from_env(environment(WATERHOOK_FOLLOW_CONCURRENCY=concurrency))
    assert read.limits(0.0, may_follow=may_follow).follow is follows


ON = {
    "WATERHOOK_WEBHOOK_ALLOWED_HOSTS": "Hooks.example.com., *.example.org",
    "WATERHOOK_WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8,fd00::/8",
    "WATERHOOK_WEBHOOK_QUEUE_URL": "https://sqs.test/webhooks",
    "WATERHOOK_WEBHOOK_TABLE": "deliveries",
    "WATERHOOK_DEFAULT_WEBHOOK_URL": "https://default.example.net/in?token=s3cret",
    "WATERHOOK_WEBHOOK_CONCURRENCY": "12",
}


def test_webhooks_are_off_without_allowed_hosts() -> None:
    read = Settings.from_env(environment(**ON | {"WATERHOOK_WEBHOOK_ALLOWED_HOSTS": " , "}))
    assert (read.webhooks, read.defaults.webhook_rules, read.defaults.webhook) == (None, None, None)


def test_the_settings_of_webhooks_are_read() -> None:
    read = Settings.from_env(environment(**ON))
    assert read.webhooks
    assert read.webhooks.rules.allowed_hosts == ("hooks.example.com", "*.example.org", "default.example.net")
    assert [str(network) for network in read.webhooks.rules.allowed_networks] == ["10.0.0.0/8", "fd00::/8"]
    assert (read.webhooks.queue_url, read.webhooks.table) == ("https://sqs.test/webhooks", "deliveries")
    assert read.webhooks.concurrency == 12
    assert (
        read.defaults.webhook
        == read.webhooks.default
        == Webhook("https://default.example.net/in?token=s3cret", is_default=True)
    )
    assert read.defaults.webhook_rules == read.webhooks.rules


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("WATERHOOK_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8", "expected networks such as 10.0.0.0/16"),
        ("WATERHOOK_WEBHOOK_ALLOWED_NETWORKS", "anywhere", "expected networks such as 10.0.0.0/16"),
        ("WATERHOOK_DEFAULT_WEBHOOK_URL", "http://hooks.example.com/s3cret", "expected https://"),
        ("WATERHOOK_WEBHOOK_QUEUE_URL", "", "missing"),
        ("WATERHOOK_WEBHOOK_TABLE", "", "missing"),
    ],
)
def test_a_wrong_setting_of_webhooks_is_named_without_the_url(name: str, value: str, problem: str) -> None:
    message = message_for(**ON | {name: value})
    assert message.startswith(f"{name}: ")
    assert problem in message
    assert "s3cret" not in message
