"""The deployment's configuration: everything that is wrong is said at once, before anything runs."""

import pytest

from tests.fakes.clock import NOW
from tests.support.builders import environment, settings
from waterhook.domain.polling_policy import Limits
from waterhook.domain.request import RequestDefaults
from waterhook.errors import SettingsError
from waterhook.settings import Settings


def problem(**changes: str | None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environment(**changes))
    return str(caught.value)


def test_the_environment_of_the_template_is_read() -> None:
    got = Settings.from_env(environment())
    assert (got.base_url, got.table, got.bucket, got.source) == (
        "https://api.waterflai.test",
        "executions",
        "results",
        "/waterhook/tests",
    )
    assert (got.default_timeout_s, got.start_deadline_s) == (3600, 900)
    assert (got.shortest_wait_s, got.longest_wait_s, got.retention_days) == (2, 60, 30)
    assert (got.at_least_once, got.uncertain_on_503) == (False, False)


def test_variables_of_others_are_none_of_our_business() -> None:
    assert Settings.from_env(environment() | {"PATH": "/bin", "AWS_REGION": "x"}) == settings()


# Only the API is told the state machine, and an empty list of chatbots allows all of them.
OPTIONAL = {"WATERHOOK_STATE_MACHINE_ARN", "WATERHOOK_ALLOWED_CHATBOTS"}


def test_an_empty_environment_is_told_everything_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({})
    said = str(caught.value)
    for name in environment():
        assert (name in said) is (name not in OPTIONAL)


@pytest.mark.parametrize("name", sorted(set(environment()) - OPTIONAL))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named_and_nothing_else_is(name: str, value: str | None) -> None:
    said = problem(**{name: value})
    assert said.startswith(f"{name}: ")
    assert ";" not in said


def test_functions_other_than_the_api_do_without_the_state_machine() -> None:
    assert Settings.from_env(environment(WATERHOOK_STATE_MACHINE_ARN=None)).state_machine_arn == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://api.waterflai.ai",
        "https://api.waterflai.ai:8443",
        "https://10.0.0.1",
        "http://127.0.0.1",
        "http://127.0.0.1:8000",
        "http://localhost:8000",
        "http://[::1]:8000",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_fit_for_a_key(url: str) -> None:
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
        "https://api.waterflai.ai/v1",
        "https://api.waterflai.ai?x=1",
        "https://api.waterflai.ai#",
        "https://",
        "https://api.waterflai.ai\n",
        "https://api waterflai.ai",
        "HTTPS://api.waterflai.ai",
        "ftp://api.waterflai.ai",
        "file:///etc/passwd",
        "api.waterflai.ai",
        "https://api.waterflai.ai:123456",
    ],
)
def test_a_url_to_which_the_key_must_not_go_is_refused(url: str) -> None:
    assert problem(WATERFLAI_BASE_URL=url).startswith("WATERFLAI_BASE_URL: expected https:")


NO_NUMBERS = [
    "-1",
    "+1",
    "1.0",
    " 5",
    "5 ",
    "5\n",
    "\u0665",
    "\u00b2",
    "1e3",
    "five",
    "0x5",
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
def test_a_number_has_limits_and_both_are_within(name: str, least: int, most: int) -> None:
    for value in (least, most):
        Settings.from_env(environment(**{name: str(value)}))
    for wrong in (str(least - 1), str(most + 1), *NO_NUMBERS):
        assert name in problem(**{name: wrong})


def test_the_shortest_wait_may_equal_the_longest_but_not_exceed_it() -> None:
    Settings.from_env(environment(WATERHOOK_SHORTEST_WAIT_S="60"))
    assert "expected at most WATERHOOK_LONGEST_WAIT_S (60), got 61" in problem(WATERHOOK_SHORTEST_WAIT_S="61")


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("WATERHOOK_START_SEMANTICS", "AT_LEAST_ONCE", "at_least_once", True),
        ("WATERHOOK_ON_503_AT_START", "UNCERTAIN", "uncertain_on_503", True),
        ("WATERHOOK_DELIVERY", "SNS", "deliver_to", ("sns",)),
        ("WATERHOOK_DELIVERY", "DYNAMODB", "deliver_to", ("dynamodb",)),
        ("WATERHOOK_DELIVERY", "BOTH", "deliver_to", ("sns", "dynamodb")),
    ],
)
def test_each_choice_means_what_it_says(name: str, value: str, field: str, read: object) -> None:
    assert getattr(Settings.from_env(environment(**{name: value})), field) == read


@pytest.mark.parametrize(
    "name", ["WATERHOOK_START_SEMANTICS", "WATERHOOK_ON_503_AT_START", "WATERHOOK_DELIVERY"]
)
@pytest.mark.parametrize("value", ["both", "true", "AT_LEAST_ONCE ", "x" * 10_000])
def test_a_choice_that_there_is_not_is_refused_in_few_words(name: str, value: str) -> None:
    said = problem(**{name: value})
    assert said.startswith(f"{name}: expected one of ")
    assert len(said) < 200


def test_requests_get_their_defaults_from_here() -> None:
    assert settings().defaults == RequestDefaults(timeout_s=3600, deliver_to=("sns", "dynamodb"))


def test_the_policy_gets_its_limits_from_here() -> None:
    assert settings().limits(NOW) == Limits(2, 60, NOW)


@pytest.mark.parametrize("name", ["WATERHOOK_MAX_RUNNING", "WATERHOOK_MAX_RUNNING_PER_CHATBOT"])
@pytest.mark.parametrize("value", ["-1", "1001", "1.5", "many"])
def test_a_cap_that_no_item_can_hold_is_named(name: str, value: str) -> None:
    assert problem(**{name: value}).startswith(f"{name}: expected a whole number from 0 to 1000")


def test_a_list_of_chatbots_is_read_without_the_spaces_and_the_gaps_in_it() -> None:
    got = Settings.from_env(environment(WATERHOOK_ALLOWED_CHATBOTS=" support-chat, ,report-flow,"))
    assert got.allowed_chatbots == got.defaults.allowed_chatbots == {"support-chat", "report-flow"}


@pytest.mark.parametrize(
    ("concurrency", "may_follow", "follows"),
    [("50", True, True), ("1", True, True), ("50", False, False), ("0", True, False)],
)
def test_a_job_is_followed_only_where_concurrency_is_reserved_and_the_job_allows_it(
    concurrency: str,
    may_follow: bool,
    follows: bool,
) -> None:
    got = Settings.from_env(environment(WATERHOOK_FOLLOW_CONCURRENCY=concurrency))
    assert got.limits(0.0, may_follow=may_follow).follow is follows


@pytest.mark.parametrize("value", ["0", "29", "841", "-5"])
def test_a_follow_that_is_too_short_or_longer_than_a_function_may_run_is_named(value: str) -> None:
    assert problem(WATERHOOK_FOLLOW_S=value).startswith(
        "WATERHOOK_FOLLOW_S: expected a whole number from 30 to 840"
    )
