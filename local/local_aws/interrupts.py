"""SIGINT, SIGTERM and SIGHUP, noted when they come and raised where it is safe.

An exception out of nowhere can leave a lock taken, a process unnoted or a client library in pieces. So
the first signal is only written down, and `pause` and `check` turn it into one KeyboardInterrupt. All
that this program waits for, it waits for in `pause`.
"""

import signal
import time
from types import FrameType

EXIT_CODE = 130

_SLICE_S = 0.05
# Whoever asks a second time after this long is not answered: we hang in a call, and leave it the hard way.
_INSISTS_AFTER_S = 1.0


class _Interrupts:
    def __init__(self) -> None:
        self.noted_at: float | None = None
        self.raised = False  # on the way out already: what comes now is ignored

    def note(self, _signum: int, _frame: FrameType | None) -> None:
        if self.noted_at is None:
            self.noted_at = time.monotonic()
        elif time.monotonic() - self.noted_at > _INSISTS_AFTER_S:
            self.check()

    def check(self) -> None:
        if self.noted_at is not None and not self.raised:
            self.raised = True
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def install() -> None:
    """Take the three signals over, for the rest of this process."""
    signal.signal(signal.SIGINT, _interrupts.note)
    signal.signal(signal.SIGTERM, _interrupts.note)
    # Under nohup the hang-up is ignored on purpose.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupts.note)


def check() -> None:
    """Raise KeyboardInterrupt if a signal has come, once."""
    _interrupts.check()


def ignore() -> None:
    """Raise no KeyboardInterrupt from now on: what follows must run to its end, and all its waits are bounded."""
    _interrupts.raised = True


def pause(seconds: float) -> None:
    """Sleep; raise KeyboardInterrupt soon after a signal comes."""
    until = time.monotonic() + seconds
    check()
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(rest, _SLICE_S))
        check()
