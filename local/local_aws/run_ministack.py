"""Runs MiniStack with four changes. It runs with the Python of .venv-aws.

- Like AWS, MiniStack stops a JSONata expression after one second. It measures wall-clock time, so an execution would
  fail on a computer that was suspended or overloaded for a second.
- MiniStack stores MaximumConcurrency of an event source mapping as text if a parameter of the template sets it. Then it
  compares the text with a number, which raises TypeError, and polls no queue.
- If the concurrency of the account is used up, MiniStack returns a message to its queue, where it is invisible for the
  rest of VisibilityTimeout. Lambda repeats the invocation until then.
- MiniStack requires a permission sqs:SendMessageBatch. In AWS it does not exist: sqs:SendMessage covers a batch.
"""

import importlib
import runpy
import threading
import time
from collections.abc import Callable
from typing import Any

from jsonata.timebox import Timebox

_FACTOR = 60
_CONCURRENCY = "_sqs_esm_concurrency"
_ACTION = "extract_iam_action"
_EXECUTE, _RUN_BATCH = "_execute_function", "_run_sqs_batch"
_THROTTLED_S, _PAUSE_S = 60.0, 0.2

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


def with_repeated_throttles(
    execute: Callable[..., dict[str, Any]],
    run_batch: Callable[..., None],
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Callable[..., dict[str, Any]], Callable[..., None]]:
    """Return MiniStack's functions that invoke a function, and that do this with messages of a queue.

    The first one then repeats a throttled invocation if the second one called it.
    """
    thread = threading.local()

    def execute_again(*arguments: Any, **options: Any) -> dict[str, Any]:
        result = execute(*arguments, **options)
        attempts = int(_THROTTLED_S / _PAUSE_S) if getattr(thread, "has_messages", False) else 0
        while result.get("throttle") and attempts:
            pause(_PAUSE_S)
            result, attempts = execute(*arguments, **options), attempts - 1
        return result

    def run(*arguments: Any) -> None:
        thread.has_messages = True
        try:
            run_batch(*arguments)
        finally:
            thread.has_messages = False

    return execute_again, run


if __name__ == "__main__":
    Timebox.__init__ = init_with_longer_timeout
    lambda_service = importlib.import_module("ministack.services.lambda_svc")
    setattr(lambda_service, _CONCURRENCY, with_numeric_limit(getattr(lambda_service, _CONCURRENCY)))
    execute, run_batch = with_repeated_throttles(
        getattr(lambda_service, _EXECUTE), getattr(lambda_service, _RUN_BATCH)
    )
    setattr(lambda_service, _EXECUTE, execute)
    setattr(lambda_service, _RUN_BATCH, run_batch)
    iam_actions = importlib.import_module("ministack.core.iam_actions")
    setattr(iam_actions, _ACTION, with_send_message_for_batches(getattr(iam_actions, _ACTION)))
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
