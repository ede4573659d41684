"""Runs MiniStack with a longer timeout for JSONata. A script for the Python of .venv-aws.

Like AWS, MiniStack ends a JSONata expression after one second. It measures wall-clock time, so a machine that was
suspended or overloaded for a second would fail an execution.
"""

import runpy
from typing import Any

from jsonata.timebox import Timebox

_FACTOR = 60

_original_init = Timebox.__init__


def init_with_longer_timeout(
    box: Timebox, expression: Any, timeout: int | None = None, max_depth: int | None = None
) -> None:
    """Let an expression take 60 times as long as its `timeout`, in milliseconds."""
    _original_init(box, expression, timeout * _FACTOR if timeout else timeout, max_depth)


if __name__ == "__main__":
    Timebox.__init__ = init_with_longer_timeout
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
