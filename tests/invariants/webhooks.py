"""Webhooks in a history: the queues, the receivers and the deliver function."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.fakes.clock import NOW
from tests.invariants.scheduler import Task
from tests.invariants.webhook_checks import Call, WebhookChecks
from tests.support import builders
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_host import OPEN_AFTER, PLACE_S, share_of
from waterhook.domain.webhook_settings import WebhookSettings
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.errors import SigningKeysUnavailableError
from waterhook.notifications.delivery_targets import WebhookTarget
from waterhook.notifications.webhook_queue import MAX_DELAY_S, WebhookQueue
from waterhook.steps.delivery_sweep import LOST_AFTER_S, SWEEP_INTERVAL_S
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.webhooks.sender import Attempt
from waterhook_cli.commands.erase import Eraser
from waterhook_cli.errors import CommandError

if TYPE_CHECKING:
    from tests.invariants.choice_sequence import ChoiceSequence
    from tests.invariants.dynamodb import Item
    from tests.invariants.simulation import Components, Simulation

# A message that was received and not deleted is visible again after this.
VISIBILITY_TIMEOUT_S = 90.0
# A container can be frozen during a request: longer than the claim of its attempt, and the place of its host.
FROZEN_S = 70.0
RECEIVER_TIMEOUT_S = 15.0
HOSTS = ("hooks.example.com", "other.example.com")
DAY_S = 24 * 3600.0
_EVENTS = (
    None,
    None,
    ["completed"],
    ["failed", "cancelled", "timed_out", "error", "rejected"],
    ["completed", "failed", "progress"],
)

_OK, _GONE, _UNAVAILABLE, _NOT_FOUND = (
    Attempt(204),
    Attempt(410, "http_status"),
    Attempt(503, "http_status"),
    Attempt(404, "http_status"),
)
_REDIRECT, _BUSY = Attempt(301, "redirect"), Attempt(429, "http_status", retry_after_s=7_200.0)
_TIMEOUT, _NO_CONNECTION = Attempt(None, "timeout"), Attempt(None, "no_connection")
# The receiver processed the event, and its answer was lost.
_LOST = Attempt(None, "bad_answer")
_ANSWERS = (_OK, _UNAVAILABLE, _OK, _NOT_FOUND, _TIMEOUT, _LOST, _BUSY, _REDIRECT, _NO_CONNECTION, _GONE)


def webhook_settings(choices: "ChoiceSequence") -> WebhookSettings:
    default = choices.pick(None, Webhook(f"https://{HOSTS[0]}/default"))
    return WebhookSettings(
        WebhookRules(HOSTS), default, queue_url="queue", table="deliveries", concurrency=choices.pick(8, 2)
    )


def webhook_of_request(choices: "ChoiceSequence") -> Any:
    """Return the `webhook` of a request: null stands for the default of the deployment."""
    url = choices.pick(
        f"https://{HOSTS[0]}/a", f"https://{HOSTS[0]}/b?token=1", f"https://{HOSTS[1]}/", "", "default"
    )
    if not url:
        return False
    if url == "default":
        return None
    return {"url": url, "events": choices.pick(*_EVENTS), "payload": choices.pick("full", "thin")}


@dataclass(eq=False)
class Message:
    """A message in a queue. Times are epoch seconds."""

    body: str
    visible_at: float


class Queue:
    """A client of one queue in SQS."""

    def __init__(self, simulation: "Simulation", on_send: Callable[[str], None]) -> None:
        self.messages: list[Message] = []
        self._simulation = simulation
        self._on_send = on_send

    def send_message(self, **arguments: Any) -> dict[str, Any]:
        self._add(arguments["MessageBody"], arguments["DelaySeconds"])
        return {}

    def send_message_batch(self, **arguments: Any) -> dict[str, Any]:
        failed = []
        for entry in arguments["Entries"]:
            if self._simulation.inject_fault():
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                self._add(entry["MessageBody"], entry["DelaySeconds"])
        return {"Failed": failed} if failed else {}

    def _add(self, body: str, delay_s: int) -> None:
        assert 0 <= delay_s <= MAX_DELAY_S
        self._on_send(body)
        self.messages.append(Message(body, self._simulation.clock.now + delay_s))


class Host:
    """What the receivers of one host answer."""

    def __init__(self, choices: "ChoiceSequence") -> None:
        self._choices = choices
        self.kind = choices.pick("works", "works", "differs", "differs", "is down", "is down", "is wrong")
        self.works_at = NOW
        if self.kind == "is down":
            self.works_at += choices.pick(60.0, 900.0, 7 * 3600.0, 3 * DAY_S)
        self._answer = _OK
        if self.kind == "is down":
            self._answer = choices.pick(_UNAVAILABLE, _TIMEOUT, _NO_CONNECTION, _NOT_FOUND)
        elif self.kind == "is wrong":
            self._answer = choices.pick(_NOT_FOUND, _UNAVAILABLE, _TIMEOUT)

    @property
    def works_in_time(self) -> bool:
        """Whether it works before the last attempt of each delivery."""
        return self.kind in {"works", "is down"}

    def answer(self, now: float) -> Attempt:
        if self.kind == "is down":
            return self._answer if now < self.works_at else _OK
        return self._choices.pick(*_ANSWERS) if self.kind == "differs" else self._answer


class Webhooks:
    """The surroundings of the deliver function, and the deliver function itself."""

    def __init__(self, simulation: "Simulation", settings: WebhookSettings) -> None:
        choices = simulation.choices
        self._simulation = simulation
        self._limit = share_of(settings.concurrency)
        self.checks = WebhookChecks(simulation, self._limit)
        self.table = self.checks.table
        self.queue = Queue(simulation, self.checks.check_message)
        self.dead_letters = Queue(simulation, self.checks.note_dead_letter)
        self.hosts = {host: Host(choices) for host in HOSTS}
        self.retention_s = choices.pick(30 * DAY_S, DAY_S)
        self.resends_left = choices.pick(0, 1, 0, 2)
        self.redeliveries_left = choices.pick(0, 0, 0, 1)
        self.erasures_left = choices.pick(0, 0, 0, 1)
        self._waiting_since: dict[Task, int] = {}
        """Since how many calls to other systems each erasure waits."""
        self.while_frozen: Callable[[str], None] = lambda _event_id: None
        """Called with an event id while the call of the deliver function for it is frozen."""
        self.next_sweep_at = NOW + SWEEP_INTERVAL_S
        self._fail_before(choices.pick(0, 0, OPEN_AFTER - 1))

    def build(
        self,
        records: ExecutionsTable,
        dynamodb: Any,
        faulty: Callable[[object, str], Any],
        components: "Components",
    ) -> WebhookTarget:
        """Build the deliver function and return the target of its queue.

        `faulty` returns a client, the calls of which may fail, of a service and the name of its outage.
        """
        clock, client = self._simulation.clock, faulty(self.table, "table")
        deliveries = components.deliveries("deliveries", client)
        messages = WebhookQueue("queue", lambda: faulty(self.queue, "queue"))
        dead_letters = WebhookQueue("dead letters", lambda: faulty(self.dead_letters, ""))
        requests = components.webhook_requests(self, lambda ref: ref, builders.SOURCE, clock)
        hosts = components.hosts("deliveries", client, limit=self._limit, sleep=clock.sleep)
        self.deliver_step = components.deliver_step(
            records,
            deliveries,
            messages,
            dead_letters,
            requests,
            components.webhook_attempts(hosts, requests, self, clock, self._next_token),
            retention_s=self.retention_s,
            clock=clock,
        )
        # The index is read without faults: one would end the whole sweep.
        raw: Any = self.table
        self._sweeper = components.delivery_sweeper(components.deliveries("deliveries", raw), messages, clock)
        self.resender = components.resender(
            records, deliveries, messages, retention_s=self.retention_s, clock=clock
        )
        self._deliveries, self._dynamodb = deliveries, dynamodb
        return components.webhook_target(messages, builders.SOURCE)

    def _next_token(self) -> str:
        task = self.checks.task()
        token = f"{task.began_at}-{len(self.checks.calls)}-{self._simulation.calls}"
        self.checks.calls[task].token = token
        return token

    def _fail_before(self, count: int) -> None:
        """Let a host have failed for other customers."""
        if count:
            attributes: Item = {"failures": {"N": str(count)}, "version": {"N": "1"}, "places": {"M": {}}}
            self.table.items["hosts", HOSTS[0]] = attributes | {"pk": {"S": "hosts"}, "sk": {"S": HOSTS[0]}}
            self.checks.failures[HOSTS[0]] = count

    # ---- The queue ---------------------------------------------------------------------------------------------

    def visible(self) -> list[Message]:
        now = self._simulation.clock.now
        return [message for message in self.queue.messages if message.visible_at <= now]

    def receive(self, message: Message) -> Task:
        """Return the call of the deliver function for a message."""
        message.visible_at = self._simulation.clock.now + VISIBILITY_TIMEOUT_S
        if self._simulation.inject_fault():
            # SQS delivers a message more than once, in rare cases at the same time.
            message.visible_at = self._simulation.clock.now
        body = json.loads(message.body)
        task = Task("deliver", lambda: self.deliver_step.deliver(body))
        call = Call(self._simulation.calls, self._simulation.fault_count)
        if "progress" not in body:
            call.event_id = body["event_id"]
            call.restarts = self.checks.events[call.event_id].restarts
        self.checks.calls[task] = call
        return task

    def settle(self, message: Message, task: Task) -> None:
        """Delete the message of a call, unless the call failed."""
        call = self.checks.calls.pop(task)
        if task.error is not None:
            return
        if message in self.queue.messages:
            self.queue.messages.remove(message)
        if call.faults == self._simulation.fault_count and not self._simulation.outage.target:
            self.checks.check_ended(call)

    def sweep(self) -> object:
        return self._sweeper.sweep(lambda: 30.0)

    def next_due_at(self) -> float | None:
        """Return when the next message is visible, or the next sweep finds something; None if nothing is left."""
        due = [message.visible_at for message in self.queue.messages]
        for item in self.table.items.values():
            shard = item.get("undelivered", {"S": "failed"})["S"]
            if shard != "failed":
                ahead_s = -LOST_AFTER_S - 1 if item["queued"]["BOOL"] else SWEEP_INTERVAL_S
                due.append(self._sweep_at(float(item["next_at"]["N"]) - ahead_s))
        return min(due, default=None)

    def _sweep_at(self, wanted_at: float) -> float:
        """Return the time of the first sweep from `wanted_at` on."""
        missing_s = max(wanted_at - self.next_sweep_at, 0.0)
        return self.next_sweep_at + -(-missing_s // SWEEP_INTERVAL_S) * SWEEP_INTERVAL_S

    def erase(self, execution_id: str) -> None:
        """Delete the data of an execution, as an operator does. A second erasure finds nothing."""
        no_objects: Any = SimpleNamespace(
            get_paginator=lambda _operation: SimpleNamespace(paginate=lambda **_arguments: [])
        )
        eraser = Eraser(
            self._dynamodb,
            no_objects,
            table="executions",
            bucket="results",
            deliveries=self._deliveries,
            clock=self._simulation.clock,
            sleep=self._wait_for_calls,
        )
        with suppress(CommandError):
            eraser.erase(execution_id)
            self.checks.erased_at[execution_id] = self._simulation.calls

    def _wait_for_calls(self, seconds: float) -> None:
        """Let the time pass in which each call of the deliver function that has begun ends."""
        task = self.checks.task()
        self._waiting_since[task] = self._simulation.calls
        self._simulation.clock.advance(seconds)
        self._simulation.scheduler.pause()
        del self._waiting_since[task]

    def must_wait(self, task: Task) -> bool:
        """Whether a call of the deliver function runs that began before `task` began to wait."""
        since = self._waiting_since.get(task)
        return since is not None and any(call.began_at <= since for call in self.checks.calls.values())

    # ---- Signing keys and receivers ----------------------------------------------------------------------------

    def keys_for(self, host: str) -> list[bytes]:
        if self._simulation.is_down("secret") or self._simulation.inject_fault(32):
            raise SigningKeysUnavailableError("the secret: AccessDeniedException")
        return [host.encode()]

    def prepare(self) -> None:
        """There is no CA bundle."""

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """Receive one request and return its answer."""
        host, call = WebhookUrl.parse(url).host, self.checks.calls[self.checks.task()]
        call.host, call.place_ends_at = host, call.place_ends_at or self._simulation.clock.now + PLACE_S
        self.checks.check_request(call, url, body, headers)
        call.is_sending = True
        try:
            call.answer = self._simulation.call(
                "send", lambda: self._answer(host), before=(_NO_CONNECTION, _UNAVAILABLE), after=(_LOST,)
            )
        finally:
            call.is_sending = False
        return call.answer

    def _answer(self, host: str) -> Attempt:
        answer = self.hosts[host].answer(self._simulation.clock.now)
        if self._simulation.inject_fault(16):
            self._simulation.clock.advance(FROZEN_S)
            self.while_frozen(self.checks.calls[self.checks.task()].event_id)
            self._simulation.pause()
        elif answer is _TIMEOUT:
            # All functions share one clock: the others would seem to hang too.
            self._simulation.clock.sleep(0.5 if self._simulation.others_can_run() else RECEIVER_TIMEOUT_S)
        return answer
