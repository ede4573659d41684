"""The configuration of the API function, read from the environment once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from waterhook.domain.principal import OperatorPrincipals
from waterhook.environment import Environment

# API Gateway ends a request after 29 s.
MAX_WAIT_S = 25
MAX_WAITERS = 1000


class CallerIdentity(StrEnum):
    """What makes two requests those of one caller, if both come from sessions of the same IAM role."""

    ROLE = "ROLE"
    SESSION = "SESSION"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings that only the API function needs. `_s` is seconds."""

    max_wait_s: int
    """Longest time that a caller may wait for the outcome. 0: callers can't wait."""
    max_waiters: int
    """Maximum number of requests that wait for an outcome at the same time."""
    operators: tuple[str, ...]
    """ARNs of the IAM roles and users that see the executions of every caller and trigger."""
    caller_identity: CallerIdentity

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Return the settings. Raises SettingsError with every variable that is missing or wrong."""
        environment = Environment(env)
        operators = environment.items("WATERHOOK_OPERATOR_PRINCIPALS")
        try:
            OperatorPrincipals(operators)
        except ValueError as error:
            expected = "ARNs of IAM roles and users, separated by commas"
            environment.reject("WATERHOOK_OPERATOR_PRINCIPALS", expected, str(error))
        settings = cls(
            max_wait_s=environment.number("WATERHOOK_MAX_WAIT_S", 0, MAX_WAIT_S),
            max_waiters=environment.number("WATERHOOK_MAX_WAITERS", 1, MAX_WAITERS),
            operators=operators,
            caller_identity=CallerIdentity(environment.choice("WATERHOOK_CALLER_IDENTITY", *CallerIdentity)),
        )
        environment.raise_problems()
        return settings
