"""API key source in memory, for tests that need no secret."""

from tests.support.builders import KEY


class FakeKey:
    """Returns the first key. Each refresh changes to the next key, as long as there is another one."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys or (KEY,))
        self.refreshes = 0

    def get(self) -> str:
        return self._keys[0]

    def refresh(self) -> bool:
        self.refreshes += 1
        if len(self._keys) == 1:
            return False
        del self._keys[0]
        return True
