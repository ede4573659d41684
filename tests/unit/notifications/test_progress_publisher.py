"""Progress events: numbered, at most one per second, none after the outcome. A failure does not stop the poll."""

import json
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.fakes.aws import FailingClient, RepeatingClient, Table, Topic, client_error
from tests.fakes.clock import Clock
from tests.support.build import build_progress_publisher
from tests.support.builders import (
    ID,
    OWNER,
    SOURCE,
    UPSTREAM_ID,
    final_attributes,
    record,
    request,
    running_record,
    running_state,
)
from waterhook.domain.status import Status
from waterhook.notifications.progress_publisher import MIN_INTERVAL_S
from waterhook.storage.execution_record import ExecutionRecord

EAGER = running_state(progress_events=True)


def published(topic: Topic) -> list[dict[str, Any]]:
    """Return the data of the events since the last call, by their sequence."""
    return sorted((json.loads(text)["data"] for text in topic.messages()), key=lambda data: data["sequence"])


def test_a_change_is_published_with_a_number_and_written_to_the_record(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True, metadata_json='{"order":7}'))
    assert build_progress_publisher(table, topic).publish(
        EAGER, {"event": "node_started", "node_id": "a", "progress": 12.5}
    )
    (envelope,) = topic.envelopes()
    assert json.loads(envelope["Message"]) == {
        "specversion": "1.0",
        "id": f"{ID}/1767225600000/progress/1",
        "source": SOURCE,
        "type": "waterhook.execution.progress",
        "subject": ID,
        "time": "2026-01-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "execution_id": ID,
            "waterflai_execution_id": UPSTREAM_ID,
            "chatbot_id": "support-chat",
            "status": "RUNNING",
            "sequence": 1,
            "event": "node_started",
            "node_id": "a",
            "progress": 12.5,
            "metadata": {"order": 7},
        },
    }
    assert envelope["MessageAttributes"]["type"]["Value"] == "waterhook.execution.progress"
    assert (table.get(ID).progress, table.get(ID).progress_sequence) == (12.5, 1)


def test_nothing_is_published_before_the_id_of_the_job_is_saved(table: Table, topic: Topic) -> None:
    table.put(record(request(progress_events=True), status=Status.STARTING))
    publisher = build_progress_publisher(table, topic)
    assert not publisher.publish(EAGER, {"progress": 10.0})
    assert topic.messages() == []


def test_a_caller_that_did_not_request_progress_events_gets_none(table: Table, topic: Topic) -> None:
    stored = table.put(running_record(progress_events=True))
    assert not build_progress_publisher(table, topic).publish(running_state(), {"progress": 50.0})
    assert (topic.messages(), table.get(ID)) == ([], stored)


def test_without_a_change_nothing_is_published(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 50.0})
    clock.advance(10)
    assert not publisher.publish(EAGER, {"progress": 50.0})
    assert not publisher.publish(EAGER, {})
    assert len(published(topic)) == 1


def test_at_most_one_event_a_second_is_published_and_the_latest_change_is_in_the_next(
    table: Table, topic: Topic
) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 1.0})
    for percent in range(2, 50):
        clock.advance(0.01)
        assert not publisher.publish(EAGER, {"progress": float(percent)})
    clock.advance(MIN_INTERVAL_S)
    # This call has no change, but earlier ones are not published yet.
    assert publisher.publish(EAGER, {})
    assert [data["progress"] for data in published(topic)] == [1.0, 49.0]
    assert table.get(ID).progress == 49.0


def test_a_field_that_an_event_does_not_have_keeps_its_value(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 40.0})
    clock.advance(2)
    publisher.publish(EAGER, {"event": "node_started", "node_id": "b"})
    last = published(topic)[-1]
    assert (last["progress"], last["node_id"]) == (40.0, "b")
    assert table.get(ID).progress == 40.0


def test_nothing_is_published_once_the_record_is_final(table: Table, topic: Topic) -> None:
    stored = table.put(running_record(progress_events=True, **final_attributes()))
    assert not build_progress_publisher(table, topic).publish(EAGER, {"progress": 50.0})
    assert (topic.messages(), table.get(ID)) == ([], stored)


def test_nothing_is_published_after_an_outcome_between_two_events(table: Table, topic: Topic) -> None:
    stored = table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 50.0})
    table.records.conclude(stored, final_attributes(Status.CANCELLED))
    clock.advance(2)
    assert not publisher.publish(EAGER, {"progress": 60.0})
    assert [data["progress"] for data in published(topic)] == [50.0]
    assert table.get(ID).progress == 50.0


def test_an_erased_execution_publishes_nothing_and_gets_no_new_record(table: Table, topic: Topic) -> None:
    stored = table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 50.0})
    table.delete(stored)
    clock.advance(2)
    assert not publisher.publish(EAGER, {"progress": 60.0})
    clock.advance(2)
    assert not publisher.publish(EAGER, {"progress": 70.0})
    assert table.all() == []


def test_two_publishers_at_the_same_time_never_use_the_same_number(table: Table, topic: Topic) -> None:
    """A function that timed out may run for a while beside its successor."""
    table.put(running_record(progress_events=True))
    clock = Clock()
    publishers = [
        build_progress_publisher(table, topic, clock),
        build_progress_publisher(table, topic, clock),
    ]
    for cycle in range(1, 11):
        for number, publisher in enumerate(publishers):
            publisher.publish(EAGER, {"progress": cycle * 5.0 + number})
        clock.advance(MIN_INTERVAL_S)
    numbers = [data["sequence"] for data in published(topic)]
    assert len(numbers) >= 10
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) == table.get(ID).progress_sequence


def test_the_next_publisher_continues_the_numbers(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    for percent in (10.0, 20.0, 30.0):
        build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": percent})
        clock.advance(2)
    assert [(data["sequence"], data["progress"]) for data in published(topic)] == [
        (1, 10.0),
        (2, 20.0),
        (3, 30.0),
    ]


def test_a_change_whose_write_lost_a_race_is_published_a_second_later(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 10.0})
    build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": 11.0})
    clock.advance(1)
    assert not publisher.publish(EAGER, {"progress": 20.0})
    clock.advance(1)
    assert publisher.publish(EAGER, {})
    assert published(topic)[-1]["progress"] == 20.0


def test_a_write_that_botocore_repeats_skips_one_number(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    assert not build_progress_publisher(table, topic, clock, client=RepeatingClient(table.client)).publish(
        EAGER, {"progress": 10.0}
    )
    assert build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": 20.0})
    assert [data["sequence"] for data in published(topic)] == [2]


@pytest.mark.parametrize("fault", [client_error("ThrottlingException"), ReadTimeoutError(endpoint_url="x")])
@pytest.mark.parametrize("operation", ["get_item", "update_item", "publish"])
def test_a_change_that_table_or_topic_refused_is_published_later(
    table: Table, topic: Topic, operation: str, fault: Exception
) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    client, sns = (
        FailingClient(table.client, {operation: fault}),
        FailingClient(topic.sns, {operation: fault}),
    )
    publisher = build_progress_publisher(table, topic, clock, client=client, sns=sns)
    assert not publisher.publish(EAGER, {"progress": 10.0})
    client.faults.clear()
    sns.faults.clear()
    clock.advance(1)
    assert publisher.publish(EAGER, {})
    assert [data["progress"] for data in published(topic)] == [10.0]


class Counting(FailingClient):
    """A client that counts its calls."""

    def __init__(self, real: Any) -> None:
        super().__init__(real, {})
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return super().__getattr__(name)


@pytest.mark.parametrize(
    "stored", [running_record(progress_events=True, **final_attributes()), None], ids=["final", "erased"]
)
def test_many_events_after_the_outcome_cause_few_reads(
    table: Table, topic: Topic, stored: ExecutionRecord | None
) -> None:
    if stored:
        table.put(stored)
    client = Counting(table.client)
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock, client=client)
    for percent in range(1000):
        publisher.publish(EAGER, {"progress": percent / 10})
        clock.advance(0.001)
    assert client.calls <= 2


def test_the_record_of_another_execution_is_not_changed(table: Table, topic: Topic) -> None:
    table.put(running_record(progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock)
    publisher.publish(EAGER, {"progress": 10.0})
    table.put(record(request(), owner_execution_arn=f"{OWNER}-after-it"))
    clock.advance(1)
    assert not publisher.publish(EAGER, {"progress": 20.0})
    assert table.get(ID).progress is None
