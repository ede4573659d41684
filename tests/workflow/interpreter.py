"""A second interpreter for the ASL: moto's Step Functions engine, with JSONata and with time in our hands.

The engine is LocalStack's, without the Java program that evaluates JSONata for it; jsonata-python takes that place.
What it cannot do, and what stands in for it, is asserted in test_interpreter.py.
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
    """Return an integer as an engine that knows doubles only would see it: 20 digits lose the last ones."""
    return int(float(digits))


def engine_float(text: str) -> float | int:
    """Return a number as an engine of doubles would write it again: 1.0 becomes 1."""
    value = float(text)
    return int(value) if value.is_integer() else value


_decode = json.JSONDecoder(parse_int=engine_integer, parse_float=engine_float).raw_decode
_evaluating = threading.RLock()
_compile = cache(Jsonata)


def evaluate(expression: str) -> Any:
    """Return what an expression of the machine comes to.

    moto writes the data into the expression as a literal. Read as JSON and bound instead, it keeps its characters
    beyond 16 bits, and a large request takes no second to parse; test_interpreter.py holds both ways against each
    other.
    """
    head, found, rest = expression.partition(_BINDING)
    with _evaluating:
        if not found:
            return _compile(expression).evaluate(None)
        states, end = _decode(rest)
        return _compile(f"{head}({rest[end + 1 :]}").evaluate(None, {"states": _with_nulls(states)})


def evaluate_literally(expression: str) -> Any:
    """Return what an expression comes to, data and all, as jsonata-python reads it."""
    return Jsonata(expression).evaluate(None)


def _with_nulls(value: Any) -> Any:
    """Return JSON with its nulls as jsonata-python knows them: None is its word for nothing at all."""
    if isinstance(value, dict):
        return {name: _with_nulls(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_nulls(entry) for entry in value]
    return Utils.NULL_VALUE if value is None else value


def install(patch: pytest.MonkeyPatch, clock: WorkflowClock, ended: Callable[[str], None]) -> None:
    """Give the engine its JSONata and waits that pass on the clock; `ended` is called with each ended ARN."""

    reflect = BaseExecutionWorkerCommunication.terminated

    def terminated(communication: BaseExecutionWorkerCommunication) -> None:
        reflect(communication)
        ended(communication.execution.exec_arn)

    patch.setattr(BaseExecutionWorkerCommunication, "terminated", terminated)
    patch.setattr(moto_jsonata, "_eval_jsonata", evaluate)
    patch.setattr(WaitFunction, "_wait_interval", lambda _self, env, wait_seconds: clock.wait(wait_seconds))
    patch.setattr(retrier_decl, "time", SimpleNamespace(sleep=clock.sleep))
    # Full jitter draws between nothing and the delay; the longest possible one is what the tests add up.
    patch.setattr(jitter_strategy_decl, "random", SimpleNamespace(uniform=lambda _low, high: high))
    # One client for all calls: making one takes longer than a turn of the loop.
    client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
    patch.setattr(lambda_eval_utils, "boto_client_for", lambda **_: client)
    # Reading the definition takes longer than running it; it holds nothing of an execution, so once will do.
    patch.setattr(AmazonStateLanguageParser, "parse", cache(AmazonStateLanguageParser.parse))
    # It logs every fault it handles, its whole state included.
    patch.setattr(logging.getLogger("moto"), "disabled", True)
    for name in logging.getLogger().manager.loggerDict:
        if name.startswith("moto."):
            patch.setattr(logging.getLogger(name), "disabled", True)
