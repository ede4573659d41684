"""Runs MiniStack with four changes. It runs with the Python of .venv-aws.

- Like AWS, MiniStack stops a JSONata expression after one second. It measures wall-clock time, so an execution would
  fail on a computer that was suspended or overloaded for a second.
- MiniStack stores MaximumConcurrency of an event source mapping as text if a parameter of the template sets it. Then it
  compares the text with a number, which raises TypeError, and polls no queue.
- MiniStack requires a permission sqs:SendMessageBatch. In AWS it does not exist: sqs:SendMessage covers a batch.
- If all concurrency is in use, MiniStack leaves the messages of a queue hidden until their visibility timeout ends.
  Lambda invokes the function again before that.
"""

import importlib
import runpy
import time
from collections.abc import Callable
from typing import Any

from jsonata.timebox import Timebox

_FACTOR = 60
_CONCURRENCY = "_sqs_esm_concurrency"
_ACTION = "extract_iam_action"
_EXECUTE = "_execute_function"
_THROTTLED_PAUSE_S = 0.5
_THROTTLED_RETRIES = 100  # 50 s. The visibility timeouts of the template are longer.

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


def with_send_message_for_batches(action_of: Callable[..., str | None]) -> Callable[..., str | None]:
    """Return MiniStack's function for the IAM action of a request, which then is that of AWS for batches of SQS."""

    def action(*request: Any) -> str | None:
        found = action_of(*request)
        return "sqs:SendMessage" if found == "sqs:SendMessageBatch" else found

    return action


def with_retries_for_queues(
    execute: Callable[..., dict[str, Any]], sleep: Callable[[float], None] = time.sleep
) -> Callable[..., dict[str, Any]]:
    """Return MiniStack's function that invokes a function, which then retries throttled invocations for queues."""

    def execute_with_retries(function: dict[str, Any], event: Any) -> dict[str, Any]:
        result = execute(function, event)
        retries = _THROTTLED_RETRIES if _is_of_queue(event) else 0
        while retries and result.get("throttle"):
            sleep(_THROTTLED_PAUSE_S)
            result = execute(function, event)
            retries -= 1
        return result

    return execute_with_retries


def _is_of_queue(event: Any) -> bool:
    records = event.get("Records") if isinstance(event, dict) else None
    return bool(records) and isinstance(records, list) and records[0].get("eventSource") == "aws:sqs"


if __name__ == "__main__":
    Timebox.__init__ = init_with_longer_timeout
    lambda_service = importlib.import_module("ministack.services.lambda_svc")
    setattr(lambda_service, _CONCURRENCY, with_numeric_limit(getattr(lambda_service, _CONCURRENCY)))
    setattr(lambda_service, _EXECUTE, with_retries_for_queues(getattr(lambda_service, _EXECUTE)))
    iam_actions = importlib.import_module("ministack.core.iam_actions")
    setattr(iam_actions, _ACTION, with_send_message_for_batches(getattr(iam_actions, _ACTION)))
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
