"""Runs MiniStack with two changes. It runs with the Python of .venv-aws.

- Like AWS, MiniStack stops a JSONata expression after one second. It measures wall-clock time, so an execution would
  fail on a computer that was suspended or overloaded for a second.
- MiniStack stores MaximumConcurrency of an event source mapping as text if a parameter of the template sets it. Then it
  compares the text with a number, which raises TypeError, and polls no queue.
"""

import importlib
import runpy
from collections.abc import Callable
from typing import Any

from jsonata.timebox import Timebox

_FACTOR = 60
_CONCURRENCY = "_sqs_esm_concurrency"

_original_init = Timebox.__init__


def init_with_longer_timeout(
    box: Timebox, expression: Any, timeout: int | None = None, max_depth: int | None = None
) -> None:
    """Multiply the `timeout` of an expression, in milliseconds, by 60."""
    _original_init(box, expression, timeout * _FACTOR if timeout else timeout, max_depth)


def with_numeric_limit(concurrency_of: Callable[..., int]) -> Callable[..., int]:
    """Return MiniStack's function for the concurrency of an event source mapping, which then accepts text as limit."""

    def concurrency(mapping: dict[str, Any], *others: Any) -> int:
        scaling = mapping.get("ScalingConfig") or {}
        if "MaximumConcurrency" in scaling:
            scaling = scaling | {"MaximumConcurrency": int(scaling["MaximumConcurrency"])}
        return concurrency_of(mapping | {"ScalingConfig": scaling}, *others)

    return concurrency


if __name__ == "__main__":
    Timebox.__init__ = init_with_longer_timeout
    lambda_service = importlib.import_module("ministack.services.lambda_svc")
    setattr(lambda_service, _CONCURRENCY, with_numeric_limit(getattr(lambda_service, _CONCURRENCY)))
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
