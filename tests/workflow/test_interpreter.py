"""What the interpreter is worth: where it agrees with AWS, where it does not, and what is asserted instead.

moto (5.2.5) does not                             AWS does                      so it is asserted
------------------------------------------------  ----------------------------  ------------------------------------
evaluate JSONata by itself                        yes, in Java                  here, in two ways
refuse a wait of 1.5 or -1 seconds                the execution fails           that none gets past "What next?"
keep DataLimitExceeded, Runtime from States.ALL   neither is caught             that no payload comes near the limit
count a payload in UTF-8, but escaped             yes                           by the tests themselves
limit what an execution is handed (256 KiB)       yes                           likewise
limit a cause (32,768 characters)                 yes                           likewise
limit a history (25,000 events)                   yes                           by counting them
end a task after TimeoutSeconds of our clock      of any clock                  by planning States.Timeout
end the machine after TimeoutSeconds of ours      of any clock                  that the loop's deadline comes first
redrive                                           from the state that failed    that this state is Notify
"""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from jsonata.jexception import JException

from tests.fakes.scripted_waterflai import completed
from tests.workflow import interpreter
from tests.workflow.functions_in_process import Fault
from tests.workflow.run import Run
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
    "nonsense": {"next": None, "wait_seconds": [1, None, {"a": []}]},
    "nothing": None,
    "no object": ["a", 1, False],
}


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
def test_an_expression_comes_to_the_same_whether_its_data_is_bound_or_written_out(given: object) -> None:
    states = {
        "input": given,
        "context": {"Execution": {"Id": "arn:x", "StartTime": "2026-01-01T00:00:00Z", "Input": given}},
        "result": {"Payload": given},
        "errorOutput": {"Error": "States.Timeout", "Cause": ""},
    }
    for expression in set(expressions(definition())):
        whole = f"($states:={json.dumps(states, separators=(',', ':'))};{expression})"
        assert came_to(interpreter.evaluate, whole) == came_to(interpreter.evaluate_literally, whole)


def came_to(evaluate: Callable[[str], Any], expression: str) -> Any:
    """Return what an expression comes to; JSONata's own errors count by their code."""
    try:
        return evaluate(expression)
    except JException as error:
        return error.error


def test_a_character_beyond_16_bits_needs_its_data_bound() -> None:
    # moto escapes it, and jsonata-python reads the escapes as two characters that no text may hold.
    whole = '($states:={"input":"\\ud83e\\udd86"};$states.input)'
    assert interpreter.evaluate(whole) == "🦆"
    assert interpreter.evaluate_literally(whole) == "\ud83e\udd86"


def test_the_engine_changes_numbers_which_is_why_an_output_travels_as_text() -> None:
    for evaluate in (interpreter.evaluate, interpreter.evaluate_literally):
        came = evaluate('($states:={"n":12345678901234567890,"one":1.0};$states)')
        assert json.dumps(came) == '{"n": 12345678901234567168, "one": 1}'


def test_the_numbers_of_a_request_are_those_of_the_engine(world: World) -> None:
    # A limit that is known and documented here: the input travels as JSON, only the output as text.
    world.upstream.respond_with("status", completed("{}"))
    world.run(request(input_data={"n": 12345678901234567890, "one": 1.0, "half": 0.5}))
    posted = world.upstream.requests[0].json["input_data"]
    assert json.dumps(posted) == '{"n": 12345678901234567168, "one": 1, "half": 0.5}'


def tiny(world: World, *states: dict[str, Any], given: object = None) -> Run:
    """Run a machine of a few states that follow each other."""
    names = [f"S{index}" for index in range(len(states))]
    ends = [{"Next": name} for name in names[1:]] + [{"End": True}]
    machine = {
        "QueryLanguage": "JSONata",
        "StartAt": names[0],
        "States": {
            name: state | ({} if state["Type"] in {"Fail", "Succeed"} else end)
            for name, state, end in zip(names, states, ends, strict=True)
        },
    }
    arn = world.states.create_state_machine(
        name=f"tiny-{uuid.uuid4()}",
        definition=json.dumps(machine),
        roleArn="arn:aws:iam::123456789012:role/tiny",
    )["stateMachineArn"]
    name = str(uuid.uuid4())
    started = world.states.start_execution(stateMachineArn=arn, name=name, input=json.dumps(given))
    return world.finished(started["executionArn"])


@pytest.mark.parametrize(("seconds", "waited"), [("1.5", 1), ("-1", -1)])
def test_a_wait_that_aws_refuses_is_taken_here(world: World, seconds: str, waited: int) -> None:
    run = tiny(world, {"Type": "Wait", "Seconds": f"{{% {seconds} %}}"})
    assert run.status == "SUCCEEDED"
    assert world.clock.waits == [waited]


def test_an_answer_beyond_the_limit_is_caught_here(world: World) -> None:
    world.functions.alter("poll", lambda state: state | {"more": "x" * 300_000})
    run = world.run(request())
    assert run.error == "Waterhook.Error"
    assert "(States.DataLimitExceeded)" in run.result["message"]


def test_an_expression_that_fails_outside_a_task_ends_the_execution(world: World) -> None:
    run = tiny(world, {"Type": "Pass", "Output": "{% $merge(5) %}"})
    assert run.status == "FAILED"


def test_an_input_beyond_the_limit_is_taken_here(world: World) -> None:
    run = tiny(world, {"Type": "Pass", "Output": {}}, given="x" * 300_000)
    assert run.status == "SUCCEEDED"


def test_a_cause_beyond_the_limit_is_taken_here(world: World) -> None:
    run = tiny(world, {"Type": "Fail", "Error": "Too.Long", "Cause": "{% $pad('x', 40000) %}"})
    assert (run.error, len(run.cause or "")) == ("Too.Long", 40_000)


def test_a_redrive_is_not_there(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("notify", "RuntimeError")
    arn = world.run(request()).arn
    with pytest.raises((NotImplementedError, ClientError)):
        world.states.redrive_execution(executionArn=arn)


def test_an_unnamed_execution_is_called_none(world: World) -> None:
    started = world.states.start_execution(stateMachineArn=world.machine_arn, input="{}")
    assert started["executionArn"].endswith(":None")
    world.finished(started["executionArn"])


def test_the_machines_own_timeout_comes_after_every_deadline() -> None:
    machine = definition()
    assert machine["TimeoutSeconds"] >= MAX_TIMEOUT_S + 24 * 3600
    assert all(
        state["TimeoutSeconds"] == {"Follow": 895, "Poll": 130}.get(name, 60)
        for name, state in machine["States"].items()
        if state["Type"] == "Task"
    )


def test_a_fault_has_the_name_that_aws_gives_it(world: World) -> None:
    faults = ["Lambda.TooManyRequestsException", "States.Timeout", "KeyError", "Sandbox.Timedout"]
    for fault in faults:
        world.functions.fail("notify", Fault(fault), times=1)
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    details = [
        event.get("taskFailedEventDetails") or event.get("taskTimedOutEventDetails") for event in run.events
    ]
    assert [detail["error"] for detail in details if detail] == faults
