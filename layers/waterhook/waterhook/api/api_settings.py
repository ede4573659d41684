"""The configuration of the API function, read from the environment once."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from waterhook.domain.principal import OperatorPrincipals
from waterhook.errors import SettingsError
from waterhook.text import clip, split_list

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
        problems: list[str] = []

        def number(name: str, least: int, most: int) -> int:
            value = env.get(name, "")
            if value.isascii() and value.isdigit() and least <= int(value) <= most:
                return int(value)
            problems.append(
                f"{name}: expected a whole number from {least} to {most}, got {clip(value, 40)!r}"
            )
            return least

        identity = env.get("WATERHOOK_CALLER_IDENTITY", "")
        if identity not in CallerIdentity.__members__:
            expected = " or ".join(CallerIdentity)
            problems.append(f"WATERHOOK_CALLER_IDENTITY: expected {expected}, got {clip(identity, 40)!r}")
            identity = CallerIdentity.ROLE
        operators = tuple(split_list(env.get("WATERHOOK_OPERATOR_PRINCIPALS", "")))
        try:
            OperatorPrincipals(operators)
        except ValueError as error:
            expected = "expected ARNs of IAM roles and users, separated by commas"
            problems.append(f"WATERHOOK_OPERATOR_PRINCIPALS: {expected}, got {clip(str(error), 200)!r}")
        settings = cls(
            max_wait_s=number("WATERHOOK_MAX_WAIT_S", 0, MAX_WAIT_S),
            max_waiters=number("WATERHOOK_MAX_WAITERS", 1, MAX_WAITERS),
            operators=operators,
            caller_identity=CallerIdentity(identity),
        )
        if problems:
            raise SettingsError("; ".join(problems))
        return settings
