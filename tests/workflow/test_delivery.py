"""A topic that fails: Notify is retried for hours. Then the execution fails, and a redelivery publishes."""

from typing import Any

import pytest
from moto.sns.exceptions import SNSException
from moto.sns.models import SNSBackend

from tests.fakes.lambda_context import CONTEXT
from tests.fakes.scripted_waterflai import completed
from tests.support.builders import SOURCE
from tests.workflow.functions_in_process import handler_of
from tests.workflow.world import World, request
from waterhook.notifications import notification_events

OUTPUT = '{"n": 12345678901234567890, "ratio": 1.0}'


class _KeyDisabled(SNSException):
    code = "KMSDisabled"

    def __init__(self) -> None:
        super().__init__("the topic's key is disabled")


class Topic:
    """The topic of the simulated AWS. It refuses the first `down_for` messages."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.down_for = 0.0
        self.refused = 0
        publish = SNSBackend.publish

        def publish_or_refuse(backend: SNSBackend, *arguments: Any, **named: Any) -> str:
            if self.refused < self.down_for:
                self.refused += 1
                raise _KeyDisabled
            return publish(backend, *arguments, **named)

        patch.setattr(SNSBackend, "publish", publish_or_refuse)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    return Topic(monkeypatch)


def test_a_notification_is_published_once_the_topic_works_again(world: World, topic: Topic) -> None:
    world.upstream.respond_with("status", completed(OUTPUT))
    topic.down_for = 25
    run = world.run(request())
    assert (run.status, topic.refused) == ("SUCCEEDED", 25)
    [notification] = world.notifications()
    # Published hours later, with the time of the outcome.
    assert world.clock.elapsed_s > 3 * 3600
    assert notification.event["time"] == "2026-01-01T00:00:04.000Z"
    assert f'"final_output":{OUTPUT}' in notification.text


@pytest.mark.parametrize("deliver_to", [["sns"], ["sns", "dynamodb"]], ids="+".join)
def test_a_topic_that_stays_down_fails_the_execution_and_a_redelivery_publishes_later(
    world: World, topic: Topic, deliver_to: list[str]
) -> None:
    world.upstream.respond_with("status", completed(OUTPUT))
    topic.down_for = float("inf")
    execution_id = world.accept(request(deliver_to=deliver_to))
    safe = world.finished(world.record(execution_id).owner_execution_arn)
    assert (safe.status, safe.error, safe.path[-1]) == ("FAILED", "KMSDisabledException", "Notify")
    assert topic.refused == world.functions.count("notify") == 41
    record = world.record(execution_id)
    assert (record.status, record.final_output_json, record.notified_at) == ("COMPLETED", OUTPUT, None)
    assert not world.notifications()

    topic.down_for = 0
    answer = handler_of("notify")({"redeliver": {"execution_id": execution_id}}, CONTEXT)
    assert answer["redelivered"] is True
    [notification] = world.notifications()
    assert notification.text == notification_events.outcome_event(record, SOURCE)
    assert notification.attributes["status"] == "COMPLETED"
    assert world.record(execution_id).notified_at is not None
