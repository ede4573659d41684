"""What must hold of the state machine's graph, as functions from a definition to the problems found in it."""

import copy
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonata.jexception import JException
from jsonata.jsonata import Jsonata

from waterhook.domain.loop_state import NextStep
from waterhook.domain.polling_policy import WAIT_LIMIT_S
from waterhook.domain.status import Status

type Definition = dict[str, Any]
type State = dict[str, Any]

NOTIFY = "Notify"
# The one place where an execution may turn green.
IS_COMPLETED = "Completed?"
# Tasks whose job may run on when they fail: the state that cancels it first.
CANCELLED_BY = {"Poll": "Cancel"}
# What is only there to be faster, and the state that does the same without it.
ACCELERATORS = {"Follow": "What next?"}
# What no function may have the machine wait for: MiniStack fails on some of them, moto waits for others.
NO_WAITS: tuple[object, ...] = (
    0,
    -1,
    1.5,
    WAIT_LIMIT_S + 1,
    10**20,
    "5",
    "",
    None,
    True,
    [],
    [5],
    {},
    {"s": 5},
)
MISSING = object()


def problems(definition: Definition, function_timeouts_s: Mapping[str, int]) -> list[str]:
    """Everything that is wrong with a definition; `function_timeouts_s` are by the name of the substitution."""
    return [
        *language(definition),
        *edges(definition),
        *tasks(definition, function_timeouts_s),
        *failures(definition),
        *waits(definition),
        *decisions(definition),
    ]


def language(definition: Definition) -> Iterator[str]:
    if definition.get("QueryLanguage") != "JSONata":
        yield "the machine doesn't speak JSONata"
    if not isinstance(definition.get("TimeoutSeconds"), int):
        yield "the machine has no TimeoutSeconds"
    for name, state in definition["States"].items():
        if state.get("QueryLanguage", "JSONata") != "JSONata":
            yield f"{name}: speaks another language"


def targets(state: State) -> list[str]:
    """The states that may follow, in the order they are written."""
    found = [rule["Next"] for rule in state.get("Choices", [])]
    found += [state[key] for key in ("Next", "Default") if key in state]
    return found + [catch["Next"] for catch in state.get("Catch", [])]


def reachable(definition: Definition, start: str, *, without: str | None = None) -> set[str]:
    """Every state that an execution can come to from `start`, never passing `without`."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name not in found and name != without and name in definition["States"]:
            found.add(name)
            ahead += targets(definition["States"][name])
    return found


def edges(definition: Definition) -> Iterator[str]:
    states = definition["States"]
    if definition["StartAt"] not in states:
        yield f"StartAt: there is no state {definition['StartAt']!r}"
    for name, state in states.items():
        for target in targets(state):
            if target not in states:
                yield f"{name}: there is no state {target!r}"
        ends = state["Type"] in {"Succeed", "Fail"} or state.get("End", False)
        if not ends and not targets(state):
            yield f"{name}: leads nowhere"
        if state["Type"] == "Choice" and "Default" not in state:
            yield f"{name}: has no Default"
    for name in states.keys() - reachable(definition, definition["StartAt"]):
        yield f"{name}: can't be reached"


def of_type(definition: Definition, kind: str) -> dict[str, State]:
    return {name: state for name, state in definition["States"].items() if state["Type"] == kind}


def tasks(definition: Definition, function_timeouts_s: Mapping[str, int]) -> Iterator[str]:
    for name, state in of_type(definition, "Task").items():
        placeholder = state.get("Arguments", {}).get("FunctionName", "")
        timeout_s = function_timeouts_s.get(placeholder.removeprefix("${").removesuffix("}"))
        if timeout_s is None:
            yield f"{name}: calls {placeholder!r}, which is no function of the template"
        elif not isinstance(state.get("TimeoutSeconds"), int) or state["TimeoutSeconds"] <= timeout_s:
            yield f"{name}: needs a TimeoutSeconds longer than its function's {timeout_s}"
        if not state.get("Retry"):
            yield f"{name}: has no Retry"
        caught = [error for catch in state.get("Catch", []) for error in catch["ErrorEquals"]]
        if name == NOTIFY and caught:
            yield f"{name}: has a Catch, so a redrive would not enter it again"
        if name != NOTIFY and "States.ALL" not in caught:
            yield f"{name}: has no Catch for States.ALL"


def failures(definition: Definition) -> Iterator[str]:
    """No failure ends green: it is reported as ERROR, notified, and judged by what the record then says."""
    for name, state in definition["States"].items():
        if name in ACCELERATORS:
            yield from _gives_way(name, state)
        elif name in CANCELLED_BY:
            yield from _cancels(name, state)
        else:
            yield from _is_reported(definition, name, state)
    for name, state in definition["States"].items():
        greens = [target for target in targets(state) if target in of_type(definition, "Succeed")]
        if greens and name != IS_COMPLETED:
            yield f"{name}: succeeds without asking {IS_COMPLETED!r}"
        if state.get("End") and state["Type"] != "Fail":
            yield f"{name}: ends green"
        if state["Type"] == "Fail":
            yield from _names_its_error(name, state)
    yield from _verdict(definition)


def _is_reported(definition: Definition, name: str, state: State) -> Iterator[str]:
    after_fault = [catch["Next"] for catch in state.get("Catch", [])]
    if state["Type"] == "Choice" and name != IS_COMPLETED:
        after_fault.append(state.get("Default"))
    for target in after_fault:
        if not _reports_an_error(definition["States"].get(target, {})):
            yield f"{name}: a fault goes to {target!r}, which doesn't set the outcome to ERROR"
        for green in reachable(definition, target, without=NOTIFY) & of_type(definition, "Succeed").keys():
            yield f"{name}: a fault comes to {green!r} without a notification"


def _names_its_error(name: str, state: State) -> Iterator[str]:
    """A Fail has an error and a cause, whatever it is given: an expression that fails hides both."""
    for given in ({}, {"error_name": None, "cause": 5}, {"error_name": ["x"]}):
        for field in ("Error", "Cause"):
            if not isinstance(evaluate(state[field], given), str):
                yield f"{name}: has no {field} for {given}"


def _cancels(name: str, state: State) -> Iterator[str]:
    """The job of a task that failed is cancelled: the state of the loop and the fault come to that task."""
    cancel = CANCELLED_BY[name]
    kept: dict[str, Any] = {"execution_id": "x", "history": {"polls": 3}, "v": 1}
    for catch in state.get("Catch", []):
        if catch["Next"] != cancel:
            yield f"{name}: a fault goes to {catch['Next']!r}, not to {cancel!r}"
        given = {"input": kept | {"next": "poll"}, "errorOutput": {"Error": "RuntimeError"}}
        came = _with_states(catch["Output"], given) if "Output" in catch else None
        if not isinstance(came, dict) or not (kept | {"fault": "RuntimeError"}).items() <= came.items():
            yield f"{name}: {cancel!r} doesn't get the state of the loop with the fault"


def _gives_way(name: str, state: State) -> Iterator[str]:
    """A failure of what is only there to be faster is no fault: the slower way goes on from the same state."""
    slower = ACCELERATORS[name]
    for catch in state.get("Catch", []):
        if catch["Next"] != slower:
            yield f"{name}: gives way to {catch['Next']!r}, not to {slower!r}"
        kept: dict[str, Any] = {"execution_id": "x", "wait_seconds": 4, "history": {"polls": 3}, "v": 1}
        said = evaluate(catch["Output"], kept | {"next": "follow"}) if "Output" in catch else None
        if not isinstance(said, dict) or not (kept | {"next": "wait"}).items() <= said.items():
            yield f"{name}: {slower!r} doesn't get the state of the loop, with a wait as the next step"


def _verdict(definition: Definition) -> Iterator[str]:
    if not of_type(definition, "Succeed"):
        yield "nothing succeeds"
    for outcome in [*map(str, Status), "", None, "completed", MISSING]:
        end = definition["States"].get(choose(definition, IS_COMPLETED, outcome=outcome), {}).get("Type")
        expected = "Succeed" if outcome == "COMPLETED" else "Fail"
        if end != expected:
            yield f"{IS_COMPLETED}: {outcome!r} ends in {end}, not in {expected}"


def _reports_an_error(state: State) -> bool:
    """Whether a state turns anything, even what calls itself COMPLETED, into an ERROR to be notified."""
    if state.get("Type") != "Pass" or state.get("Next") != NOTIFY or "Output" not in state:
        return False
    inputs: list[dict[str, Any]] = [
        {},
        {"fault": "x"},
        {"outcome": "COMPLETED", "next": "done", "history": {}},
    ]
    for given in inputs:
        said = evaluate(state["Output"], given)
        if not isinstance(said, dict) or (said.get("outcome"), said.get("next")) != ("ERROR", "notify"):
            return False
    return True


def waits(definition: Definition) -> Iterator[str]:
    """Every way into a Wait is a Choice that lets only a whole number of seconds through, up to the limit."""
    for wait, state in of_type(definition, "Wait").items():
        if "wait_seconds" not in str(state.get("Seconds")):
            yield f"{wait}: doesn't wait for what was decided"
        for name, before in definition["States"].items():
            if wait in targets(before) and before["Type"] != "Choice":
                yield f"{name}: goes to {wait!r} unguarded"
            for rule in before.get("Choices", []):
                if rule["Next"] == wait:
                    yield from _guard(name, rule["Condition"])


def _guard(name: str, condition: str) -> Iterator[str]:
    steps = [step for step in NextStep if evaluate(condition, {"next": step, "wait_seconds": 1}) is True]
    if len(steps) != 1:
        yield f"{name}: a wait of one second is for {steps}"
        return
    for seconds in (2, 60, WAIT_LIMIT_S):
        if evaluate(condition, {"next": steps[0], "wait_seconds": seconds}) is not True:
            yield f"{name}: refuses to wait for {seconds} seconds"
    for nonsense in NO_WAITS:
        # Anything but false or true fails the execution, and from a Choice nothing is caught.
        if evaluate(condition, {"next": steps[0], "wait_seconds": nonsense}) is not False:
            yield f"{name}: would wait for {nonsense!r}"
    if evaluate(condition, {"next": steps[0]}) is not False:
        yield f"{name}: would wait for nobody knows how long"


def decisions(definition: Definition) -> Iterator[str]:
    """The machine knows each step that a function may decide on, and reports what it doesn't know."""
    (ask,) = (name for name in of_type(definition, "Choice") if name != IS_COMPLETED)
    for step in map(str, NextStep):
        if choose(definition, ask, next=step, wait_seconds=1) == definition["States"][ask]["Default"]:
            yield f"{ask}: doesn't know {step!r}"
    for nonsense in ("", "Poll", "dance", None, 7, MISSING):
        if choose(definition, ask, next=nonsense, wait_seconds=1) != definition["States"][ask]["Default"]:
            yield f"{ask}: knows what to do with {nonsense!r}"


def choose(definition: Definition, name: str, **given: object) -> str | None:
    """The state that a Choice goes to for this input; MISSING leaves a field out."""
    state = definition["States"].get(name, {})
    present = {key: value for key, value in given.items() if value is not MISSING}
    for rule in state.get("Choices", []):
        if evaluate(rule["Condition"], present) is True:
            return str(rule["Next"])
    default: str | None = state.get("Default")
    return default


def evaluate(text: str, given: dict[str, Any]) -> Any:
    """What a `{% … %}` comes to for a state's input; the failure, if it fails."""
    return _with_states(text, {"input": given})


def _with_states(text: str, states: dict[str, Any]) -> Any:
    inner = re.fullmatch(r"\s*\{%(.*)%\}\s*", text, re.DOTALL)
    assert inner, f"not an expression: {text}"
    try:
        return _compiled(inner[1]).evaluate(None, {"states": copy.deepcopy(states)})
    except JException as failure:
        # On AWS the execution fails here, whatever was asked.
        return failure


@cache
def _compiled(text: str) -> Any:
    return Jsonata(text)
