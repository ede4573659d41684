"""Turns SIGINT, SIGTERM and SIGHUP into one KeyboardInterrupt, at places where the caller can clean up."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

# If the clean-up takes longer, another signal ends it.
PATIENCE_S = 5.0


class Interrupts:
    """Handles the three signals while its block runs.

    A signal outside of `allowed` is stored, and raised by the next `allowed`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_pending = False
        self._is_allowed = False
        self._cleanup_began_at: float | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # SIGINT is handled even if the shell ignores it for a background job: Ctrl-C ends the whole script.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise KeyboardInterrupt for a signal during the block, or before it."""
        self._is_allowed = True
        try:
            self._raise_if_pending()
            yield
        finally:
            self._is_allowed = False

    @contextmanager
    def cleaning_up(self) -> Iterator[None]:
        """Ignore signals during the block. After PATIENCE_S, another signal raises KeyboardInterrupt."""
        self._cleanup_began_at = self._clock()
        try:
            yield
        finally:
            self._cleanup_began_at = None

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self._is_pending = True
        began_at = self._cleanup_began_at
        if self._is_allowed or (began_at is not None and self._clock() - began_at > PATIENCE_S):
            self._raise_if_pending()

    def _raise_if_pending(self) -> None:
        if self._is_pending:
            self._is_pending = False
            raise KeyboardInterrupt
