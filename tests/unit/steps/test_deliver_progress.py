"""Progress events for webhooks: best effort, two retries, and none after the outcome."""

import json
from typing import Any

import pytest

from tests.fakes.aws import Table, WebhookTable
from tests.support.builders import ID, SOURCE, final_record, running_record
from tests.unit.steps.test_deliver import DOWN, HANGS, OK, WEBHOOK, World
from waterhook.domain.webhook import Webhook
from waterhook.notifications import notification_events
from waterhook.steps.delivered import DeliverResult
from waterhook.webhooks.sender import Attempt

EAGER = Webhook(WEBHOOK.url, ("progress", "completed"))


@pytest.fixture
def world(table: Table, webhook_table: WebhookTable) -> World:
    return World(table, webhook_table)


def progress_message(world: World) -> dict[str, Any]:
    """Store a running job and return the message of its first progress event."""
    record = world.table.put(running_record(webhook=EAGER, progress_sequence=1))
    event = notification_events.progress_event(record, SOURCE, {"progress": 50.0}, world.clock.now)
    return {"execution_id": ID, "event_id": f"{ID}/1767225600000/progress/1", "progress": event}


def test_a_progress_event_is_sent_as_it_was_published(world: World) -> None:
    message = progress_message(world)
    assert world.step.deliver(message).result is DeliverResult.DELIVERED
    (request,) = world.receiver.requests
    assert request.body.decode() == message["progress"]
    assert request.headers["webhook-id"] == message["event_id"] == json.loads(request.body)["id"]
    assert world.webhooks.deliveries.of_execution(ID) == []


def test_a_progress_event_is_sent_three_times_at_most_and_never_dead_lettered(world: World) -> None:
    world.receiver.answers = [DOWN]
    world.queue.send(progress_message(world))
    world.run(until=world.clock.now + 3600)
    assert len(world.receiver.requests) == 3
    assert (world.queue.waiting, world.dead_letters.waiting) == ([], [])


def test_progress_is_not_sent_after_the_outcome(world: World) -> None:
    message = progress_message(world)
    world.table.put(final_record(webhook=EAGER))
    assert world.step.deliver(message).result is DeliverResult.DROPPED
    assert world.receiver.requests == []


def test_a_receiver_that_answers_410_gets_this_progress_once(world: World) -> None:
    world.receiver.answers = [Attempt(410, "http_status")]
    assert world.step.deliver(progress_message(world)).result is DeliverResult.DROPPED
    assert world.queue.waiting == []


def test_progress_is_dropped_while_the_host_fails(world: World) -> None:
    message = progress_message(world)
    world.receiver.answers = [HANGS]
    for number in range(5):
        world.deliver(world.put(execution_id=f"{number:032x}"))
    world.receiver.answers = [OK]
    assert world.step.deliver(message).result is DeliverResult.DROPPED
    assert len(world.receiver.requests) == 5


@pytest.mark.parametrize("counter", [None, "2", -1, 1.5])
def test_a_wrong_counter_in_a_message_counts_as_the_first_attempt(world: World, counter: object) -> None:
    world.receiver.answers = [DOWN]
    message = progress_message(world) | {"attempt": counter, "waits": counter}
    assert world.step.deliver(message).attempt_number == 1
