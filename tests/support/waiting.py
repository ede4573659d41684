"""Waiting for what happens soon on an idle machine and later on a busy one."""

from collections.abc import Callable
from operator import not_

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

PATIENCE_S = 120.0


def until[Answer](
    ask: Callable[[], Answer | None], timeout_s: float = PATIENCE_S, *, pause_s: float = 0.1
) -> Answer:
    """Call `ask` until its result is true, and return that. An exception of `ask` ends the waiting.

    Raises AssertionError, with the last result, when the time is over.
    """
    attempts = Retrying(
        retry=retry_if_result(not_),
        wait=wait_fixed(pause_s),
        stop=stop_after_delay(timeout_s),
        retry_error_callback=lambda last: last.outcome and last.outcome.result(),
    )
    result = attempts(ask)
    assert result, f"waited {timeout_s:g} s; the last result was {result!r}"
    return result
