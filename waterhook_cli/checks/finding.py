"""What a check of `doctor` has found, in words for people."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from waterhook_cli.errors import Problem, denied, explained, one_line


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """How something is (`what`), and what to `do` about it if that is not well."""

    level: Level
    what: str
    do: str = ""

    @classmethod
    def ok(cls, what: str) -> Self:
        """Return that all is well."""
        return cls(Level.OK, what)

    @classmethod
    def note(cls, what: str, do: str = "") -> Self:
        """Return what is good to know."""
        return cls(Level.NOTE, what, do)

    @classmethod
    def warning(cls, what: str, do: str) -> Self:
        """Return what may hurt some day."""
        return cls(Level.WARNING, what, do)

    @classmethod
    def problem(cls, what: str, do: str) -> Self:
        """Return what hurts now."""
        return cls(Level.PROBLEM, what, do)

    @classmethod
    def refused(cls, about: str, operation: str) -> Self:
        """Return that `operation`, which a check needs, is not allowed."""
        return cls(
            Level.UNKNOWN,
            f"{about}: not looked at, you are not allowed to ({operation})",
            "Ask for that permission, or let a principal that has it run doctor.",
        )


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing; `about` names it."""

    about: str
    look: Callable[[], Iterable[Finding]]

    def findings(self) -> Iterator[Finding]:
        """Yield what it finds; a look that is not allowed, or fails, is a finding too."""
        try:
            yield from self.look()
        except (ClientError, BotoCoreError, Problem) as error:
            yield self._unknown(error)

    def _unknown(self, error: Exception) -> Finding:
        if denied(error):
            asked = error.operation_name if isinstance(error, ClientError) else ""
            return Finding.refused(self.about, asked)
        problem = error if isinstance(error, Problem) else explained(error)
        said = problem.message if problem else one_line(error)
        return Finding(Level.UNKNOWN, f"{self.about}: not looked at, {said}", problem.do if problem else "")
