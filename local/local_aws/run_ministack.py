"""Runs MiniStack with a longer timeout for JSONata. It runs with the Python of .venv-aws.

Like AWS, MiniStack stops a JSONata expression after one second. It measures wall-clock time, so an execution would fail
on a computer that was suspended or overloaded for a second.
"""

import runpy
from typing import Any

from jsonata.timebox import Timebox

_FACTOR = 60

_original_init = Timebox.__init__


def init_with_longer_timeout(
    box: Timebox, expression: Any, timeout: int | None = None, max_depth: int | None = None
) -> None:
    """Multiply the `timeout` of an expression, in milliseconds, by 60."""
    _original_init(box, expression, timeout * _FACTOR if timeout else timeout, max_depth)


if __name__ == "__main__":
    Timebox.__init__ = init_with_longer_timeout
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
