"""One history: a few requests, events that happen to them, and the order in which the functions' calls run."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.invariants.choice_sequence import ChoiceSequence
from tests.invariants.invariants import Invariant, Violation, find_violations
from tests.invariants.scheduler import Scheduler, Task
from tests.invariants.simulation import LONG_TIMEOUT_S, Components, Simulation
from tests.invariants.state_machine import EXPECTED_ERRORS, StateMachineExecution, StepFunctions
from tests.invariants.webhooks import Message, Webhooks, webhook_of_request
from tests.support.builders import CALLER, MACHINE
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.steps.delivery_sweep import SWEEP_INTERVAL_S
from waterhook.steps.reconcile import EndedExecution
from waterhook.steps.sweep import SweepResult

# A history that ends makes far fewer calls.
MAX_CALLS = 4_000
# Events happen within this many calls. Most races are at the start, so most events come early.
_EVENT_SPANS = (6, 12, 40)
# Between a failed reconcile or sweep and the next attempt.
_CALLS_BEFORE_RETRY = 3
# The deliveries of webhooks end within this many calls after the executions have ended.
_MAX_DELIVERY_CALLS = 3_000
# The schedule of the sweep. Only histories with an outage take this long.
_SWEEP_EVERY_S = 900.0


@dataclass
class Requester:
    """A caller of the API or an event source, which sends one request, perhaps several times."""

    trigger: str
    name: str
    """The idempotency key, or the event's id."""
    request: dict[str, Any]
    execution_ids: list[str] = field(default_factory=list)
    """The ids that it received, newest last."""

    def request_with(self, marker: str) -> dict[str, Any]:
        return self.request | {"input_data": {"marker": marker}}


class History:
    """Runs one history to its end. Everything that happens in it is read from the choices."""

    def __init__(self, choices: ChoiceSequence, components: Components, scheduler: Scheduler) -> None:
        self._choices, self._scheduler = choices, scheduler
        self._simulation = Simulation(choices, components, scheduler)
        self._step_functions = StepFunctions(self._simulation)
        self._service = self._simulation.build_service(self._step_functions)
        self._tasks: list[tuple[Task, Callable[[Task], None]]] = []
        """Calls of functions that have not ended, and what to do when they end."""
        self._last_step: tuple[Task, Callable[[Task], None]] | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        """What happens after how many calls, in order."""
        self._count = 0
        self._reconciled: set[str] = set()
        self._is_sweeping = self._had_last_sweep = False
        self._deliveries_end_at: int | None = None
        """The number of calls by which the deliveries must have ended."""
        self._next_sweep_at = self._simulation.outage.ends_at + _SWEEP_EVERY_S
        self._accept_tasks: list[Task] = []
        """Calls of the API that may be starting a state machine execution."""
        if self._simulation.webhooks is not None:
            self._simulation.webhooks.while_frozen = self._operate_while_frozen
        executions = self._step_functions.executions
        self._simulation.is_running = lambda arn: arn in executions and executions[arn].status == "RUNNING"
        self._simulation.others_can_run = lambda: len(self._tasks) > 1 or bool(self._ready())

    def run(self) -> list[Violation]:
        """Return the violations: none if every invariant is true."""
        for index in range(self._choices.pick(1, 1, 2)):
            requester = self._requester(index)
            # Some clients send the same request twice at the same time.
            for _ in range(self._choices.pick(1, 1, 1, 2)):
                self._plan(self._choices.choose(4), partial(self._send, requester, requester.name))
            for _ in range(self._choices.pick(0, 1, 2, 3, 4)):
                calls = self._choices.choose(self._choices.pick(*_EVENT_SPANS))
                self._plan(calls, self._event(requester))
        self._scheduler.run(self._next_task)
        if self._simulation.calls > MAX_CALLS:
            return [Violation(Invariant.HISTORY_ENDS, f"there were {MAX_CALLS} calls")]
        return find_violations(self._simulation, list(self._step_functions.executions.values()))

    def _requester(self, index: int) -> Requester:
        trigger = self._choices.pick(
            "api", "api", "states", "states", "events", "events", "api without a key", "invalid"
        )
        timeout_s = self._choices.pick(120, 120, 120, 25, 4)
        request: dict[str, Any] = {
            "chatbot_id": 5 if trigger == "invalid" else "support-chat",
            "timeout_seconds": LONG_TIMEOUT_S if self._simulation.outage.target else timeout_s,
            "progress_events": self._choices.one_in(4),
            "deliver_to": self._deliver_to(),
        }
        if self._simulation.webhooks is not None:
            request["webhook"] = webhook_of_request(self._choices)
            request["deliver_to"] = self._choices.pick(request["deliver_to"], ["dynamodb"])
            # Without one of them, such a request is refused.
            request["progress_events"] &= not {"sns", "eventbridge"}.isdisjoint(request["deliver_to"])
        name = f"{trigger} {index}"
        if trigger in {"api", "states"}:
            request["idempotency_key"] = name
        return Requester(trigger, name, request)

    def _deliver_to(self) -> list[str]:
        # One choice, with or without a bus.
        choice = self._choices.choose(9)
        without_bus = ["sns"] if choice // 3 == 2 else ["sns", "dynamodb"]
        if not self._simulation.has_bus:
            return without_bus
        return (without_bus, [*without_bus, "eventbridge"], ["eventbridge", *without_bus[1:]])[choice % 3]

    def _event(self, requester: Requester) -> Callable[[], None]:
        """Choose an event that happens during the history."""
        return self._choices.pick(
            lambda: self._send(requester, requester.name),
            lambda: self._cancel(requester),
            lambda: self._with_running(lambda execution: execution.stop("ABORTED")),
            lambda: self._with_running(lambda execution: execution.lose_answer()),
            lambda: self._cancel(requester),
            lambda: self._send(requester, f"{requester.name}, but different"),
            lambda: self._with_running(
                lambda execution: execution.stop(self._choices.pick("FAILED", "TIMED_OUT"))
            ),
            self._sweep,
        )

    def _plan(self, calls: int, event: Callable[[], None]) -> None:
        """Plan an event for after this many further calls, so that it can happen between any two of them."""
        self._count += 1
        self._events.append((self._simulation.calls + calls, self._count, event))
        self._events.sort(key=lambda planned: planned[:2])
        self._simulation.next_event_at = self._events[0][0]

    def _next_task(self) -> Task | None:
        """Return the task that runs to its next pause, after the events before it, or None at the end."""
        if self._last_step is not None:
            self._settle(*self._last_step)
            self._last_step = None
        while self._simulation.calls <= MAX_CALLS:
            self._plan_reconciles()
            if self._events and self._events[0][0] <= self._simulation.calls:
                self._happen()
                continue
            self._last_step = self._choose_step()
            if self._last_step is not None:
                return self._last_step[0]
            if not self._let_time_pass():
                return None
        return None

    def _choose_step(self) -> tuple[Task, Callable[[Task], None]] | None:
        """Return one of the tasks that can continue, or the next task of an execution whose wait is over.

        Or the call of the deliver function for a message.
        """
        tasks = [entry for entry in self._tasks if not self._must_wait(entry[0])]
        ready: list[StateMachineExecution | Message] = [*self._ready()]
        if self._simulation.webhooks is not None:
            ready += self._simulation.webhooks.visible()
        count = len(tasks) + len(ready)
        if not count:
            return None
        index = self._choices.choose(count) if count > 1 else 0
        if index < len(tasks):
            return tasks[index]
        chosen = ready[index - len(tasks)]
        if isinstance(chosen, Message):
            self._receive(chosen)
        else:
            self._add_task(chosen.invoke(), chosen.settle)
        return self._tasks[-1]

    def _must_wait(self, task: Task) -> bool:
        # A sweep ignores records that are younger than five minutes. By then each call of the API has ended.
        if self._is_sweeping and task in self._accept_tasks:
            return True
        return self._simulation.webhooks is not None and self._simulation.webhooks.must_wait(task)

    def _let_time_pass(self) -> bool:
        """Advance to the end of a wait, or to the next event. Return False where nothing is left to do."""
        simulation = self._simulation
        if waiting := self._waiting():
            wakes_at = [execution.wakes_at for execution in waiting]
            if simulation.webhooks is not None:
                wakes_at += [message.visible_at for message in simulation.webhooks.queue.messages]
            simulation.clock.now = max(min(wakes_at), simulation.clock.now)
            simulation.calls += 1
            if simulation.outage.target and simulation.clock.now >= self._next_sweep_at:
                self._next_sweep_at = simulation.clock.now + _SWEEP_EVERY_S
                self._sweep()
        elif self._events:
            self._happen()
        elif not self._had_last_sweep:
            self._had_last_sweep = True
            self._sweep()
        elif simulation.webhooks is not None:
            return self._continue_deliveries(simulation.webhooks)
        else:
            return False
        return True

    def _continue_deliveries(self, webhooks: Webhooks) -> bool:
        """Advance to the next message or sweep of deliveries. Return False when the deliveries have ended."""
        simulation = self._simulation
        if self._deliveries_end_at is None:
            self._deliveries_end_at = simulation.calls + _MAX_DELIVERY_CALLS
            simulation.allow_faults(self._choices.pick(0, 0, 1, 2, 4))
        due_at = webhooks.next_due_at()
        if simulation.calls > min(self._deliveries_end_at, MAX_CALLS):
            return False
        if due_at is None or self._choices.one_in(16):
            # In the order of their outcomes: some ids are random.
            ended = [entry for entry in simulation.final_at if entry not in simulation.observed.erased]
            if not (ended and self._operate(webhooks, self._choices.pick(*ended))):
                return due_at is not None
            return True
        simulation.clock.now = max(due_at, simulation.clock.now)
        simulation.calls += 1
        if simulation.clock.now >= webhooks.next_sweep_at:
            webhooks.next_sweep_at = simulation.clock.now + SWEEP_INTERVAL_S
            self._add_task(Task("delivery sweep", webhooks.sweep), lambda _: None)
        return True

    def _receive(self, message: Message) -> None:
        """Call the deliver function for a message. An operator may do something at the same time."""
        webhooks = self._simulation.webhooks
        assert webhooks is not None
        body = json.loads(message.body)
        # The message of a delivery that has ended leads to the clean-up of its record: a time of races.
        has_ended = webhooks.checks.events[body["event_id"]].status is not None
        if self._choices.one_in(2 if has_ended else 5):
            self._operate(webhooks, body["execution_id"])
        self._add_task(webhooks.receive(message), partial(webhooks.settle, message))

    def _operate_while_frozen(self, event_id: str) -> None:
        webhooks = self._simulation.webhooks
        if webhooks is not None and self._choices.one_in(2):
            self._operate(webhooks, event_id.partition("/")[0])

    def _operate(self, webhooks: Webhooks, execution_id: str) -> bool:
        """Resend, redeliver or erase, whichever the history has planned and is left. Return whether one was."""
        request = {"execution_id": execution_id}
        if webhooks.resends_left:
            webhooks.resends_left -= 1
            self._add_task(Task("resend", lambda: webhooks.resender.resend(request)), lambda _: None)
        elif webhooks.redeliveries_left:
            webhooks.redeliveries_left -= 1
            redeliver = self._simulation.notifier.redeliver
            self._add_task(Task("redeliver", lambda: redeliver(execution_id)), self._note_redelivery)
        elif webhooks.erasures_left and self._deliveries_end_at is not None:
            webhooks.erasures_left -= 1
            self._add_task(Task("erase", lambda: webhooks.erase(execution_id)), lambda _: None)
        else:
            return False
        return True

    def _note_redelivery(self, task: Task) -> None:
        result: Any = task.result
        if task.error is None and result["redelivered"]:
            self._simulation.observed.redelivered.append(result["execution_id"])

    def _settle(self, task: Task, when_done: Callable[[Task], None]) -> None:
        """Use the result of a task that has ended."""
        if task.done:
            self._tasks.remove((task, when_done))
            if task.error is not None and not isinstance(task.error, EXPECTED_ERRORS):
                raise task.error
            when_done(task)

    def _waiting(self) -> list[StateMachineExecution]:
        return [execution for execution in self._step_functions.executions.values() if execution.is_waiting]

    def _ready(self) -> list[StateMachineExecution]:
        """Return the executions whose wait is over."""
        return [
            execution for execution in self._waiting() if execution.wakes_at <= self._simulation.clock.now
        ]

    def _happen(self) -> None:
        _, _, event = self._events.pop(0)
        self._simulation.next_event_at = self._events[0][0] if self._events else float("inf")
        event()

    def _add_task(self, task: Task, when_done: Callable[[Task], None]) -> None:
        task.began_at = self._simulation.calls
        self._tasks.append((task, when_done))

    def _plan_reconciles(self) -> None:
        """Plan the reconcile of each execution that failed: once, twice, or never, as EventBridge delivers it."""
        for execution in self._step_functions.executions.values():
            if execution.status not in {"RUNNING", "SUCCEEDED"} and execution.arn not in self._reconciled:
                self._reconciled.add(execution.arn)
                for _ in range(self._choices.pick(1, 1, 2, 0)):
                    self._plan(self._choices.choose(12), partial(self._reconcile, execution))

    def _reconcile(self, execution: StateMachineExecution) -> None:
        ended = EndedExecution(
            execution.arn,
            execution.status,
            execution.execution_input,
            execution.started_at,
            execution.output.get("error_name"),
        )

        def when_done(task: Task) -> None:
            if task.error is not None:
                self._repeat(lambda: self._reconcile(execution))

        name = f"reconcile {execution.arn}"
        self._add_task(Task(name, lambda: self._simulation.reconcile_step.close(ended)), when_done)

    def _repeat(self, event: Callable[[], None]) -> None:
        self._simulation.skip_outage()
        self._plan(_CALLS_BEFORE_RETRY, event)

    def _sweep(self) -> None:
        """Start a sweep, unless one runs. It is repeated until nothing in it fails."""
        if self._is_sweeping:
            return
        if self._accept_tasks:
            self._plan(_CALLS_BEFORE_RETRY, self._sweep)
            return
        self._is_sweeping = True
        running = (execution.arn for execution in self._step_functions.running())
        self._simulation.running_when_sweep_began = frozenset(running)
        self._add_task(Task("sweep", lambda: self._simulation.sweep(self._step_functions)), self._end_sweep)

    def _end_sweep(self, task: Task) -> None:
        self._is_sweeping = False
        result = task.result
        if not isinstance(result, SweepResult) or result.failed or result.left:
            self._repeat(self._sweep)

    def _with_running(self, action: Callable[[StateMachineExecution], None]) -> None:
        """Apply an action to one of the running executions, if there is one."""
        if running := self._step_functions.running():
            action(running[self._choices.choose(len(running)) if len(running) > 1 else 0])

    def _send(self, requester: Requester, marker: str) -> None:
        """Send a request, for the first time or again."""
        self._count += 1
        name = f"run-{self._count}"
        if requester.trigger == "api without a key":
            marker = name
        if requester.trigger.startswith("api"):
            task = Task("api", lambda: self._accept(requester, marker))
            self._accept_tasks.append(task)
            self._add_task(task, self._accept_tasks.remove)
            return
        is_event = requester.trigger == "events"
        request: Any = requester.request_with(marker)
        execution_input = {"event_id": requester.name, "request": request} if is_event else request
        arn = MACHINE.replace(":stateMachine:", ":execution:") + f":{name}"
        self._step_functions.executions[arn] = StateMachineExecution(self._simulation, arn, execution_input)
        key = requester.name if is_event else request.get("idempotency_key")
        if key:
            requester.execution_ids.append(derive_execution_id("events" if is_event else "states", key))

    def _accept(self, requester: Requester, marker: str) -> None:
        record = self._service.accept(requester.request_with(marker), CALLER)
        self._simulation.observed.accepted.setdefault(record.execution_id, set()).add(marker)
        requester.execution_ids.append(record.execution_id)

    def _cancel(self, requester: Requester) -> None:
        if requester.execution_ids:
            execution_id = requester.execution_ids[-1]
            self._add_task(Task("api", lambda: self._cancel_execution(execution_id)), lambda _: None)

    def _cancel_execution(self, execution_id: str) -> None:
        record = self._simulation.records.get(execution_id, self._simulation.clock.now)
        if record is not None:
            # Only operators see executions of other triggers than the API. Some of its executions they cancel too.
            by_operator = record.caller is None or self._simulation.calls % 2 == 1
            observed = self._simulation.observed
            observed.cancels_by_operators.setdefault(execution_id, set()).add(by_operator)
            answer = self._simulation.execution_canceller.cancel(record, by_operator=by_operator)
            observed.cancel_answers.append((execution_id, answer))
