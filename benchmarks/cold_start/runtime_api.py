"""A local Runtime API of Lambda: it sends one event to the process of a function and receives the response."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks.cold_start.wire import Request, Response, Server, json_response, serving

FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"
_REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
_NEXT = "/2018-06-01/runtime/invocation/next"
_TIMEOUT_S = 60.0


class FunctionError(Exception):
    """Raised when the function raised an exception or did not respond in time."""


class RuntimeApi:
    """Serves one event, see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html."""

    def __init__(self, event: object, before: Callable[[], None]) -> None:
        """`before` is called when the process requests its event, directly before the response."""
        self._event = event
        self._before = before
        self._served = False
        self._responses: SimpleQueue[tuple[float, str, Any]] = SimpleQueue()
        self.invoked_at = 0.0

    def respond(self, request: Request) -> Response:
        """Return the response to a request of the runtime client."""
        if request.path != _NEXT:
            self._responses.put((time.perf_counter(), request.path, json.loads(request.body)))
            return json_response({"status": "OK"}, 202)
        if self._served:
            # There is no second event. The process is ended while it waits.
            time.sleep(_TIMEOUT_S)
            return json_response({"errorType": "Over"}, 410)
        self._served = True
        self._before()
        self.invoked_at = time.perf_counter()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": _REQUEST_ID,
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 880_000),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
        }
        return json_response(self._event, headers=headers)

    def wait(self) -> tuple[float, Any]:
        """Wait for the response. Return its time, in seconds of the performance counter, and its document."""
        try:
            at, path, document = self._responses.get(timeout=_TIMEOUT_S)
        except Empty:
            raise FunctionError(f"no response within {_TIMEOUT_S:.0f} s") from None
        if not path.endswith("/response"):
            raise FunctionError(f"{document.get('errorType')}: {document.get('errorMessage')}")
        return at, document


@contextmanager
def offering(event: object, before: Callable[[], None]) -> Iterator[tuple[Server, RuntimeApi]]:
    """Serve one event while the block runs."""
    api = RuntimeApi(event, before)
    with serving(api.respond) as server:
        yield server, api
