"""The webhook as a target of the notifier and of progress: independent of the topic, and never part of a redelivery."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import FailingClient, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.webhook_queue import RecordingQueue
from tests.support.build import RETENTION_S, build_notifier, build_progress_publisher
from tests.support.builders import ID, OWNER, SOURCE, final_attributes, running_record, running_state
from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_retries import KEPT_AFTER_S, MAX_AGE_S
from waterhook.notifications import notification_events
from waterhook.notifications.delivery_targets import WebhookTarget
from waterhook.timestamps import to_rfc3339

WEBHOOK = Webhook("https://hooks.example.com/in")
COMPLETED = running_state().ended(Status.COMPLETED, final_output_json='{"n":1.0}')
DAY_S = 24 * 3600
DOWN = client_error("InternalError", 500)


@pytest.fixture
def queue() -> RecordingQueue:
    return RecordingQueue()


@pytest.fixture
def webhook(queue: RecordingQueue) -> WebhookTarget:
    target: Any = queue
    return WebhookTarget(target, SOURCE)


def test_an_outcome_is_queued_for_its_webhook_by_its_ids_and_host_only(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    event_id = notification_events.event_id(table.get(ID))
    assert queue.messages == [{"execution_id": ID, "event_id": event_id, "host": WEBHOOK.host}]
    assert len(topic.messages()) == 1


def test_a_webhook_that_does_not_receive_the_outcome_gets_none(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=Webhook(WEBHOOK.url, ("failed", "progress"))))
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    assert queue.messages == []
    assert table.get(ID).notified_at is not None


def test_a_webhook_works_without_sns(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK, deliver_to=("dynamodb",)))
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    assert (len(queue.messages), topic.messages()) == (1, [])


def test_a_topic_that_fails_does_not_repeat_the_webhook(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    sns: Any = FailingClient(topic.sns, {"publish": DOWN})
    for _ in range(40):
        with pytest.raises(ClientError):
            build_notifier(table, topic, sns=sns, webhook=webhook).notify(COMPLETED, OWNER)
    assert table.get(ID).notified_at is None
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    assert (len(queue.messages), len(topic.messages())) == (1, 1)
    assert table.get(ID).notified_at is not None


def test_a_queue_that_fails_does_not_repeat_the_notification(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    queue.fault = DOWN
    for _ in range(40):
        with pytest.raises(ClientError):
            build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    queue.fault = None
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    assert (len(queue.messages), len(topic.messages())) == (1, 1)


def test_a_target_is_repeated_if_the_table_did_not_take_its_mark(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    stored = table.put(running_record(webhook=WEBHOOK, **final_attributes()))
    records = table.records_over(FailingClient(table.client, {"update_item": DOWN}))
    queue.fault = DOWN
    with pytest.raises(ClientError):
        build_notifier(table, topic, records=records, webhook=webhook).conclude(stored, {})
    queue.fault = None
    build_notifier(table, topic, webhook=webhook).conclude(stored, {})
    assert (len(queue.messages), len(set(topic.messages()))) == (1, 1)


def test_a_redelivery_does_not_touch_the_webhook(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    notifier = build_notifier(table, topic, webhook=webhook)
    notifier.notify(COMPLETED, OWNER)
    assert notifier.redeliver(ID)["redelivered"]
    assert (len(queue.messages), len(topic.messages())) == (1, 2)


def test_a_redelivery_before_the_webhook_was_queued_leaves_it_to_the_state_machine(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    stored = table.put(running_record(webhook=WEBHOOK, **final_attributes()))
    notifier = build_notifier(table, topic, webhook=webhook)
    assert notifier.redeliver(ID)["redelivered"]
    assert table.get(ID).notified_at is None
    notifier.conclude(table.get(ID), {})
    assert (len(queue.messages), len(topic.messages())) == (1, 1)
    assert (table.get(ID).notified_at is not None, stored.notified_at) == (True, None)


def test_where_webhooks_are_off_an_execution_with_a_webhook_ends_without_it(
    table: Table, topic: Topic
) -> None:
    table.put(running_record(webhook=WEBHOOK, deliver_to=("sns",)))
    build_notifier(table, topic).notify(COMPLETED, OWNER)
    stored = table.get(ID)
    assert stored.notified_at is not None
    assert stored.final_output_json is None
    assert stored.expires_at == int(NOW + 60) + RETENTION_S


def test_the_output_stays_in_the_record_until_the_webhook_has_received_it(
    table: Table, topic: Topic, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK, deliver_to=("sns",)))
    build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    assert table.get(ID).final_output_json == '{"n":1.0}'


def test_a_record_outlives_the_delivery_of_its_webhook(
    table: Table, topic: Topic, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    build_notifier(table, topic, webhook=webhook, retention_s=DAY_S).notify(COMPLETED, OWNER)
    assert table.get(ID).expires_at == int(NOW + 60 + MAX_AGE_S + KEPT_AFTER_S)


@pytest.mark.parametrize("to_sns", [True, False])
def test_progress_goes_to_the_webhook_that_receives_it(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget, *, to_sns: bool
) -> None:
    table.put(running_record(webhook=Webhook(WEBHOOK.url, ("progress",)), progress_events=to_sns))
    publisher = build_progress_publisher(table, topic, others=[webhook])
    assert publisher.publish(running_state(progress_events=True), {"progress": 50.0})
    (message,) = queue.messages
    event = json.loads(message["progress"])
    assert (message["execution_id"], message["event_id"]) == (ID, f"{ID}/1767225600000/progress/1")
    assert (event["id"], event["data"]["progress"]) == (message["event_id"], 50.0)
    assert topic.messages() == ([message["progress"]] if to_sns else [])


def test_progress_reaches_the_webhook_although_the_topic_fails(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=Webhook(WEBHOOK.url, ("progress",)), progress_events=True))
    sns: Any = FailingClient(topic.sns, {"publish": DOWN})
    publisher = build_progress_publisher(table, topic, Clock(), sns=sns, others=[webhook])
    assert publisher.publish(running_state(progress_events=True), {"progress": 50.0})
    assert len(queue.messages) == 1


def test_a_webhook_without_progress_gets_none(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK, progress_events=True))
    assert build_progress_publisher(table, topic, others=[webhook]).publish(
        running_state(progress_events=True), {"progress": 50.0}
    )
    assert (queue.messages, len(topic.messages())) == ([], 1)


def test_the_time_of_the_notification_is_that_of_the_last_target(
    table: Table, topic: Topic, queue: RecordingQueue, webhook: WebhookTarget
) -> None:
    table.put(running_record(webhook=WEBHOOK))
    queue.fault = DOWN
    with pytest.raises(ClientError):
        build_notifier(table, topic, webhook=webhook).notify(COMPLETED, OWNER)
    queue.fault = None
    build_notifier(table, topic, webhook=webhook, clock=Clock(NOW + 999)).notify(COMPLETED, OWNER)
    assert table.get(ID).notified_at == to_rfc3339(NOW + 999)
