"""The interpreter of the workflow tests, and the limits of the state machine that it does not check.

moto (5.2.5) does not                             AWS does                      where it is tested
------------------------------------------------  ----------------------------  ------------------------------------
evaluate JSONata without an addition              yes, in Java                  here: two ways of evaluation agree
refuse a wait of 1.5 or -1 seconds                the execution fails           test_decisions.py
exempt DataLimitExceeded and Runtime from         neither is caught             test_payloads.py: sizes of payloads
  States.ALL
count a payload in UTF-8, but escaped             yes                           test_payloads.py
limit an input (256 KiB)                          yes                           test_payloads.py
limit a cause (32,768 characters)                 yes                           test_payloads.py
limit a history (25,000 events)                   yes                           test_history.py
end a task after TimeoutSeconds of our clock      of any clock                  test_faults.py: States.Timeout
end the machine after TimeoutSeconds of ours      of any clock                  here: every deadline is earlier
redrive                                           from the state that failed    test_faults.py: that state is Notify
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonata.jexception import JException

from tests.fakes.scripted_waterflai import completed
from tests.workflow import interpreter
from tests.workflow.world import World, definition, request
from waterhook.domain.request import MAX_TIMEOUT_S


def expressions(node: Any) -> Iterator[str]:
    """Yield every JSONata expression of a definition."""
    if isinstance(node, str) and node.startswith("{%"):
        yield node.removeprefix("{%").removesuffix("%}").strip()
    elif isinstance(node, dict):
        for entry in node.values():
            yield from expressions(entry)
    elif isinstance(node, list):
        for entry in node:
            yield from expressions(entry)


INPUTS: dict[str, Any] = {
    "waiting": {"v": 1, "outcome": "RUNNING", "next": "wait", "wait_seconds": 5, "history": {"turns": 2}},
    "done": {
        "outcome": "COMPLETED",
        "next": "done",
        "final_output_json": '{"a": "\\u00fc\\"\\\\"}',
        "error": None,
    },
    "failed": {
        "outcome": "LOST",
        "next": "done",
        "error_name": "Waterhook.Lost",
        "cause": '{"message":"gone"}',
    },
    "invalid": {"next": None, "wait_seconds": [1, None, {"a": []}]},
    "nothing": None,
    "no object": ["a", 1, False],
}


@pytest.mark.parametrize("execution_input", INPUTS.values(), ids=INPUTS)
def test_an_expression_has_the_same_value_with_bound_and_with_literal_data(execution_input: object) -> None:
    states = {
        "input": execution_input,
        "context": {
            "Execution": {"Id": "arn:x", "StartTime": "2026-01-01T00:00:00Z", "Input": execution_input}
        },
        "result": {"Payload": execution_input},
        "errorOutput": {"Error": "States.Timeout", "Cause": ""},
    }
    for expression in set(expressions(definition())):
        whole = f"($states:={json.dumps(states, separators=(',', ':'))};{expression})"
        assert value_of(interpreter.evaluate, whole) == value_of(interpreter.evaluate_literally, whole)


def value_of(evaluate: Callable[[str], Any], expression: str) -> Any:
    """Return the value of an expression, or the code of its JSONata error."""
    try:
        return evaluate(expression)
    except JException as error:
        return error.error


def test_only_bound_data_keeps_a_character_beyond_16_bits() -> None:
    # moto escapes the character, and jsonata-python reads the escape as two invalid characters.
    whole = '($states:={"input":"\\ud83e\\udd86"};$states.input)'
    assert interpreter.evaluate(whole) == "🦆"
    assert interpreter.evaluate_literally(whole) == "\ud83e\udd86"


def test_the_engine_changes_numbers_as_aws_does() -> None:
    for evaluate in (interpreter.evaluate, interpreter.evaluate_literally):
        value = evaluate('($states:={"n":12345678901234567890,"one":1.0};$states)')
        assert json.dumps(value) == '{"n": 12345678901234567168, "one": 1}'


def test_the_numbers_of_a_request_are_posted_as_the_engine_writes_them(world: World) -> None:
    # A known limit: only an output is carried as text.
    world.upstream.respond_with("status", completed("{}"))
    world.run(request(input_data={"n": 12345678901234567890, "one": 1.0, "half": 0.5}))
    posted = world.upstream.requests[0].json["input_data"]
    assert json.dumps(posted) == '{"n": 12345678901234567168, "one": 1, "half": 0.5}'


def test_the_timeout_of_the_state_machine_is_later_than_every_deadline() -> None:
    machine = definition()
    assert machine["TimeoutSeconds"] >= MAX_TIMEOUT_S + 24 * 3600
    assert all(
        state["TimeoutSeconds"] == {"Follow": 895, "Poll": 130}.get(name, 60)
        for name, state in machine["States"].items()
        if state["Type"] == "Task"
    )
