"""The configuration of the API function."""

import pytest

from waterhook.api.api_settings import ApiSettings, CallerIdentity
from waterhook.errors import SettingsError

ENVIRONMENT = {
    "WATERHOOK_MAX_WAIT_S": "20",
    "WATERHOOK_MAX_WAITERS": "5",
    "WATERHOOK_OPERATOR_PRINCIPALS": "arn:aws:iam::111122223333:role/ops,arn:aws:iam::111122223333:user/eve",
    "WATERHOOK_CALLER_IDENTITY": "SESSION",
}


def test_the_settings_are_read_from_the_environment() -> None:
    assert ApiSettings.from_env(ENVIRONMENT) == ApiSettings(
        max_wait_s=20,
        max_waiters=5,
        operators=("arn:aws:iam::111122223333:role/ops", "arn:aws:iam::111122223333:user/eve"),
        caller_identity=CallerIdentity.SESSION,
    )


def test_operators_are_optional() -> None:
    assert ApiSettings.from_env(ENVIRONMENT | {"WATERHOOK_OPERATOR_PRINCIPALS": ""}).operators == ()


@pytest.mark.parametrize(
    "principals",
    [
        "ops",
        "role/ops",
        "*",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:iam::111122223333:role/ops*",
        "arn:aws:iam::111122223333:root",
        "arn:aws:iam::111122223333:group/ops",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role//ops",
        "arn:aws:iam::111122223333:role/ops/",
        "arn:aws:iam::1:role/ops",
        "arn:aws:iam:eu-west-1:111122223333:role/ops",
        "arn:aws:sts::111122223333:assumed-role/ops/eve",
        "arn:aws:iam::111122223333:role/ops arn:aws:iam::111122223333:role/eve",
        "arn:aws:iam::111122223333:role/a,b",
        f"arn:aws:iam::111122223333:role/{'x' * 65}",
    ],
)
def test_an_entry_that_is_not_the_arn_of_a_role_or_user_is_an_error(principals: str) -> None:
    with pytest.raises(SettingsError, match="WATERHOOK_OPERATOR_PRINCIPALS: expected ARNs of IAM roles"):
        ApiSettings.from_env(ENVIRONMENT | {"WATERHOOK_OPERATOR_PRINCIPALS": principals})


def test_an_empty_entry_is_no_operator() -> None:
    read = ApiSettings.from_env(ENVIRONMENT | {"WATERHOOK_OPERATOR_PRINCIPALS": " , ,"})
    assert read.operators == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WATERHOOK_MAX_WAIT_S", "26"),
        ("WATERHOOK_MAX_WAIT_S", "-1"),
        ("WATERHOOK_MAX_WAIT_S", ""),
        ("WATERHOOK_MAX_WAITERS", "0"),
        ("WATERHOOK_MAX_WAITERS", "²"),
        ("WATERHOOK_CALLER_IDENTITY", "role"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        ApiSettings.from_env(ENVIRONMENT | {name: value})
