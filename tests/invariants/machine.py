"""The state machine's loop, step by step: it obeys `next` as the ASL does, with its retries and its catches."""

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
from tests.invariants.world import World
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
# What a function may die of; anything else is a bug of ours and ends the test.
EXPECTED = (WaterhookError, ClientError, BotoCoreError, Crash)


@cache
def _retriers(step: str) -> list[dict[str, Any]]:
    """Return a step's retriers as the ASL has them."""
    retriers: list[dict[str, Any]] = yaml.safe_load(_ASL.read_text())["States"][_STATES[step]]["Retry"]
    return retriers


def _delay_s(retrier: dict[str, Any], attempt: int) -> float:
    """Return the longest delay before an attempt of a retrier."""
    delay_s = float(retrier["IntervalSeconds"] * retrier.get("BackoffRate", 1) ** (attempt - 1))
    return min(delay_s, float(retrier.get("MaxDelaySeconds", delay_s)))


class Execution:
    """One execution of the machine."""

    def __init__(self, world: World, arn: str, given: object) -> None:
        self.world, self.arn, self.given = world, arn, given
        self.started_at = to_rfc3339(world.clock.now) or ""
        self.status = "RUNNING"
        self.ended_at: float | None = None
        self.output: dict[str, Any] = {}
        self.wake_at = world.clock.now
        self.task: Task | None = None
        self.is_stopped = False
        """Whether it was ended where no Catch sees it."""
        self.has_lost_its_poll = False
        """Whether a poll failed permanently."""
        self.has_lost_its_start = False
        """Whether a start failed permanently; a call of it before may have started the job."""
        self._step = "start"
        self._state: dict[str, Any] = {}
        self._tries: Counter[int] = Counter()

    @property
    def waits(self) -> bool:
        """Whether nothing is under way but time."""
        return self.status == "RUNNING" and self.task is None

    def invoke(self) -> Task:
        """Return the call of the function that the current state is about."""
        self.task = Task(self.arn, self._function())
        return self.task

    def settle(self, task: Task) -> None:
        """Go on after a call, if it is still the one that is waited for."""
        if task is not self.task or self.status != "RUNNING":
            return
        self.task = None
        if task.error is None:
            self._tries.clear()
            state = json.loads(json.dumps(task.result))
            self._enter_next(state)
        else:
            crashed = isinstance(task.error, Crash) and self.world.choices.one_in(2)
            self._failed("Lambda.Unknown" if crashed else type(task.error).__name__)

    def lose(self) -> None:
        """Lose the answer of the call under way. The function hears nothing of it and goes on."""
        if self.status == "RUNNING" and self.task is not None:
            self.task = None
            self._failed("Lambda.SdkClientException")

    def stop(self, status: str) -> None:
        """End where no Catch sees it; what runs, runs on."""
        if self.status == "RUNNING":
            self.status, self.task, self.ended_at = status, None, self.world.clock.now
            self.is_stopped = True

    def _function(self) -> Callable[[], object]:
        world, state, arn, started_at = self.world, self._state, self.arn, self.started_at
        match self._step:
            case "start":
                return lambda: start(world, self.given, arn, started_at)
            case "poll":
                return lambda: poll(world, state, arn)
            case "follow":
                return lambda: world.follow_step.follow(
                    LoopState.from_dict(state), world.settings.follow_s
                ).to_dict()
            case "cancel":
                return lambda: world.cancel_step.cancel(LoopState.from_dict(state), arn).to_dict()
        return lambda: notify(world, state, arn, started_at)

    def _enter_next(self, state: dict[str, Any]) -> None:
        """Enter the state that the function chose, as `What next?` does."""
        self._state, step = state, state.get("next")
        wait = state.get("wait_seconds")
        patient = isinstance(wait, int) and 1 <= wait <= 3600
        self.wake_at = self.world.clock.now
        if step in {"notify", "follow", "poll", "cancel"}:
            self._step = step
        elif step in {"wait", "start"} and patient:
            self._step = "poll" if step == "wait" else "start"
            self.wake_at += wait or 0
        elif step == "done":
            self.status = "SUCCEEDED" if state["outcome"] == "COMPLETED" else "FAILED"
            self.output, self.ended_at = state, self.world.clock.now
        else:
            self._report({})

    def _failed(self, error: str) -> None:
        """Retry, or go where the Catch leads."""
        for index, retrier in enumerate(_retriers(self._step)):
            if error in retrier["ErrorEquals"] or "States.ALL" in retrier["ErrorEquals"]:
                self._tries[index] += 1
                if self._tries[index] <= retrier["MaxAttempts"]:
                    delay_s = self.world.choices.pick(1.5, 0.05)
                    if self.world.outage.what:
                        delay_s = _delay_s(retrier, self._tries[index])
                    self.wake_at = self.world.clock.now + delay_s
                    return
                break
        self._tries.clear()
        self.wake_at = self.world.clock.now
        if self._step == "follow":
            self._state |= {"follow_refused": True}
            self._step = "poll"
            self.wake_at += self._state["wait_seconds"]
        elif self._step == "notify":
            self.status, self.ended_at = "FAILED", self.world.clock.now
        elif self._step == "poll":
            self._state |= {"fault": error, "next": "cancel"}
            self._step = "cancel"
            self.has_lost_its_poll = True
        else:
            if self._step == "start":
                self._state, self.has_lost_its_start = {}, True
            self._report({"fault": error})

    def _report(self, fault: dict[str, str]) -> None:
        start = {} if "history" in self._state else {"input": self.given}
        self._state = {"fault": "Waterhook.NoSuchStep"} | self._state | fault | start
        self._state |= {"outcome": "ERROR", "next": "notify"}
        self._step = "notify"


def start(world: World, given: object, arn: str, started_at: str) -> dict[str, Any]:
    """Do what functions/start does with an event: the key is read before anything is written."""
    world.read_key()
    return world.start_step.start(given, owner=arn, started_at=started_at)


def poll(world: World, state: dict[str, Any], arn: str) -> dict[str, Any]:
    """Do what functions/poll does with an event."""
    world.run_poll()
    return world.poll_step.poll(LoopState.from_dict(state), arn).to_dict()


def notify(world: World, state: dict[str, Any], arn: str, started_at: str) -> dict[str, Any]:
    """Do what functions/notify does with an event."""
    output = world.reporter.conflict(state, owner=arn, started_at=started_at)
    if output is None:
        output = world.notifier.notify(
            world.reporter.loop_state(state, owner=arn, started_at=started_at), arn
        )
    return output


class Engine:
    """Step Functions: executions by name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.executions: dict[str, Execution] = {}

    def start_execution(self, **arguments: Any) -> dict[str, Any]:
        """Start one, or raise that its name is taken; while it runs, the same again is no error."""
        arn = arguments["stateMachineArn"].replace(":stateMachine:", ":execution:") + f":{arguments['name']}"
        given = json.loads(arguments["input"])
        there = self.executions.get(arn)
        if there is None:
            self.executions[arn] = Execution(self._world, arn, given)
        elif there.status != "RUNNING" or there.given != given:
            raise refusal("ExecutionAlreadyExists", "StartExecution")
        return {"executionArn": arn}

    def list_executions(self, **arguments: Any) -> dict[str, Any]:
        """Return those that run."""
        running = [one for one in self.executions.values() if one.status == "RUNNING"]
        return {"executions": [{"executionArn": one.arn} for one in running]}

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        """Return how one stands, by its ARN."""
        one = self.executions.get(arguments["executionArn"])
        if one is None:
            raise refusal("ExecutionDoesNotExist", "DescribeExecution")
        stopped = {} if one.ended_at is None else {"stopDate": datetime.fromtimestamp(one.ended_at, UTC)}
        return {"status": one.status, **stopped}
