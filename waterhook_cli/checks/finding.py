"""A check of `waterhook doctor` and its findings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import DependencyUnavailableError
from waterhook_cli.errors import CommandError, ExitCode, is_access_denied, one_line, to_command_error

_ACCESS_DENIED_HINT = "Get this permission, or run doctor with a profile that has it."


class Level(StrEnum):
    """Severity of a finding. UNKNOWN: the check could not run."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check. `hint` states what to do and may end with a command."""

    level: Level
    message: str
    hint: str = ""

    @classmethod
    def ok(cls, message: str) -> Self:
        """Return a finding that needs no action."""
        return cls(Level.OK, message)

    @classmethod
    def note(cls, message: str, hint: str = "") -> Self:
        """Return a recommendation or a temporary state."""
        return cls(Level.NOTE, message, hint)

    @classmethod
    def warning(cls, message: str, hint: str) -> Self:
        """Return a state that can cause a problem later."""
        return cls(Level.WARNING, message, hint)

    @classmethod
    def problem(cls, message: str, hint: str) -> Self:
        """Return a state that must be fixed."""
        return cls(Level.PROBLEM, message, hint)

    @classmethod
    def unknown(cls, subject: str, reason: str, hint: str = "") -> Self:
        """Return a finding for a `subject` that was not checked."""
        return cls(Level.UNKNOWN, f"{subject}: not checked, {reason}", hint)

    @classmethod
    def access_denied(cls, subject: str, operation: str, hint: str = _ACCESS_DENIED_HINT) -> Self:
        """Return a finding for a `subject` that was not checked, because `operation` is denied."""
        return cls.unknown(subject, f"you are not allowed to ({operation})", hint)


def deploy_hint(parameter: str, purpose: str) -> str:
    """Return the hint to deploy the stack with another value of a parameter, `NAME=VALUE`."""
    return f"Deploy with {parameter} {purpose}: sam build && sam deploy --parameter-overrides {parameter}"


@dataclass(frozen=True, slots=True)
class Check:
    """A check: a name, and a function that yields findings."""

    name: str
    run: Callable[[], Iterable[Finding]]

    def findings(self) -> Iterator[Finding]:
        """Yield the findings. If the check fails or is denied, its last finding has the level UNKNOWN."""
        try:
            yield from self.run()
        except (ClientError, BotoCoreError, CommandError, DependencyUnavailableError) as error:
            yield self._unknown(error)

    def _unknown(self, error: Exception) -> Finding:
        if isinstance(error, DependencyUnavailableError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        if isinstance(error, ClientError) and is_access_denied(error):
            return Finding.access_denied(self.name, error.operation_name)
        explained = to_command_error(error) or CommandError(ExitCode.UNAVAILABLE, one_line(error))
        return Finding.unknown(self.name, explained.message, explained.hint)
