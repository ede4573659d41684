"""What a check of `doctor` has found, in words for people."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from waterhook_cli.errors import denied, explained, one_line


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


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing; `about` names it."""

    about: str
    look: Callable[[], Iterable[Finding]]

    def findings(self) -> list[Finding]:
        """Return what it finds; a look that is not allowed, or fails, is a finding too."""
        try:
            return list(self.look())
        except ClientError as error:
            if denied(error):
                return [
                    Finding(
                        Level.UNKNOWN,
                        f"{self.about}: not looked at, you are not allowed to ({error.operation_name})",
                        "Ask for that permission, or let somebody run doctor who has it.",
                    )
                ]
            return [self._unknown(error)]
        except BotoCoreError as error:
            return [self._unknown(error)]

    def _unknown(self, error: Exception) -> Finding:
        problem = explained(error)
        said = problem.message if problem else one_line(error)
        return Finding(Level.UNKNOWN, f"{self.about}: not looked at, {said}", problem.do if problem else "")
