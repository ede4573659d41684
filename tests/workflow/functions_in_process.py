"""Lambda tasks of the state machine: run by the real handlers in this process, or failed as a test planned."""

import importlib
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from moto.awslambda.exceptions import LambdaClientError

STEPS = ("start", "follow", "poll", "cancel", "notify")


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of one invocation.

    `Lambda.X` is an error of the Lambda service, `States.Timeout` a timeout of the task. Any other name is the class
    of an exception. With `after` the handler runs to its end and only its result is lost.
    """

    name: str
    after: bool = False


class Functions:
    """Replaces Lambda."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Delete all calls and plans."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._faults: dict[str, list[Fault]] = defaultdict(list)
        self._alter: dict[str, Callable[[Any], Any]] = {}
        self._before: dict[str, list[Callable[[], None]]] = defaultdict(list)

    def fail(self, step: str, fault: Fault | str, times: int = 1000) -> None:
        """Plan the same fault for the next calls of a step."""
        self._faults[step] += [Fault(fault) if isinstance(fault, str) else fault] * times

    def alter(self, step: str, change: Callable[[Any], Any]) -> None:
        """Change every result of a step."""
        self._alter[step] = change

    def before(self, step: str, act: Callable[[], None]) -> None:
        """Call `act` before each call of a step."""
        self._before[step].append(act)

    def count(self, step: str) -> int:
        """Return how often a step was called."""
        return sum(name == step for name, _ in self.calls)

    def invoke(
        self, arn: str, _qualifier: object, body: Any, _headers: object, answer: dict[str, str]
    ) -> bytes:
        """Return the body of an invocation, as moto's simple Lambda backend does. An error also sets a header."""
        step, event = arn.rpartition(":")[2], json.loads(body)
        self.calls.append((step, event))
        for act in self._before[step]:
            act()
        fault = self._faults[step].pop(0) if self._faults[step] else None
        if fault is None or fault.after:
            result = self._run(step, event, answer)
            if fault is None:
                return result
        if fault.name == "States.Timeout":
            raise TimeoutError
        service, _, code = fault.name.partition(".")
        if service == "Lambda":
            error = LambdaClientError(code, "planned")
            error.code = 429 if code == "TooManyRequestsException" else 500
            raise error
        return _failed(answer, fault.name, "planned")

    def _run(self, step: str, event: dict[str, Any], answer: dict[str, str]) -> bytes:
        try:
            result = handler_of(step)(event, context_of(step))
        except Exception as error:  # noqa: BLE001 - Lambda reports every exception
            return _failed(answer, type(error).__name__, str(error))
        change = self._alter.get(step)
        return json.dumps(change(result) if change else result).encode()


def handler_of(step: str) -> Callable[[dict[str, Any], Any], Any]:
    """Return the handler of functions/<step>/app.py."""
    handler: Callable[[dict[str, Any], Any], Any] = importlib.import_module(f"functions.{step}.app").handler
    return handler


def context_of(step: str) -> SimpleNamespace:
    """Return a Lambda context with the attributes that handlers use."""
    return SimpleNamespace(
        function_name=step,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{step}",
        aws_request_id="request",
        get_remaining_time_in_millis=lambda: 880_000,
    )


def _failed(answer: dict[str, str], name: str, message: str) -> bytes:
    answer["x-amz-function-error"] = "Unhandled"
    return json.dumps({"errorType": name, "errorMessage": message}).encode()
