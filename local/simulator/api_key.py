"""The API key that clients have to send, which can be rotated under them."""

import secrets


class ApiKey:
    """One key is valid at a time."""

    def __init__(self, first: str) -> None:
        self._first = first.encode()
        self._valid = self._first

    def matches(self, given: str) -> bool:
        """Whether `given` is the valid key."""
        return secrets.compare_digest(given.encode(), self._valid)

    def rotate(self, valid: str) -> None:
        """Refuse the present key from now on and take another."""
        self._valid = valid.encode()

    def restore(self) -> None:
        """Take the first key again."""
        self._valid = self._first
