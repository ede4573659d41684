"""Wait for a condition. The timeout is long enough for a busy machine."""

from collections.abc import Callable
from operator import not_

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

PATIENCE_S = 120.0


def until[Result](
    check: Callable[[], Result | None], timeout_s: float = PATIENCE_S, *, pause_s: float = 0.1
) -> Result:
    """Call `check` until its result is true, and return that result. An exception of `check` is passed on.

    Raises AssertionError with the last result after `timeout_s`.
    """
    attempts = Retrying(
        retry=retry_if_result(not_),
        wait=wait_fixed(pause_s),
        stop=stop_after_delay(timeout_s),
        retry_error_callback=lambda last: last.outcome and last.outcome.result(),
    )
    result = attempts(check)
    assert result, f"waited {timeout_s:g} s; the last result was {result!r}"
    return result
