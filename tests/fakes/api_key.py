"""In-memory source of the API key, where no secret is needed."""

from tests.support.builders import KEY


class FakeKey:
    """A key source; each refresh moves on to the next of the given keys, as long as there is one."""

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
