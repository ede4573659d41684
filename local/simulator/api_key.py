"""The API key that clients must send."""

import secrets


class ApiKey:
    """Exactly one key is valid. The control API can replace it."""

    def __init__(self, first: str) -> None:
        self._first = first.encode()
        self._valid = self._first

    def matches(self, value: str) -> bool:
        """Return whether `value` is the valid key."""
        return secrets.compare_digest(value.encode(), self._valid)

    def rotate(self, valid: str) -> None:
        """Replace the valid key."""
        self._valid = valid.encode()

    def restore(self) -> None:
        """Make the first key valid again."""
        self._valid = self._first
