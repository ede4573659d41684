"""MiniStack, with more patience. Run as a script, by the Python that has MiniStack.

Like AWS it ends an expression of the state machine after a second. But it goes by the clock on the wall, and on a
machine that stands still for as long (a laptop that slept, a crowded CI) that ends an execution for nothing.
"""

import runpy
from typing import Any

from jsonata.timebox import Timebox

_TIMES = 60

_protect = Timebox.__init__


def patiently(
    box: Timebox, expression: Any, timeout: int | None = None, max_depth: int | None = None
) -> None:
    """Let an expression take 60 times as long as its `timeout`, in milliseconds."""
    _protect(box, expression, timeout * _TIMES if timeout else timeout, max_depth)


if __name__ == "__main__":
    Timebox.__init__ = patiently
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
