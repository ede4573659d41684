"""Rules for the graph of the state machine: each is a function that yields the problems of a definition."""

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
# The only state from which a state machine execution may succeed.
IS_COMPLETED = "Completed?"
# A task that may fail while its job still runs, and the state that then cancels the job.
CANCELLED_BY = {"Poll": "Cancel"}
# A task that only saves time, and the state from which the loop continues without it.
OPTIONAL_TASKS = {"Follow": "What next?"}
# Values that the definition must refuse as wait_seconds. MiniStack fails on some of them, moto waits for others.
INVALID_WAITS: tuple[object, ...] = (
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
    """Return all problems of a definition. The keys of `function_timeouts_s` are names of substitutions."""
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
        yield "the state machine doesn't use JSONata"
    if not isinstance(definition.get("TimeoutSeconds"), int):
        yield "the state machine has no TimeoutSeconds"
    for name, state in definition["States"].items():
        if state.get("QueryLanguage", "JSONata") != "JSONata":
            yield f"{name}: doesn't use JSONata"


def targets(state: State) -> list[str]:
    """Return the states that may follow, in the order of the definition."""
    names = [rule["Next"] for rule in state.get("Choices", [])]
    names += [state[key] for key in ("Next", "Default") if key in state]
    return names + [catch["Next"] for catch in state.get("Catch", [])]


def reachable(definition: Definition, start: str, *, without: str | None = None) -> set[str]:
    """Return each state that can be reached from `start` without passing through `without`."""
    reached: set[str] = set()
    pending = [start]
    while pending:
        name = pending.pop()
        if name not in reached and name != without and name in definition["States"]:
            reached.add(name)
            pending += targets(definition["States"][name])
    return reached


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
    """A failed state leads to the outcome ERROR and a notification, and never to a Succeed state without them."""
    for name, state in definition["States"].items():
        if name in OPTIONAL_TASKS:
            yield from _continues_without(name, state)
        elif name in CANCELLED_BY:
            yield from _cancels_the_job(name, state)
        else:
            yield from _reports_the_fault(definition, name, state)
    for name, state in definition["States"].items():
        successes = [target for target in targets(state) if target in of_type(definition, "Succeed")]
        if successes and name != IS_COMPLETED:
            yield f"{name}: succeeds without passing {IS_COMPLETED!r}"
        if state.get("End") and state["Type"] != "Fail":
            yield f"{name}: ends the execution as succeeded"
        if state["Type"] == "Fail":
            yield from _has_error_and_cause(name, state)
    yield from _outcome(definition)


def _reports_the_fault(definition: Definition, name: str, state: State) -> Iterator[str]:
    after_fault = [catch["Next"] for catch in state.get("Catch", [])]
    if state["Type"] == "Choice" and name != IS_COMPLETED:
        after_fault.append(state.get("Default"))
    for target in after_fault:
        if not _reports_an_error(definition["States"].get(target, {})):
            yield f"{name}: a fault goes to {target!r}, which doesn't set the outcome to ERROR"
        for success in reachable(definition, target, without=NOTIFY) & of_type(definition, "Succeed").keys():
            yield f"{name}: a fault leads to {success!r} without a notification"


def _has_error_and_cause(name: str, state: State) -> Iterator[str]:
    """A Fail state has an error and a cause for each input. An expression that fails would hide both."""
    for state_input in ({}, {"error_name": None, "cause": 5}, {"error_name": ["x"]}):
        for field in ("Error", "Cause"):
            if not isinstance(evaluate(state[field], state_input), str):
                yield f"{name}: has no {field} for {state_input}"


def _cancels_the_job(name: str, state: State) -> Iterator[str]:
    """A failed task leads to the state that cancels its job, which gets the loop's state and the fault."""
    cancel = CANCELLED_BY[name]
    kept: dict[str, Any] = {"execution_id": "x", "history": {"polls": 3}, "v": 1}
    for catch in state.get("Catch", []):
        if catch["Next"] != cancel:
            yield f"{name}: a fault goes to {catch['Next']!r}, not to {cancel!r}"
        context = {"input": kept | {"next": "poll"}, "errorOutput": {"Error": "RuntimeError"}}
        output = _with_states(catch["Output"], context) if "Output" in catch else None
        if not isinstance(output, dict) or not (kept | {"fault": "RuntimeError"}).items() <= output.items():
            yield f"{name}: {cancel!r} doesn't get the state of the loop with the fault"


def _continues_without(name: str, state: State) -> Iterator[str]:
    """The failure of an optional task is no fault: the loop continues without it, with the same state."""
    fallback = OPTIONAL_TASKS[name]
    for catch in state.get("Catch", []):
        if catch["Next"] != fallback:
            yield f"{name}: a failure goes to {catch['Next']!r}, not to {fallback!r}"
        kept: dict[str, Any] = {"execution_id": "x", "wait_seconds": 4, "history": {"polls": 3}, "v": 1}
        output = evaluate(catch["Output"], kept | {"next": "follow"}) if "Output" in catch else None
        if not isinstance(output, dict) or not (kept | {"next": "wait"}).items() <= output.items():
            yield f"{name}: {fallback!r} doesn't get the state of the loop, with a wait as the next step"


def _outcome(definition: Definition) -> Iterator[str]:
    if not of_type(definition, "Succeed"):
        yield "there is no Succeed state"
    for outcome in [*map(str, Status), "", None, "completed", MISSING]:
        end = definition["States"].get(choose(definition, IS_COMPLETED, outcome=outcome), {}).get("Type")
        expected = "Succeed" if outcome == "COMPLETED" else "Fail"
        if end != expected:
            yield f"{IS_COMPLETED}: {outcome!r} ends in {end}, not in {expected}"


def _reports_an_error(state: State) -> bool:
    """Return whether a state sets the outcome ERROR and goes to Notify, also for an input with another outcome."""
    if state.get("Type") != "Pass" or state.get("Next") != NOTIFY or "Output" not in state:
        return False
    inputs: list[dict[str, Any]] = [
        {},
        {"fault": "x"},
        {"outcome": "COMPLETED", "next": "done", "history": {}},
    ]
    for state_input in inputs:
        output = evaluate(state["Output"], state_input)
        if not isinstance(output, dict) or (output.get("outcome"), output.get("next")) != ("ERROR", "notify"):
            return False
    return True


def waits(definition: Definition) -> Iterator[str]:
    """Only a Choice leads to a Wait state, and only for a whole number of seconds up to the limit."""
    for wait, state in of_type(definition, "Wait").items():
        if "wait_seconds" not in str(state.get("Seconds")):
            yield f"{wait}: doesn't use wait_seconds"
        for name, before in definition["States"].items():
            if wait in targets(before) and before["Type"] != "Choice":
                yield f"{name}: goes to {wait!r} without a check of wait_seconds"
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
            yield f"{name}: refuses the wait {seconds}"
    for invalid in INVALID_WAITS:
        # A result other than true or false fails the state machine execution: a Choice has no Catch.
        if evaluate(condition, {"next": steps[0], "wait_seconds": invalid}) is not False:
            yield f"{name}: accepts the wait {invalid!r}"
    if evaluate(condition, {"next": steps[0]}) is not False:
        yield f"{name}: accepts a missing wait_seconds"


def decisions(definition: Definition) -> Iterator[str]:
    """The state machine has a rule for each next step. An unknown step is a fault."""
    (router,) = (name for name in of_type(definition, "Choice") if name != IS_COMPLETED)
    for step in map(str, NextStep):
        if choose(definition, router, next=step, wait_seconds=1) == definition["States"][router]["Default"]:
            yield f"{router}: has no rule for {step!r}"
    for unknown in ("", "Poll", "dance", None, 7, MISSING):
        if (
            choose(definition, router, next=unknown, wait_seconds=1)
            != definition["States"][router]["Default"]
        ):
            yield f"{router}: has a rule for {unknown!r}"


def choose(definition: Definition, name: str, **state_input: object) -> str | None:
    """Return the state that a Choice goes to for this input. MISSING leaves a field out."""
    state = definition["States"].get(name, {})
    present = {key: value for key, value in state_input.items() if value is not MISSING}
    for rule in state.get("Choices", []):
        if evaluate(rule["Condition"], present) is True:
            return str(rule["Next"])
    default: str | None = state.get("Default")
    return default


def evaluate(text: str, state_input: dict[str, Any]) -> Any:
    """Return the value of a `{% … %}` for a state's input; the exception if it fails."""
    return _with_states(text, {"input": state_input})


def _with_states(text: str, states: dict[str, Any]) -> Any:
    inner = re.fullmatch(r"\s*\{%(.*)%\}\s*", text, re.DOTALL)
    assert inner, f"not an expression: {text}"
    try:
        return _compiled(inner[1]).evaluate(None, {"states": copy.deepcopy(states)})
    except JException as failure:
        # On AWS the state machine execution would fail here.
        return failure


@cache
def _compiled(text: str) -> Any:
    return Jsonata(text)
