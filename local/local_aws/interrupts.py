"""Turns SIGINT, SIGTERM and SIGHUP into one KeyboardInterrupt that is raised only at safe places.

An exception at any other place could leave a lock held, a process unrecorded or a client library in a broken state.
So the handler only records the first signal. `pause` and `check` raise KeyboardInterrupt. Every wait calls one of them.
"""

import signal
import time
from types import FrameType

EXIT_CODE = 130

_SLICE_S = 0.05
# If a second signal arrives after this time, the handler raises, because the program is blocked in a call.
_SECOND_SIGNAL_S = 1.0


class _Interrupts:
    def __init__(self) -> None:
        self.signalled_at: float | None = None
        self.raised = False  # if true, later signals are ignored

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
    # Under nohup, SIGHUP stays ignored.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupts.handle)


def check() -> None:
    """Raise KeyboardInterrupt once, after the first signal."""
    _interrupts.check()


def ignore() -> None:
    """Ignore all signals from now on, for a clean-up that must complete. Its waits must have timeouts."""
    _interrupts.raised = True


def pause(seconds: float) -> None:
    """Sleep. Raises KeyboardInterrupt at most 50 ms after a signal."""
    until = time.monotonic() + seconds
    check()
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, _SLICE_S))
        check()
