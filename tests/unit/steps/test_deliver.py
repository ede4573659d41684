"""The deliver step: one attempt per message, and what follows from its result."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from tests.fakes.aws import FailingClient, Table, WebhookTable, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.builders import ID, SOURCE, final_record
from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import KEPT_AFTER_S, MAX_AGE_S, MAX_ATTEMPTS
from waterhook.errors import RecordUnavailableError, SigningKeysUnavailableError
from waterhook.notifications import notification_events
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.steps.deliver import DeliverStep
from waterhook.steps.deliver_batch import DeliverBatch
from waterhook.steps.delivered import DeliverResult
from waterhook.steps.delivery_sweep import DeliverySweeper
from waterhook.steps.resend import Resender
from waterhook.steps.webhook_attempts import WebhookAttempts
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook.timestamps import to_rfc3339
from waterhook.webhooks.sender import Attempt

URL = "https://hooks.example.com/in?token=s3cret"
WEBHOOK = Webhook(URL)
DAY_S = 24 * 3600.0
OK, DOWN = Attempt(200), Attempt(503, "http_status")
HANGS = Attempt(None, "timeout")


@dataclass
class Request:
    """A request that the receiver got."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Receiver:
    """A sender whose answers are scripted. The last answer is repeated."""

    answers: list[Attempt] = field(default_factory=lambda: [OK])
    requests: list[Request] = field(default_factory=list)
    during: Callable[[], object] = lambda: None

    def prepare(self) -> None:
        pass

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        self.requests.append(Request(url, body, dict(headers)))
        self.during()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass
class Messages:
    """A queue in memory: messages with the time from which they are visible."""

    clock: Clock
    waiting: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def send(self, message: Mapping[str, Any], delay_s: float = 0.0) -> None:
        assert delay_s <= 900
        self.waiting.append((self.clock.now + delay_s, json.loads(json.dumps(message))))

    def send_batch(self, messages: Any) -> int:
        for message, delay_s in messages:
            self.send(message, delay_s)
        return len(messages)

    def take(self) -> dict[str, Any] | None:
        """Return the next visible message and delete it."""
        due = sorted(
            (entry for entry in self.waiting if entry[0] <= self.clock.now), key=lambda entry: entry[0]
        )
        if not due:
            return None
        self.waiting.remove(due[0])
        return due[0][1]


class Keys:
    """Signing keys, unless they are unavailable."""

    fault: Exception | None = None

    def keys_for(self, host: str) -> list[bytes]:
        if self.fault is not None:
            raise self.fault
        return [f"key of {host}".encode()]


@dataclass
class World:
    """A deliver step with its surroundings."""

    table: Table
    webhooks: WebhookTable
    client: Any = None
    retention_s: float = 30 * DAY_S

    def __post_init__(self) -> None:
        self.clock = Clock(NOW + 61)
        self.receiver, self.keys = Receiver(), Keys()
        self.queue, self.dead_letters = Messages(self.clock), Messages(self.clock)

    @property
    def step(self) -> DeliverStep:
        return self.step_with(self.attempts)

    @property
    def batch(self) -> DeliverBatch:
        attempts, queue = self.attempts, cast("Any", self.queue)
        return DeliverBatch(self.step_with(attempts), attempts, queue, self.clock)

    @property
    def requests(self) -> WebhookRequests:
        return WebhookRequests(self.keys, lambda ref: f"https://signed/{ref}", SOURCE, self.clock)

    @property
    def attempts(self) -> WebhookAttempts:
        client = self.client or self.table.client
        hosts = WebhookHosts(self.webhooks.name, client, limit=2, sleep=lambda _seconds: None)
        return WebhookAttempts(hosts, self.requests, self.receiver, self.clock)

    def step_with(self, attempts: WebhookAttempts) -> DeliverStep:
        client = self.client or self.table.client
        queue: Any = self.queue
        dead_letters: Any = self.dead_letters
        return DeliverStep(
            ExecutionsTable(self.table.name, client),
            WebhookDeliveries(self.webhooks.name, client),
            queue,
            dead_letters,
            self.requests,
            attempts,
            retention_s=self.retention_s,
            clock=self.clock,
        )

    @property
    def resender(self) -> Resender:
        queue: Any = self.queue
        deliveries = self.webhooks.deliveries
        return Resender(self.table.records, deliveries, queue, retention_s=self.retention_s, clock=self.clock)

    @property
    def sweeper(self) -> DeliverySweeper:
        queue: Any = self.queue
        return DeliverySweeper(self.webhooks.deliveries, queue, self.clock)

    def put(self, **changes: Any) -> ExecutionRecord:
        values = {"webhook": WEBHOOK, "notified_at": to_rfc3339(NOW + 60), "final_output_json": '{"n":1.0}'}
        status = changes.pop("status", Status.COMPLETED)
        return self.table.put(
            final_record(status, **(values | {"expires_at": int(NOW + 40 * DAY_S)} | changes))
        )

    def deliver(self, record: ExecutionRecord) -> DeliverResult:
        return self.step.deliver(message_for(record)).result

    def delivery(self, record: ExecutionRecord) -> Delivery:
        stored = self.webhooks.deliveries.get(record.execution_id, notification_events.event_id(record))
        assert stored is not None
        return stored

    def run(self, *, until: float) -> None:
        """Let the time pass: messages are delivered when they are due, and a sweep runs every 15 minutes.

        Sweeps that would find nothing are left out.
        """
        while self.clock.now < until:
            while (message := self.queue.take()) is not None:
                self.step.deliver(message)
            due = [
                float(item["next_at"]["N"])
                for item in self.webhooks.items()
                if item.get("undelivered", {"S": "failed"})["S"] != "failed"
            ]
            due_in_sweeps = [max(at - 900, self.clock.now) // 900 * 900 + 900 for at in due]
            times = [at for at, _ in self.queue.waiting]
            self.clock.now = max(min([*times, *due_in_sweeps, until]), self.clock.now + 1)
            if self.clock.now in due_in_sweeps:
                self.sweeper.sweep(lambda: 100.0)


@pytest.fixture
def world(table: Table, webhook_table: WebhookTable) -> World:
    return World(table, webhook_table)


def message_for(record: ExecutionRecord) -> dict[str, str]:
    host = {"host": record.webhook.host} if record.webhook else {}
    return {"execution_id": record.execution_id, "event_id": notification_events.event_id(record)} | host


# ---- The request ---------------------------------------------------------------------------------------------------


def test_a_webhook_is_the_event_of_the_notification_with_its_signed_headers(world: World) -> None:
    record = world.put()
    assert world.deliver(record) is DeliverResult.DELIVERED
    (request,) = world.receiver.requests
    assert request.url == URL
    assert request.body.decode() == notification_events.outcome_event(record, SOURCE)
    assert request.headers["webhook-id"] == f"{ID}/1767225600000/COMPLETED"
    assert request.headers["webhook-timestamp"] == str(int(NOW + 61))
    assert request.headers["webhook-signature"].startswith("v1,")
    assert request.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"


def test_a_thin_webhook_has_no_output_and_no_link(world: World) -> None:
    world.deliver(world.put(webhook=replace(WEBHOOK, payload="thin"), output_ref="s3://results/x"))
    data = json.loads(world.receiver.requests[0].body)["data"]
    assert "final_output" not in data
    assert "final_output_url" not in data
    assert data["status"] == "COMPLETED"


def test_a_large_output_is_linked(world: World) -> None:
    world.deliver(world.put(final_output_json=None, output_ref="s3://results/x"))
    event = json.loads(world.receiver.requests[0].body)
    assert event["data"]["final_output_url"] == "https://signed/s3://results/x"
    assert event["dataref"] == "s3://results/x"


def test_every_attempt_has_the_same_id_and_body_and_its_own_timestamp(world: World) -> None:
    world.receiver.answers = [DOWN, HANGS, OK]
    record = world.put()
    world.queue.send(message_for(record))
    world.run(until=NOW + 3600)
    first, second, third = world.receiver.requests
    assert first.body == second.body == third.body
    assert len({request.headers["webhook-id"] for request in world.receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in world.receiver.requests}) == 3
    assert (world.delivery(record).status, world.delivery(record).attempts) == (DeliveryStatus.DELIVERED, 3)


# ---- Results of an attempt -------------------------------------------------------------------------------------


def test_a_failed_attempt_is_repeated_after_about_five_seconds(world: World) -> None:
    world.receiver.answers = [DOWN]
    record = world.put()
    assert world.deliver(record) is DeliverResult.RETRY
    ((at, message),) = world.queue.waiting
    assert 4.5 <= at - world.clock.now <= 6
    assert message == message_for(record)
    stored = world.delivery(record)
    assert (stored.status, stored.attempts, stored.last_code, stored.last_error) == (
        DeliveryStatus.PENDING,
        1,
        503,
        "http_status",
    )


def test_retry_after_postpones_the_next_attempt(world: World) -> None:
    world.receiver.answers = [replace(DOWN, retry_after_s=600.0)]
    record = world.put()
    world.deliver(record)
    assert world.queue.waiting[0][0] == pytest.approx(world.clock.now + 600, abs=1)


def test_an_answer_of_410_ends_the_delivery_without_a_dead_letter(world: World) -> None:
    world.receiver.answers = [Attempt(410, "http_status")]
    record = world.put()
    assert world.deliver(record) is DeliverResult.GONE
    assert (world.queue.waiting, world.dead_letters.waiting) == ([], [])
    assert world.delivery(record).status is DeliveryStatus.GONE
    assert world.deliver(record) is DeliverResult.DROPPED


def test_a_receiver_that_never_works_gets_ten_attempts_and_then_a_dead_letter(world: World) -> None:
    world.receiver.answers = [Attempt(404, "http_status")]
    record = world.put()
    world.queue.send(message_for(record))
    world.run(until=NOW + 6 * DAY_S)
    assert len(world.receiver.requests) == MAX_ATTEMPTS
    ((_, letter),) = world.dead_letters.waiting
    assert letter == message_for(record) | {
        "host": "hooks.example.com",
        "attempts": 10,
        "last_code": 404,
        "last_error": "http_status",
    }
    assert "s3cret" not in json.dumps(letter)
    assert world.delivery(record).status is DeliveryStatus.FAILED
    assert [entry.event_id for entry in world.webhooks.deliveries.failed()] == [
        world.delivery(record).event_id
    ]


@pytest.mark.parametrize("answer", [DOWN, HANGS, Attempt(None, "no_connection"), Attempt(301, "redirect")])
def test_an_outage_of_three_days_is_survived(world: World, answer: Attempt) -> None:
    world.receiver.answers = [answer]
    records = [world.put(execution_id=f"{number:032x}") for number in range(4)]
    for record in records:
        world.queue.send(message_for(record))
    world.run(until=NOW + 3 * DAY_S)
    world.receiver.answers = [OK]
    world.run(until=NOW + MAX_AGE_S)
    assert {world.delivery(record).status for record in records} == {DeliveryStatus.DELIVERED}
    assert world.dead_letters.waiting == []


# ---- Repeated, early and wrong messages --------------------------------------------------------------------------


def test_a_message_that_sqs_delivers_twice_makes_one_attempt(world: World) -> None:
    record = world.put()
    assert [world.deliver(record), world.deliver(record)] == [DeliverResult.DELIVERED, DeliverResult.DROPPED]
    assert len(world.receiver.requests) == 1


def test_a_second_message_during_an_attempt_makes_none(world: World) -> None:
    record = world.put()
    seen: list[DeliverResult] = []

    def deliver_again() -> None:
        world.receiver.during = lambda: None
        seen.append(world.deliver(record))

    world.receiver.during = deliver_again
    assert world.deliver(record) is DeliverResult.DELIVERED
    assert (seen, len(world.receiver.requests)) == ([DeliverResult.DROPPED], 1)


def test_a_message_before_its_time_makes_no_attempt(world: World) -> None:
    world.receiver.answers = [DOWN, OK]
    record = world.put()
    world.deliver(record)
    assert world.deliver(record) is DeliverResult.DROPPED
    world.clock.advance(6)
    assert world.deliver(record) is DeliverResult.DELIVERED


@pytest.mark.parametrize(
    "message",
    [None, "x", 5, [], {}, {"execution_id": ID}, {"execution_id": 1, "event_id": 2}, {"event_id": "x"}],
)
def test_a_malformed_message_is_dropped(world: World, message: object) -> None:
    world.put()
    assert world.step.deliver(message).result is DeliverResult.DROPPED
    assert world.receiver.requests == []


@pytest.mark.parametrize(
    "change",
    [
        {"webhook": None},
        {"created_at": to_rfc3339(NOW + 5)},
    ],
    ids=["without webhook", "of a later execution"],
)
def test_a_message_that_does_not_fit_its_record_is_dropped(world: World, change: dict[str, Any]) -> None:
    message = message_for(world.put())
    world.put(**change)
    assert world.step.deliver(message).result is DeliverResult.DROPPED
    assert world.receiver.requests == []


def test_the_delivery_of_an_erased_execution_is_deleted(world: World) -> None:
    world.receiver.answers = [DOWN]
    record = world.put()
    world.deliver(record)
    world.table.delete(record)
    assert world.step.deliver(message_for(record)).result is DeliverResult.DROPPED
    assert world.webhooks.deliveries.of_execution(record.execution_id) == []


def test_a_delivered_webhook_is_not_repeated_when_it_is_erased_between_two_reads(world: World) -> None:
    record = world.put()
    world.deliver(record)

    class ErasingClient:
        """Erases the execution after the first read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.table.client, name)

        def get_item(self, **arguments: Any) -> Any:
            answer = world.table.client.get_item(**arguments)
            world.table.delete(record)
            world.webhooks.deliveries.delete_of(record.execution_id)
            return answer

    world.client = ErasingClient()
    assert world.deliver(record) is DeliverResult.DROPPED
    assert len(world.receiver.requests) == 1


# ---- Faults of AWS and crashes -----------------------------------------------------------------------------------


def test_unavailable_keys_raise_and_count_no_attempt(world: World) -> None:
    world.keys.fault = SigningKeysUnavailableError("down")
    record = world.put()
    with pytest.raises(SigningKeysUnavailableError):
        world.deliver(record)
    world.keys.fault = None
    assert world.deliver(record) is DeliverResult.DELIVERED
    assert world.delivery(record).attempts == 1


def test_a_failing_table_raises_before_the_request_is_sent(world: World) -> None:
    record = world.put()
    world.client = FailingClient(
        world.table.client, {"update_item": client_error("InternalServerError", 500)}
    )
    with pytest.raises(RecordUnavailableError):
        world.deliver(record)
    assert world.receiver.requests == []


def _steps_of_a_delivery(table: Table, webhook_table: WebhookTable, answer: Attempt) -> int:
    world, counter = World(table, webhook_table), StepCounter()
    world.client = CountedClient(table.client, counter)
    world.receiver.answers = [answer]
    world.deliver(world.put(execution_id="f" * 32))
    webhook_table.deliveries.delete_of("f" * 32)
    return len(counter.steps)


@pytest.mark.parametrize("answer", [OK, DOWN], ids=["delivered", "failed"])
def test_a_delivery_that_is_killed_at_any_step_is_delivered_by_its_message_or_a_sweep(
    table: Table, webhook_table: WebhookTable, answer: Attempt
) -> None:
    for step in range(_steps_of_a_delivery(table, webhook_table, answer)):
        world = World(table, webhook_table)
        world.client = CountedClient(table.client, StepCounter(step))
        world.receiver.answers = [answer, OK]
        record = world.put(execution_id=f"{step:032x}")
        with pytest.raises(Killed):
            world.step.deliver(message_for(record))
        world.client = None
        # SQS delivers the message again after the visibility timeout.
        world.queue.send(message_for(record), 90)
        world.run(until=NOW + 3600)
        assert world.delivery(record).status is DeliveryStatus.DELIVERED
        requests = world.receiver.requests
        assert len({(request.headers["webhook-id"], request.body) for request in requests}) == 1


def test_an_attempt_without_a_result_counts_and_is_repeated(world: World) -> None:
    record = world.put()

    def crash() -> None:
        raise Killed("during the attempt")

    world.receiver.during = crash
    with pytest.raises(Killed):
        world.deliver(record)
    world.receiver.during = lambda: None
    assert world.deliver(record) is DeliverResult.DROPPED
    world.clock.advance(61)
    assert world.deliver(record) is DeliverResult.DELIVERED
    assert world.delivery(record).attempts == 2


def test_a_crash_during_the_last_attempt_ends_in_the_dead_letter_queue(world: World) -> None:
    world.receiver.answers = [Attempt(404, "http_status")]
    record = world.put()
    world.queue.send(message_for(record))
    world.run(until=NOW + 3 * DAY_S)

    def crash() -> None:
        raise Killed("during the attempt")

    world.receiver.during = crash
    with pytest.raises(Killed):
        world.run(until=NOW + 6 * DAY_S)
    world.receiver.during = lambda: None
    assert len(world.receiver.requests) == MAX_ATTEMPTS
    world.run(until=world.clock.now + 2000)
    assert len(world.receiver.requests) == MAX_ATTEMPTS
    assert len(world.dead_letters.waiting) == 1
    assert world.delivery(record).status is DeliveryStatus.FAILED


# ---- Breaker and share of a host ---------------------------------------------------------------------------------


def test_five_failures_in_a_row_hold_back_the_other_deliveries_of_the_host(world: World) -> None:
    world.receiver.answers = [HANGS]
    for number in range(5):
        world.deliver(world.put(execution_id=f"{number:032x}"))
    held_back = world.put(execution_id="a" * 32)
    assert world.deliver(held_back) is DeliverResult.POSTPONED
    assert len(world.receiver.requests) == 5
    stored = world.delivery(held_back)
    assert (stored.attempts, stored.status) == (0, DeliveryStatus.PENDING)
    assert 60 <= stored.next_at - world.clock.now <= 121


def test_answers_for_single_urls_do_not_hold_back_the_host(world: World) -> None:
    world.receiver.answers = [Attempt(404, "http_status")]
    for number in range(9):
        assert world.deliver(world.put(execution_id=f"{number:032x}")) is DeliverResult.RETRY


def test_another_host_is_not_held_back(world: World) -> None:
    world.receiver.answers = [HANGS]
    for number in range(5):
        world.deliver(world.put(execution_id=f"{number:032x}"))
    world.receiver.answers = [OK]
    other = world.put(execution_id="a" * 32, webhook=Webhook("https://other.example.com/"))
    assert world.deliver(other) is DeliverResult.DELIVERED


def test_each_delivery_that_waits_for_a_breaker_is_written(world: World) -> None:
    step = world.step
    world.receiver.answers = [HANGS]
    for number in range(5):
        step.deliver(message_for(world.put(execution_id=f"{number:032x}")))
    for digit in "ab":
        held_back = world.put(execution_id=digit * 32)
        assert step.deliver(message_for(held_back)).result is DeliverResult.POSTPONED
        assert world.delivery(held_back).next_at - world.clock.now >= 60


def test_a_delivery_without_a_place_comes_again_within_seconds(world: World) -> None:
    waiting = world.put(execution_id="a" * 32)
    seen: list[DeliverResult] = []

    def fill() -> None:
        if len(world.receiver.requests) == 1:
            world.deliver(world.put(execution_id="1" * 32))
        elif len(world.receiver.requests) == 2:
            seen.append(world.deliver(waiting))

    world.receiver.during = fill
    world.deliver(world.put(execution_id="2" * 32))
    assert seen == [DeliverResult.POSTPONED]
    ((at, message),) = world.queue.waiting
    assert 1 <= at - world.clock.now <= 3
    assert message == message_for(waiting) | {"waits": 1}
    assert world.webhooks.deliveries.of_execution(waiting.execution_id) == []
    world.run(until=world.clock.now + 10)
    assert world.delivery(waiting).status is DeliveryStatus.DELIVERED


# ---- What the record keeps for the delivery ----------------------------------------------------------------------


def test_a_day_after_the_delivery_the_record_drops_an_output_that_is_not_delivered_to_dynamodb(
    world: World,
) -> None:
    record = world.put(deliver_to=("sns",))
    world.queue.send(message_for(record))
    world.run(until=NOW + DAY_S)
    assert world.table.get(ID).final_output_json is not None
    world.run(until=NOW + DAY_S + 1000)
    assert world.table.get(ID).final_output_json is None
    assert world.table.get(ID).expires_at == int(NOW + 60 + 30 * DAY_S)
    assert list(world.webhooks.deliveries.due(ID[0], NOW + 99 * DAY_S)) == []


def test_a_day_after_the_delivery_a_record_gets_its_short_retention_back(world: World) -> None:
    world.retention_s = DAY_S
    record = world.put(expires_at=int(NOW + MAX_AGE_S + KEPT_AFTER_S))
    world.queue.send(message_for(record))
    world.run(until=NOW + DAY_S + 1000)
    stored = world.table.get(ID)
    assert stored.expires_at <= NOW + DAY_S + 1000
    assert stored.final_output_json is not None


def test_a_failed_delivery_is_listed_before_and_after_its_record_is_cleaned_up(world: World) -> None:
    world.receiver.answers = [Attempt(404, "http_status")]
    record = world.put(deliver_to=("sns",))
    world.queue.send(message_for(record))
    world.run(until=NOW + 4 * DAY_S)
    failed_at = [entry.next_at for entry in world.webhooks.deliveries.failed(NOW)]
    world.run(until=NOW + 6 * DAY_S)
    assert world.table.get(ID).final_output_json is None
    assert [entry.next_at for entry in world.webhooks.deliveries.failed(NOW)] == failed_at
    assert len(failed_at) == 1


# ---- Resend ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [OK, Attempt(410, "http_status")], ids=["delivered", "gone"])
def test_a_resend_delivers_the_same_event_again(world: World, answer: Attempt) -> None:
    world.receiver.answers = [answer, OK]
    record = world.put()
    world.deliver(record)
    result = world.resender.resend({"execution_id": ID})
    assert result == {
        "execution_id": ID,
        "outcome": Status.COMPLETED,
        "resent": True,
        "event_id": notification_events.event_id(record),
    }
    world.run(until=world.clock.now + 10)
    first, second = world.receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert world.delivery(record).status is DeliveryStatus.DELIVERED


def test_a_resend_of_a_failed_delivery_begins_with_all_attempts(world: World) -> None:
    world.receiver.answers = [Attempt(404, "http_status")]
    record = world.put()
    world.queue.send(message_for(record))
    world.run(until=NOW + 6 * DAY_S)
    world.resender.resend({"execution_id": ID})
    world.run(until=NOW + 12 * DAY_S)
    assert len(world.receiver.requests) == 2 * MAX_ATTEMPTS
    assert len(world.dead_letters.waiting) == 2


def test_a_resend_during_an_attempt_is_refused(world: World) -> None:
    record = world.put()
    seen: list[dict[str, Any]] = []
    world.receiver.during = lambda: seen.append(world.resender.resend({"execution_id": ID}))
    assert world.deliver(record) is DeliverResult.DELIVERED
    assert seen[0]["resent"] is False
    assert "try again in a minute" in seen[0]["reason"]


@pytest.mark.parametrize("early_s", [250, 0, -2000], ids=["before", "at", "after"])
def test_a_resend_is_refused_around_the_time_when_the_record_is_cleaned_up(
    world: World, early_s: float
) -> None:
    record = world.put(deliver_to=("sns",))
    world.deliver(record)
    world.clock.now = world.delivery(record).next_at - early_s
    result = world.resender.resend({"execution_id": ID})
    assert result["resent"] is False
    assert "try again" in result["reason"]
    assert world.delivery(record).status is DeliveryStatus.DELIVERED


def test_a_resend_is_refused_if_the_record_is_cleaned_up_while_it_reads(world: World) -> None:
    record = world.put(deliver_to=("sns",))
    world.deliver(record)
    resender, clean_up = world.resender, world.webhooks.deliveries.get

    def get_after_clean_up(execution_id: str, event_id: str) -> Delivery | None:
        world.clock.now += DAY_S
        world.deliver(record)
        return clean_up(execution_id, event_id)

    resender._deliveries.get = get_after_clean_up  # type: ignore[method-assign]  # noqa: SLF001
    assert resender.resend({"execution_id": ID})["resent"] is False
    assert world.table.get(ID).final_output_json is None


def test_a_resend_lets_the_record_outlive_the_delivery(world: World) -> None:
    world.retention_s = DAY_S
    record = world.put(expires_at=int(NOW + 2 * DAY_S))
    world.deliver(record)
    world.resender.resend({"execution_id": ID})
    assert world.table.get(ID).expires_at >= world.clock.now + MAX_AGE_S + KEPT_AFTER_S - 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"webhook": None}, "the request has no webhook"),
        (
            {"status": Status.FAILED, "webhook": replace(WEBHOOK, events=("completed",))},
            "does not receive failed",
        ),
        ({"deliver_to": ("sns",), "final_output_json": None}, "its output was deleted after the delivery"),
    ],
)
def test_a_resend_that_is_not_possible_is_refused_with_a_reason(
    world: World, changes: dict[str, Any], reason: str
) -> None:
    world.put(**changes)
    result = world.resender.resend({"execution_id": ID})
    assert (result["resent"], world.queue.waiting) == (False, [])
    assert reason in result["reason"]


def test_a_resend_before_the_outcome_is_refused(world: World) -> None:
    world.table.put(replace(final_record(), status=Status.RUNNING, finished_at=None, webhook=WEBHOOK))
    assert "there is no outcome yet" in world.resender.resend({"execution_id": ID})["reason"]


@pytest.mark.parametrize("request_", [None, {}, {"execution_id": 5}, {"execution_id": "e" * 32}, "x"])
def test_a_resend_of_an_unknown_execution_is_refused(world: World, request_: object) -> None:
    result = world.resender.resend(request_)
    assert (result["resent"], result["outcome"]) == (False, None)
    assert "no such execution" in result["reason"]
