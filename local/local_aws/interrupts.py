"""SIGINT, SIGTERM and SIGHUP as one KeyboardInterrupt, raised only where it is safe.

An exception at an arbitrary place can leave a lock held, a process unrecorded or a client library broken.
So the handler only records the first signal, and `pause` and `check` raise KeyboardInterrupt. Every wait of
these commands calls `pause` or `check`.
"""

import signal
import time
from types import FrameType

EXIT_CODE = 130

_SLICE_S = 0.05
# A second signal after this time is raised in the handler: the program is blocked in a call.
_SECOND_SIGNAL_S = 1.0


class _Interrupts:
    def __init__(self) -> None:
        self.signalled_at: float | None = None
        self.raised = False  # later signals are ignored

    def handle(self, _signum: int, _frame: FrameType | None) -> None:
        if self.signalled_at is None:
            self.signalled_at = time.monotonic()
        elif time.monotonic() - self.signalled_at > _SECOND_SIGNAL_S:
            self.check()

    def check(self) -> None:
        if self.signalled_at is not None and not self.raised:
            self.raised = True
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def install() -> None:
    """Handle the three signals for the rest of this process."""
    signal.signal(signal.SIGINT, _interrupts.handle)
    signal.signal(signal.SIGTERM, _interrupts.handle)
    # nohup ignores SIGHUP on purpose.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupts.handle)


def check() -> None:
    """Raise KeyboardInterrupt if a signal has come, once."""
    _interrupts.check()


def ignore() -> None:
    """Raise no KeyboardInterrupt from now on, for a clean-up that must complete. All its waits are bounded."""
    _interrupts.raised = True


def pause(seconds: float) -> None:
    """Sleep. Raises KeyboardInterrupt soon after a signal."""
    until = time.monotonic() + seconds
    check()
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, _SLICE_S))
        check()
