"""Lambda's side of a function's process: it hands out one event and takes the answer."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks.cold_start.wire import Answer, Asked, Server, json_answer, serving

FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"
_REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
_NEXT = "/2018-06-01/runtime/invocation/next"
_LIMIT_S = 60.0


class FunctionError(Exception):
    """The function's process raised, or gave no answer in time."""


class RuntimeApi:
    """Serves one event, as https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html says."""

    def __init__(self, event: object, before: Callable[[], None]) -> None:
        """`before` is called when the process is ready for its event, right before it gets it."""
        self._event = event
        self._before = before
        self._served = False
        self._answers: SimpleQueue[tuple[float, str, Any]] = SimpleQueue()
        self.invoked_at = 0.0

    def answer(self, asked: Asked) -> Answer:
        """Answer the runtime client."""
        if asked.path != _NEXT:
            self._answers.put((time.perf_counter(), asked.path, json.loads(asked.body)))
            return json_answer({"status": "OK"}, 202)
        if self._served:
            # There is no second one: the process is ended meanwhile.
            time.sleep(_LIMIT_S)
            return json_answer({"errorType": "Over"}, 410)
        self._served = True
        self._before()
        self.invoked_at = time.perf_counter()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": _REQUEST_ID,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 880_000),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
        }
        return json_answer(self._event, headers=headers)

    def wait(self) -> tuple[float, Any]:
        """Return when the answer came, in seconds of the performance counter, and what it is."""
        try:
            at, path, document = self._answers.get(timeout=_LIMIT_S)
        except Empty:
            raise FunctionError(f"no answer within {_LIMIT_S:.0f} s") from None
        if not path.endswith("/response"):
            raise FunctionError(f"{document.get('errorType')}: {document.get('errorMessage')}")
        return at, document


@contextmanager
def offering(event: object, before: Callable[[], None]) -> Iterator[tuple[Server, RuntimeApi]]:
    """Offer an event inside the block."""
    api = RuntimeApi(event, before)
    with serving(api.answer) as server:
        yield server, api
