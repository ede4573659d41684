"""Waiting for what comes soon where the machine has time, and later where it has not."""

import time
from collections.abc import Callable

PATIENCE_S = 120.0
_POLL_S = 0.1


def until[Answer](ask: Callable[[], Answer | None], timeout_s: float = PATIENCE_S) -> Answer:
    """The first answer that says something."""
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(_POLL_S)
    return answer
