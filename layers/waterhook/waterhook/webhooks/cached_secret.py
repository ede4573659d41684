"""A secret that is read again regularly, and used further while it can't be read."""

from collections.abc import Callable

from waterhook.errors import DependencyUnavailableError

# A changed secret takes effect within this time.
CACHE_S = 300.0
# Pause after a failed read.
RETRY_S = 60.0


class CachedSecret[T]:
    """The value of a secret. It is read with the first use, and then once in five minutes."""

    def __init__(self, read: Callable[[], T], clock: Callable[[], float]) -> None:
        """`read` returns the value, or raises DependencyUnavailableError. `clock` returns epoch seconds."""
        self._read = read
        self._clock = clock
        self._value: T | None = None
        self._refresh_at = float("-inf")

    def get(self) -> T:
        """Return the value. Raises DependencyUnavailableError if it has never been readable."""
        now = self._clock()
        if self._value is None or now >= self._refresh_at:
            try:
                self._value = self._read()
            except DependencyUnavailableError:
                if self._value is None:
                    raise
                self._refresh_at = now + RETRY_S
            else:
                self._refresh_at = now + CACHE_S
        return self._value
