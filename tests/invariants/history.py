"""One history: requests, what happens to them, and who goes on when. All of it is read from a choices."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.invariants.choice_sequence import ChoiceSequence
from tests.invariants.invariants import FinalState, broken
from tests.invariants.machine import EXPECTED, Engine, Execution
from tests.invariants.scheduler import Scheduler, Task
from tests.invariants.world import PATIENT_S, Parts, World
from tests.support.builders import CALLER, MACHINE
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.steps.reconcile import EndedExecution
from waterhook.steps.sweep import SweepResult

# Far more calls than any history makes that ends.
MAX_POINTS = 4_000
# Within how many calls something happens: the start is where most races are.
_SPREADS = (6, 12, 40)


@dataclass
class Wanted:
    """What one caller or event source requests, perhaps more than once."""

    trigger: str
    name: str
    request: dict[str, Any]
    ids: list[str] = field(default_factory=list)
    """The ids that it was given, newest last."""

    def fields(self, marker: str) -> dict[str, Any]:
        return self.request | {"input_data": {"marker": marker}}


class History:
    """Runs it to its end, and returns which invariants it broke."""

    def __init__(self, choices: ChoiceSequence, parts: Parts, scheduler: Scheduler) -> None:
        self._choices, self._scheduler = choices, scheduler
        self._world = World(choices, parts, scheduler)
        self._engine = Engine(self._world)
        self._service = self._world.service(self._engine)
        self._tasks: list[tuple[Task, Callable[[Task], None]]] = []
        self._plans: list[tuple[int, int, Callable[[], None]]] = []
        self._reported: set[str] = set()
        self._count = 0
        self._swept_at_last = self._sweeping = False
        self._accepting: list[Task] = []
        """Calls of the API that may be starting an execution."""
        self._world.runs = lambda arn: (
            arn in self._engine.executions and self._engine.executions[arn].status == "RUNNING"
        )
        self._world.attention = lambda: (
            len(self._tasks) > 1
            or any(
                one.waits and one.wake_at <= self._world.clock.now for one in self._engine.executions.values()
            )
        )

    def run(self) -> list[str]:
        """Return what was broken, in words; nothing when all promises held."""
        for index in range(self._choices.pick(1, 1, 2)):
            wanted = self._wanted(index)
            # An impatient caller repeats the request immediately.
            for _ in range(self._choices.pick(1, 1, 1, 2)):
                self._plan(self._choices.choose(4), partial(self._ask, wanted, wanted.name))
            for _ in range(self._choices.pick(0, 1, 2, 3, 4)):
                self._plan(self._choices.choose(self._choices.pick(*_SPREADS)), self._happening(wanted))
        while self._go_on():
            if self._world.points > MAX_POINTS:
                return ["it does not end"]
        return broken(FinalState(self._world, list(self._engine.executions.values())))

    def _wanted(self, index: int) -> Wanted:
        trigger = self._choices.pick(
            "api", "api", "states", "states", "events", "events", "api without a key", "invalid"
        )
        request: dict[str, Any] = {
            "chatbot_id": "support-chat",
            "timeout_seconds": self._choices.pick(120, 120, 120, 25, 4)
            if not self._world.outage.what
            else PATIENT_S,
            "progress_events": self._choices.one_in(4),
            "deliver_to": self._choices.pick(["sns", "dynamodb"], ["sns", "dynamodb"], ["sns"]),
        }
        name = f"{trigger} {index}"
        if trigger in {"api", "states"}:
            request["idempotency_key"] = name
        return Wanted(trigger, name, request | ({"chatbot_id": 5} if trigger == "invalid" else {}))

    def _happening(self, wanted: Wanted) -> Callable[[], None]:
        return self._choices.pick(
            lambda: self._ask(wanted, wanted.name),
            lambda: self._cancel(wanted),
            lambda: self._one(lambda one: one.stop("ABORTED")),
            lambda: self._one(lambda one: one.lose()),
            lambda: self._cancel(wanted),
            lambda: self._ask(wanted, f"{wanted.name}, but different"),
            lambda: self._one(lambda one: one.stop(self._choices.pick("FAILED", "TIMED_OUT"))),
            self._sweep,
        )

    def _plan(self, after: int, what: Callable[[], None]) -> None:
        """Let something happen a number of calls from now: between any two of whatever goes on then."""
        self._count += 1
        self._plans.append((self._world.points + after, self._count, what))
        self._plans.sort(key=lambda plan: plan[:2])
        self._world.due_at = self._plans[0][0]

    def _go_on(self) -> bool:
        """Let one of them take a turn; return whether there was one."""
        world = self._world
        self._report()
        if self._plans and self._plans[0][0] <= world.points:
            self._happen()
            return True
        executions = self._engine.executions.values()
        waiting = [one for one in executions if one.waits]
        ready = [one for one in waiting if one.wake_at <= world.clock.now]
        # A sweep leaves alone what was accepted less than five minutes ago, by when every call of the API is over.
        tasks = [entry for entry in self._tasks if not (self._sweeping and entry[0] in self._accepting)]
        if turns := len(tasks) + len(ready):
            turn = self._choices.choose(turns) if turns > 1 else 0
            if turn >= len(tasks):
                one = ready[turn - len(tasks)]
                self._enter(one.invoke(), one.settle)
                tasks.append(self._tasks[-1])
                turn = len(tasks) - 1
            self._step(*tasks[turn])
        elif waiting:
            world.clock.now = min(one.wake_at for one in waiting)
            world.points += 1
        elif self._plans:
            self._happen()
        elif not self._swept_at_last:
            self._swept_at_last = True
            self._sweep()
        else:
            return False
        return True

    def _happen(self) -> None:
        _, _, what = self._plans.pop(0)
        self._world.due_at = self._plans[0][0] if self._plans else float("inf")
        what()

    def _enter(self, task: Task, then: Callable[[Task], None]) -> None:
        self._tasks.append((task, then))

    def _step(self, task: Task, then: Callable[[Task], None]) -> None:
        self._scheduler.step(task)
        if task.done:
            self._tasks.remove((task, then))
            if task.error is not None and not isinstance(task.error, EXPECTED):
                raise task.error
            then(task)

    def _report(self) -> None:
        """Reconcile the executions that ended badly, as the rule on status events does, unless the event is lost."""
        for one in self._engine.executions.values():
            if one.status not in {"RUNNING", "SUCCEEDED"} and one.arn not in self._reported:
                self._reported.add(one.arn)
                for _ in range(self._choices.pick(1, 1, 2, 0)):
                    self._plan(self._choices.choose(12), partial(self._reconcile, one))

    def _reconcile(self, one: Execution) -> None:
        ended = EndedExecution(one.arn, one.status, one.given, one.started_at, one.output.get("error_name"))
        task = Task(f"reconcile {one.arn}", lambda: self._world.reconcile_step.close(ended))
        self._enter(task, lambda task: self._again(lambda: self._reconcile(one)) if task.error else None)

    def _again(self, what: Callable[[], None]) -> None:
        self._world.outlive_the_outage()
        self._plan(3, what)

    def _sweep(self) -> None:
        """Sweep, one at a time, and again until it ends without a failure."""
        if self._sweeping:
            return
        if self._accepting:
            self._plan(3, self._sweep)
            return
        self._sweeping = True
        running = (one.arn for one in self._engine.executions.values() if one.status == "RUNNING")
        self._world.not_the_sweeps = frozenset(running)
        self._enter(Task("sweep", lambda: self._world.sweep(self._engine)), self._swept)

    def _swept(self, task: Task) -> None:
        self._sweeping = False
        swept = task.result
        if not isinstance(swept, SweepResult) or swept.failed or swept.left:
            self._again(self._sweep)

    def _one(self, what: Callable[[Execution], None]) -> None:
        executions = [one for one in self._engine.executions.values() if one.status == "RUNNING"]
        if executions:
            what(executions[self._choices.choose(len(executions)) if len(executions) > 1 else 0])

    def _ask(self, wanted: Wanted, marker: str) -> None:
        """Make a request, for the first time or again."""
        self._count += 1
        name = f"run-{self._count}"
        if wanted.trigger == "api without a key":
            marker = name
        if wanted.trigger.startswith("api"):
            task = Task("api", lambda: self._accept(wanted, marker))
            self._accepting.append(task)
            self._enter(task, self._accepting.remove)
            return
        raw: Any = wanted.fields(marker)
        arn = MACHINE.replace(":stateMachine:", ":execution:") + f":{name}"
        given = {"event_id": wanted.name, "request": raw} if wanted.trigger == "events" else raw
        self._engine.executions[arn] = Execution(self._world, arn, given)
        source, key = (
            ("events", wanted.name) if wanted.trigger == "events" else ("states", raw.get("idempotency_key"))
        )
        wanted.ids += [derive_execution_id(source, key)] if key else []

    def _accept(self, wanted: Wanted, marker: str) -> None:
        record = self._service.accept(wanted.fields(marker), CALLER)
        self._world.seen.accepted[record.execution_id] = marker
        wanted.ids.append(record.execution_id)

    def _cancel(self, wanted: Wanted) -> None:
        if wanted.ids:
            self._enter(Task("api", lambda: self._ask_to_cancel(wanted.ids[-1])), lambda _: None)

    def _ask_to_cancel(self, execution_id: str) -> None:
        record = self._world.records.get(execution_id, self._world.clock.now)
        if record is not None:
            answer = self._world.execution_canceller.cancel(record)
            self._world.seen.answers.append((execution_id, answer))
