"""Interpreter of the state machine: moto's Step Functions engine, with jsonata-python and a virtual clock.

The docstring of test_interpreter.py lists the differences from AWS.
"""

import json
import logging
import threading
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from jsonata.jsonata import Jsonata
from jsonata.utils import Utils
from moto.stepfunctions.parser.asl.component.common.retry import jitter_strategy_decl, retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.jsonata import jsonata as moto_jsonata
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication

from tests.workflow.clock import WorkflowClock

_BINDING = "($states:="


def engine_integer(digits: str) -> int:
    """Return an integer as an engine of doubles reads it: of 20 digits the last ones change."""
    return int(float(digits))


def engine_float(text: str) -> float | int:
    """Return a number as an engine of doubles writes it: 1.0 becomes 1."""
    value = float(text)
    return int(value) if value.is_integer() else value


_decode = json.JSONDecoder(parse_int=engine_integer, parse_float=engine_float).raw_decode
_evaluating = threading.RLock()
_compile = cache(Jsonata)


def evaluate(expression: str) -> Any:
    """Return the value of an expression of the state machine.

    moto writes the data into the expression as a literal. Here the data is read as JSON and bound to `$states`: this
    keeps characters beyond 16 bits and is fast for large requests. test_interpreter.py compares both.
    """
    head, binding, rest = expression.partition(_BINDING)
    with _evaluating:
        if not binding:
            return _compile(expression).evaluate(None)
        states, end = _decode(rest)
        return _compile(f"{head}({rest[end + 1 :]}").evaluate(None, {"states": _with_nulls(states)})


def evaluate_literally(expression: str) -> Any:
    """Return the value of an expression whose data is a literal, as moto evaluates it."""
    return Jsonata(expression).evaluate(None)


def _with_nulls(value: Any) -> Any:
    """Return JSON with the null value of jsonata-python, where None means a missing value."""
    if isinstance(value, dict):
        return {name: _with_nulls(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_nulls(entry) for entry in value]
    return Utils.NULL_VALUE if value is None else value


def install(patch: pytest.MonkeyPatch, clock: WorkflowClock, ended: Callable[[str], None]) -> None:
    """Patch JSONata and waits of the engine. `ended` is called with the ARN of each execution that ends."""

    reflect = BaseExecutionWorkerCommunication.terminated

    def terminated(communication: BaseExecutionWorkerCommunication) -> None:
        reflect(communication)
        ended(communication.execution.exec_arn)

    patch.setattr(BaseExecutionWorkerCommunication, "terminated", terminated)
    patch.setattr(moto_jsonata, "_eval_jsonata", evaluate)
    patch.setattr(WaitFunction, "_wait_interval", lambda _self, env, wait_seconds: clock.wait(wait_seconds))
    patch.setattr(retrier_decl, "time", SimpleNamespace(sleep=clock.sleep))
    # Full jitter is a random part of the delay. Tests use the longest possible delay.
    patch.setattr(jitter_strategy_decl, "random", SimpleNamespace(uniform=lambda _low, high: high))
    # One client for all calls: creating one takes longer than a poll cycle.
    client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
    patch.setattr(lambda_eval_utils, "boto_client_for", lambda **_: client)
    # Parsing the definition takes longer than running it, and the result is the same for each execution.
    patch.setattr(AmazonStateLanguageParser, "parse", cache(AmazonStateLanguageParser.parse))
    # moto logs each fault that it handles, with the whole state.
    patch.setattr(logging.getLogger("moto"), "disabled", True)
    for name in logging.getLogger().manager.loggerDict:
        if name.startswith("moto."):
            patch.setattr(logging.getLogger(name), "disabled", True)
