"""Reads environment variables, and reports all wrong ones in one error."""

import re
from collections.abc import Mapping

from waterhook.errors import SettingsError
from waterhook.text import split_list

_MAX_SHOWN_CHARS = 40


class Environment:
    """Environment variables with their checks. A wrong value is added to `problems`, and replaced by a valid one."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []
        """What is wrong, each beginning with the name of its variable."""

    def optional(self, name: str) -> str:
        """Return a text, which may be missing or empty."""
        return self._variables.get(name, "")

    def items(self, name: str) -> tuple[str, ...]:
        """Return the items of a list that is separated by commas. It may be empty."""
        return tuple(split_list(self.optional(name)))

    def text(self, name: str, pattern: re.Pattern[str] | None = None, expected: str = "") -> str:
        """Return a text that is not empty and matches the pattern. `expected` describes the pattern."""
        value = self.optional(name)
        if not value:
            self.problems.append(f"{name}: missing, set this environment variable")
        elif pattern and not pattern.fullmatch(value):
            # The value is not part of the message: a URL may contain a password.
            self.problems.append(f"{name}: expected {expected}")
        return value

    def number(self, name: str, least: int, most: int) -> int:
        """Return a whole number within its bounds."""
        value = self.optional(name)
        if value.isascii() and value.isdigit() and least <= int(value) <= most:
            return int(value)
        self.reject(name, f"a whole number from {least} to {most}", value)
        return least

    def choice(self, name: str, *allowed: str) -> str:
        """Return one of the allowed values."""
        value = self.optional(name)
        if value in allowed:
            return value
        self.reject(name, f"one of {', '.join(allowed)}", value)
        return allowed[0]

    def reject(self, name: str, expected: str, value: str) -> None:
        """Add a problem that shows the beginning of the value."""
        self.problems.append(f"{name}: expected {expected}, got {value[:_MAX_SHOWN_CHARS]!r}")

    def raise_problems(self) -> None:
        """Raise SettingsError with all problems, if there are any."""
        if self.problems:
            raise SettingsError("; ".join(self.problems))
