"""Batches of the deliver function: one attempt, and the other messages go back to the queue before it begins."""

from typing import Any

import pytest

from tests.fakes.aws import Table, WebhookTable
from tests.fakes.crashes import Killed
from tests.unit.steps.test_deliver import OK, World, message_for
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook.steps.delivered import DeliverResult


@pytest.fixture
def world(table: Table, webhook_table: WebhookTable) -> World:
    return World(table, webhook_table)


def queued(world: World, number: int, host: str = "hooks.example.com") -> dict[str, Any]:
    """Store a record whose webhook is at this host, and return its message."""
    record = world.put(execution_id=f"{number:032x}", webhook=Webhook(f"https://{host}/in"))
    return message_for(record) | {"host": host}


def test_one_message_makes_an_attempt_and_the_others_go_back_before_it(world: World) -> None:
    messages = [queued(world, number, f"{number}.example.com") for number in range(10)]
    seen: list[list[dict[str, Any]]] = []
    world.receiver.during = lambda: seen.append([message for _, message in world.queue.waiting])
    results = world.batch.deliver(messages)
    assert [result.result for result in results] == [DeliverResult.DELIVERED]
    assert seen == [messages[1:]]
    assert {at for at, _ in world.queue.waiting} == {world.clock.now}


def test_a_single_message_sends_nothing_back(world: World) -> None:
    world.batch.deliver([queued(world, 1)])
    assert world.queue.waiting == []


def test_messages_without_an_attempt_do_not_end_a_batch(world: World) -> None:
    delivered = queued(world, 1)
    world.step.deliver(delivered)
    results = world.batch.deliver([None, delivered, {"execution_id": 5}, queued(world, 2)])
    dropped = [DeliverResult.DROPPED] * 3
    assert [result.result for result in results] == [*dropped, DeliverResult.DELIVERED]


def test_messages_for_a_full_host_wait_without_a_read_and_do_not_delay_another_host(world: World) -> None:
    full = [queued(world, number) for number in range(2, 8)]
    other = queued(world, 9, "other.example.com")
    batch = world.batch

    def fill() -> None:
        if len(world.receiver.requests) == 1:
            world.step.deliver(queued(world, 1))
        elif len(world.receiver.requests) == 2:
            results = batch.deliver([*full, other])
            assert [result.result for result in results] == [
                *[DeliverResult.POSTPONED] * 6,
                DeliverResult.DELIVERED,
            ]

    world.receiver.during = fill
    world.step.deliver(queued(world, 0))
    assert [message for _, message in world.queue.waiting] == [message | {"waits": 1} for message in full]
    assert all(1 <= at - world.clock.now <= 3 for at, _ in world.queue.waiting)
    assert [request.url for request in world.receiver.requests][-1] == "https://other.example.com/in"


def test_a_host_counts_as_full_for_a_second(world: World) -> None:
    attempts = world.attempts
    attempts_seen: list[bool] = []

    def fill() -> None:
        if len(world.receiver.requests) < 3:
            step = world.step_with(attempts)
            step.deliver(queued(world, len(world.receiver.requests)))
            attempts_seen.append(attempts.is_full("hooks.example.com"))

    world.receiver.during = fill
    world.step_with(attempts).deliver(queued(world, 0))
    assert attempts_seen[0]
    world.clock.advance(1.5)
    assert not attempts.is_full("hooks.example.com")


def test_every_message_of_a_batch_is_delivered_in_the_end(world: World) -> None:
    messages = [queued(world, number) for number in range(10)]
    for message in messages:
        world.queue.send(message)
    while world.queue.waiting:
        batch = [taken for _ in range(4) if (taken := world.queue.take()) is not None]
        world.batch.deliver(batch)
        world.clock.advance(1)
    assert len(world.receiver.requests) == 10
    deliveries = [world.webhooks.deliveries.of_execution(message["execution_id"]) for message in messages]
    assert {delivery.status for (delivery,) in deliveries} == {DeliveryStatus.DELIVERED}


def test_a_batch_that_is_killed_during_its_attempt_loses_no_message(world: World) -> None:
    messages = [queued(world, number, f"{number}.example.com") for number in range(3)]

    def crash() -> None:
        raise Killed("during the attempt")

    world.receiver.during = crash
    with pytest.raises(Killed):
        world.batch.deliver(messages)
    world.receiver.during, world.receiver.answers = (lambda: None), [OK]
    for message in messages:  # SQS delivers the whole batch again
        world.queue.send(message, 90)
    world.run(until=world.clock.now + 200)
    urls = [request.url for request in world.receiver.requests]
    assert sorted(urls) == ["https://0.example.com/in"] * 2 + [f"https://{n}.example.com/in" for n in (1, 2)]
