"""Waits and retries that Ctrl-C interrupts."""

from collections.abc import Callable

from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_not_result,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from .interrupts import pause


def wait_for[Result](
    check: Callable[[], Result | None],
    *,
    timeout_s: float,
    interval_s: float,
    message: str,
    sleep: Callable[[float], None] = pause,
) -> Result:
    """Return the first result of `check` that is true.

    Raises TimeoutError with `message` after `timeout_s` seconds, and any exception of `check`. With
    `sleep=time.sleep` no signal interrupts the wait.
    """
    attempts = Retrying(
        retry=retry_if_not_result(bool),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(interval_s),
        sleep=sleep,
    )
    try:
        result = attempts(check)
    except RetryError:
        raise TimeoutError(f"{message} after {timeout_s:.0f} s") from None
    assert result is not None  # noqa: S101  # the attempts end only with a true result
    return result


def retry_while[Result](
    is_retryable: Callable[[Result], bool],
    call: Callable[[], Result],
    *,
    timeout_s: float,
    interval_s: float,
) -> Result:
    """Repeat `call` until its result is not retryable, or for `timeout_s` seconds. Return the last result."""

    def last_result(state: RetryCallState) -> Result:
        assert state.outcome is not None  # noqa: S101  # there was at least one attempt
        result: Result = state.outcome.result()
        return result

    attempts = Retrying(
        retry=retry_if_result(is_retryable),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(interval_s),
        sleep=pause,
        retry_error_callback=last_result,
    )
    return attempts(call)
