"""The API key that clients have to send, and its rotation."""

import secrets


class ApiKey:
    """One key is valid at a time."""

    def __init__(self, first: str) -> None:
        self._first = first.encode()
        self._valid = self._first

    def matches(self, value: str) -> bool:
        """Whether `value` is the valid key."""
        return secrets.compare_digest(value.encode(), self._valid)

    def rotate(self, valid: str) -> None:
        """Replace the valid key."""
        self._valid = valid.encode()

    def restore(self) -> None:
        """Make the first key valid again."""
        self._valid = self._first
