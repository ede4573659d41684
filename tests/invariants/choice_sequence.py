"""The choices of a history, read from a sequence of bytes.

The same bytes give the same history. The bytes come from a seed, from hypothesis, or from the report of a failed test.
"""

from random import Random

# Most histories read fewer choices than this.
LENGTH_BYTES = 700


class ChoiceSequence:
    """Bytes that are read as choices. 0 is the choice without a fault, also after the last byte.

    So a history gets simpler when its bytes get smaller.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def choose(self, count: int) -> int:
        """Return a number from 0 to count - 1."""
        if self._position >= len(self._data):
            return 0
        byte = self._data[self._position]
        self._position += 1
        return byte * count >> 8

    def one_in(self, count: int) -> bool:
        """Return True for one of `count` choices."""
        return self.choose(count) == count - 1

    def pick[T](self, *options: T) -> T:
        return options[self.choose(len(options))]


def choices_of_seed(seed: int) -> bytes:
    """Return the bytes of a seed. They are the same on every machine."""
    return Random(seed).randbytes(LENGTH_BYTES)  # noqa: S311 - no secret depends on it
