"""The state machine and Step Functions in memory: `next`, Wait, Retry and Catch as the ASL defines them."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError

from tests.invariants.dynamodb import refusal
from tests.invariants.scheduler import Crash, Task
from tests.invariants.simulation import Simulation
from waterhook.domain.loop_state import LoopState
from waterhook.errors import WaterhookError
from waterhook.timestamps import to_rfc3339

_ASL = Path(__file__).parents[2] / "statemachine" / "execution.asl.yaml"
_STATES = {
    "start": "Start execution",
    "follow": "Follow",
    "poll": "Poll",
    "cancel": "Cancel",
    "notify": "Notify",
}
# Errors that a function may raise. Any other error is a bug in the code under test, and History raises it.
EXPECTED_ERRORS = (WaterhookError, ClientError, BotoCoreError, Crash)


@cache
def _retriers() -> dict[str, list[dict[str, Any]]]:
    """Return the retriers of each step from the ASL."""
    states = yaml.safe_load(_ASL.read_text())["States"]
    return {step: states[state]["Retry"] for step, state in _STATES.items()}


def _delay_s(retrier: dict[str, Any], attempt: int) -> float:
    """Return the longest delay before an attempt of a retrier, in seconds."""
    delay_s = float(retrier["IntervalSeconds"] * retrier.get("BackoffRate", 1) ** (attempt - 1))
    return min(delay_s, float(retrier.get("MaxDelaySeconds", delay_s)))


class StateMachineExecution:
    """One execution of the state machine."""

    def __init__(self, simulation: Simulation, arn: str, execution_input: object) -> None:
        self.simulation, self.arn, self.execution_input = simulation, arn, execution_input
        self.started_at = to_rfc3339(simulation.clock.now) or ""
        self.status = "RUNNING"
        self.ended_at: float | None = None
        self.output: dict[str, Any] = {}
        self.wakes_at = simulation.clock.now
        self.task: Task | None = None
        self.was_stopped = False
        """It was stopped from outside, where no Catch applies."""
        self.poll_failed = False
        """A poll failed permanently."""
        self.start_failed = False
        """A start failed permanently, or its answer was lost. One of its attempts may have started the job."""
        self.lost_answers = 0
        """How often the answer of a function was lost. The state machine then calls the function again."""
        self._step = "start"
        self._state: dict[str, Any] = {}
        self._attempts: Counter[int] = Counter()

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a time, and not for a function."""
        return self.status == "RUNNING" and self.task is None

    def invoke(self) -> Task:
        """Return the call of the current state's function."""
        self.task = Task(self.arn, self._function())
        return self.task

    def settle(self, task: Task) -> None:
        """Use the result of a call. The result of a call that was given up is ignored."""
        if task is not self.task or self.status != "RUNNING":
            return
        self.task = None
        if task.error is None:
            self._attempts.clear()
            self._enter_next(json.loads(json.dumps(task.result)))
        else:
            is_unknown = isinstance(task.error, Crash) and self.simulation.choices.one_in(2)
            self._handle_error("Lambda.Unknown" if is_unknown else type(task.error).__name__)

    def lose_answer(self) -> None:
        """Give up the current call, whose function runs on."""
        if self.status == "RUNNING" and self.task is not None:
            self.task = None
            self.start_failed = self.start_failed or self._step == "start"
            self.lost_answers += 1
            self._handle_error("Lambda.SdkClientException")

    def stop(self, status: str) -> None:
        """End without a Catch, as StopExecution does. A function that is called at that time runs on."""
        if self.status == "RUNNING":
            self.status, self.task, self.ended_at = status, None, self.simulation.clock.now
            self.was_stopped = True

    def _function(self) -> Callable[[], object]:
        simulation, state, arn, started_at = self.simulation, self._state, self.arn, self.started_at
        match self._step:
            case "start":
                return lambda: simulation.start_step.start(
                    self.execution_input, owner=arn, started_at=started_at
                )
            case "poll":
                return lambda: _poll(simulation, state, arn)
            case "follow":
                return lambda: simulation.follow_step.follow(
                    LoopState.from_dict(state), simulation.settings.follow_s
                ).to_dict()
            case "cancel":
                return lambda: simulation.cancel_step.cancel(LoopState.from_dict(state), arn).to_dict()
        return lambda: _notify(simulation, state, arn, started_at)

    def _enter_next(self, state: dict[str, Any]) -> None:
        """Enter the state that the function chose, as the Choice `What next?` does."""
        self._state, step = state, state.get("next")
        wait_s = state.get("wait_seconds")
        is_valid_wait = isinstance(wait_s, int) and 1 <= wait_s <= 3600
        self.wakes_at = self.simulation.clock.now
        if step in {"notify", "follow", "poll", "cancel"}:
            self._step = step
        elif step in {"wait", "start"} and is_valid_wait:
            self._step = "poll" if step == "wait" else "start"
            self.wakes_at += wait_s or 0
        elif step == "done":
            self.status = "SUCCEEDED" if state["outcome"] == "COMPLETED" else "FAILED"
            self.output, self.ended_at = state, self.simulation.clock.now
        else:
            self._report_fault({})

    def _handle_error(self, error: str) -> None:
        """Retry the current state, or do what its Catch does."""
        for index, retrier in enumerate(_retriers()[self._step]):
            if error in retrier["ErrorEquals"] or "States.ALL" in retrier["ErrorEquals"]:
                self._attempts[index] += 1
                if self._attempts[index] <= retrier["MaxAttempts"]:
                    delay_s = self.simulation.choices.pick(1.5, 0.05)
                    if self.simulation.outage.target:
                        delay_s = _delay_s(retrier, self._attempts[index])
                    self.wakes_at = self.simulation.clock.now + delay_s
                    return
                break
        self._attempts.clear()
        self.wakes_at = self.simulation.clock.now
        if self._step == "follow":
            self._state |= {"follow_refused": True}
            self._step = "poll"
            self.wakes_at += self._state["wait_seconds"]
        elif self._step == "notify":
            self.status, self.ended_at = "FAILED", self.simulation.clock.now
        elif self._step == "poll":
            self._state |= {"fault": error, "next": "cancel"}
            self._step = "cancel"
            self.poll_failed = True
        else:
            if self._step == "start":
                self._state, self.start_failed = {}, True
            self._report_fault({"fault": error})

    def _report_fault(self, fault: dict[str, str]) -> None:
        execution_input = {} if "history" in self._state else {"input": self.execution_input}
        self._state = {"fault": "Waterhook.NoSuchStep"} | self._state | fault | execution_input
        self._state |= {"outcome": "ERROR", "next": "notify"}
        self._step = "notify"


def _poll(simulation: Simulation, state: dict[str, Any], arn: str) -> dict[str, Any]:
    simulation.enter_poll_function()
    return simulation.poll_step.poll(LoopState.from_dict(state), arn).to_dict()


def _notify(simulation: Simulation, state: dict[str, Any], arn: str, started_at: str) -> dict[str, Any]:
    reporter = simulation.fault_reporter
    output = reporter.conflict(state, owner=arn, started_at=started_at)
    if output is None:
        loop_state = reporter.loop_state(state, owner=arn, started_at=started_at)
        output = simulation.notifier.notify(loop_state, arn)
    return output


class StepFunctions:
    """The API of Step Functions, with the executions of one state machine by their ARNs."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.executions: dict[str, StateMachineExecution] = {}

    def start_execution(self, **arguments: Any) -> dict[str, Any]:
        """Start an execution. A name that is taken is an error, unless that execution runs and has the same input."""
        arn = arguments["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{arguments['name']}"
        execution_input = json.loads(arguments["input"])
        existing = self.executions.get(arn)
        if existing is None:
            self.executions[arn] = StateMachineExecution(self._simulation, arn, execution_input)
        elif existing.status != "RUNNING" or existing.execution_input != execution_input:
            raise refusal("ExecutionAlreadyExists", "StartExecution")
        return {"executionArn": arn}

    def list_executions(self, **arguments: Any) -> dict[str, Any]:
        """Return the running executions."""
        return {"executions": [{"executionArn": execution.arn} for execution in self.running()]}

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        """Return the status of an execution, and when it ended."""
        execution = self.executions.get(arguments["executionArn"])
        if execution is None:
            raise refusal("ExecutionDoesNotExist", "DescribeExecution")
        if execution.ended_at is None:
            return {"status": execution.status}
        return {"status": execution.status, "stopDate": datetime.fromtimestamp(execution.ended_at, UTC)}

    def running(self) -> list[StateMachineExecution]:
        return [execution for execution in self.executions.values() if execution.status == "RUNNING"]
