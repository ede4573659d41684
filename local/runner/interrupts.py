"""SIGINT, SIGTERM and SIGHUP as one KeyboardInterrupt, held back where it would leave something behind."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130


class _Interrupts:
    def __init__(self) -> None:
        self.shields = 0
        self.pending = False

    def handle(self, _signum: int, _frame: FrameType | None) -> None:
        if self.shields:
            self.pending = True
        else:
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def install() -> None:
    """Take the three signals over, for the rest of this process."""
    signal.signal(signal.SIGINT, _interrupts.handle)
    signal.signal(signal.SIGTERM, _interrupts.handle)
    # Under nohup the hang-up is ignored on purpose.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupts.handle)


@contextmanager
def shielded() -> Iterator[None]:
    """A section that is finished first: an interrupt in it is raised at its end.

    For starting a process and writing down its id, and for stopping what was started. Keep it short.
    """
    _interrupts.shields += 1
    try:
        yield
    finally:
        _interrupts.shields -= 1
    if _interrupts.pending and not _interrupts.shields:
        _interrupts.pending = False
        raise KeyboardInterrupt
