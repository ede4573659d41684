"""Where a history's choices come from: a row of bytes, so that chance, hypothesis and a replay look alike."""

from random import Random
from typing import Self

# More than most histories read; what comes after the end is calm.
LENGTH = 700


class ChoiceSequence:
    """Bytes read as choices. 0 is the calm one everywhere, so that a choices gets simpler as its bytes get smaller."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @classmethod
    def of(cls, seed: int) -> Self:
        return cls(data_of(seed))

    def choose(self, count: int) -> int:
        """Return 0 to count - 1."""
        if self._at >= len(self._data):
            return 0
        byte = self._data[self._at]
        self._at += 1
        return byte * count >> 8

    def one_in(self, count: int) -> bool:
        """Whether the rare thing happens."""
        return self.choose(count) == count - 1

    def pick[T](self, *options: T) -> T:
        return options[self.choose(len(options))]


def data_of(seed: int) -> bytes:
    """Return the choices of a seed, the same on every machine."""
    return Random(seed).randbytes(LENGTH)  # noqa: S311 - chance, not secrecy
