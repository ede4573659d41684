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
