"""Progress events: in order, at most one a second, never after the end, and never at the cost of the job."""

import json
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.fakes.aws import Failing, Stuttering, Table, Topic, client_error
from tests.fakes.clock import Clock
from tests.support.build import build_progress_publisher
from tests.support.builders import (
    ID,
    OWNER,
    SOURCE,
    UPSTREAM_ID,
    final_attributes,
    job,
    record,
    request,
    running_record,
)
from waterhook.domain.status import Status
from waterhook.notifications.progress_publisher import MIN_INTERVAL_S
from waterhook.storage.execution_record import ExecutionRecord

EAGER = job(progress_events=True)
FINAL = [status for status in Status if status.is_final]


def published(topic: Topic) -> list[dict[str, Any]]:
    """Return the data of every event since the last look, in their own order."""
    return sorted((json.loads(text)["data"] for text in topic.messages()), key=lambda data: data["sequence"])


def test_a_change_is_published_with_a_number_and_kept_in_the_record(table: Table, topic: Topic) -> None:
    table.put(running_record(metadata_json='{"order":7}'))
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


def test_a_caller_that_did_not_request_progress_events_gets_none(table: Table, topic: Topic) -> None:
    there = table.put(running_record())
    assert not build_progress_publisher(table, topic).publish(job(), {"progress": 50.0})
    assert (topic.messages(), table.get(ID)) == ([], there)


def test_without_a_change_nothing_is_published(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 50.0})
    clock.advance(10)
    assert not it.publish(EAGER, {"progress": 50.0})
    assert not it.publish(EAGER, {})
    assert len(published(topic)) == 1


def test_at_most_one_event_a_second_is_published_and_the_latest_change_is_in_the_next(
    table: Table, topic: Topic
) -> None:
    table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 1.0})
    for percent in range(2, 50):
        clock.advance(0.01)
        assert not it.publish(EAGER, {"progress": float(percent)})
    clock.advance(MIN_INTERVAL_S)
    # It changes nothing itself, but an earlier change is not yet published.
    assert it.publish(EAGER, {})
    assert [data["progress"] for data in published(topic)] == [1.0, 49.0]
    assert table.get(ID).progress == 49.0


def test_what_an_event_does_not_mention_stays_as_it_was(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 40.0})
    clock.advance(2)
    it.publish(EAGER, {"event": "node_started", "node_id": "b"})
    last = published(topic)[-1]
    assert (last["progress"], last["node_id"]) == (40.0, "b")
    assert table.get(ID).progress == 40.0


@pytest.mark.parametrize("status", FINAL)
def test_nothing_is_published_once_the_record_is_final(table: Table, topic: Topic, status: Status) -> None:
    there = table.put(running_record(**final_attributes(status)))
    assert not build_progress_publisher(table, topic).publish(EAGER, {"progress": 50.0})
    assert (topic.messages(), table.get(ID)) == ([], there)


def test_an_outcome_between_two_events_ends_them(table: Table, topic: Topic) -> None:
    there = table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 50.0})
    table.records.conclude(there, final_attributes(Status.CANCELLED))
    clock.advance(2)
    assert not it.publish(EAGER, {"progress": 60.0})
    assert [data["progress"] for data in published(topic)] == [50.0]
    assert table.get(ID).progress == 50.0


def test_an_erased_execution_publishes_nothing_and_stays_erased(table: Table, topic: Topic) -> None:
    there = table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 50.0})
    table.delete(there)
    clock.advance(2)
    assert not it.publish(EAGER, {"progress": 60.0})
    clock.advance(2)
    assert not it.publish(EAGER, {"progress": 70.0})
    assert table.all() == []


def test_two_relays_at_once_never_give_the_same_number_twice(table: Table, topic: Topic) -> None:
    """A function that Lambda gave up on may go on for a while beside its successor."""
    table.put(running_record())
    clock = Clock()
    pair = [build_progress_publisher(table, topic, clock), build_progress_publisher(table, topic, clock)]
    for turn in range(1, 11):
        for number, it in enumerate(pair):
            it.publish(EAGER, {"progress": turn * 5.0 + number})
        clock.advance(MIN_INTERVAL_S)
    numbers = [data["sequence"] for data in published(topic)]
    assert len(numbers) >= 10
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) == table.get(ID).progress_sequence


def test_a_number_goes_on_where_the_last_function_left_it(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    for percent in (10.0, 20.0, 30.0):
        build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": percent})
        clock.advance(2)
    assert [(data["sequence"], data["progress"]) for data in published(topic)] == [
        (1, 10.0),
        (2, 20.0),
        (3, 30.0),
    ]


def test_a_change_that_lost_a_race_is_published_a_second_later(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 10.0})
    build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": 11.0})
    clock.advance(1)
    assert not it.publish(EAGER, {"progress": 20.0})
    clock.advance(1)
    assert it.publish(EAGER, {})
    assert published(topic)[-1]["progress"] == 20.0


def test_a_write_that_botocore_repeats_costs_a_number_and_no_more(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    assert not build_progress_publisher(table, topic, clock, client=Stuttering(table.client)).publish(
        EAGER, {"progress": 10.0}
    )
    assert build_progress_publisher(table, topic, clock).publish(EAGER, {"progress": 20.0})
    assert [data["sequence"] for data in published(topic)] == [2]


@pytest.mark.parametrize("fault", [client_error("ThrottlingException"), ReadTimeoutError(endpoint_url="x")])
@pytest.mark.parametrize("operation", ["get_item", "update_item", "publish"])
def test_no_trouble_with_table_or_topic_is_the_jobs_trouble(
    table: Table, topic: Topic, operation: str, fault: Exception
) -> None:
    table.put(running_record())
    clock = Clock()
    client, sns = (
        Failing(table.client, {operation: fault}),
        Failing(topic.sns, {operation: fault}),
    )
    it = build_progress_publisher(table, topic, clock, client=client, sns=sns)
    assert not it.publish(EAGER, {"progress": 10.0})
    client.faults.clear()
    sns.faults.clear()
    clock.advance(1)
    assert it.publish(EAGER, {})
    assert [data["progress"] for data in published(topic)] == [10.0]


class Counting(Failing):
    """A client that counts its calls."""

    def __init__(self, real: Any) -> None:
        super().__init__(real, {})
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        return super().__getattr__(name)


@pytest.mark.parametrize("there", [running_record(**final_attributes()), None], ids=["final", "erased"])
def test_a_flood_of_events_after_the_end_is_no_flood_of_reads(
    table: Table, topic: Topic, there: ExecutionRecord | None
) -> None:
    if there:
        table.put(there)
    client = Counting(table.client)
    clock = Clock()
    it = build_progress_publisher(table, topic, clock, client=client)
    for percent in range(1000):
        it.publish(EAGER, {"progress": percent / 10})
        clock.advance(0.001)
    assert client.calls <= 2


def test_another_executions_record_is_not_written_to_by_whoever_lost_it(table: Table, topic: Topic) -> None:
    table.put(running_record())
    clock = Clock()
    it = build_progress_publisher(table, topic, clock)
    it.publish(EAGER, {"progress": 10.0})
    table.put(record(request(), owner_execution_arn=f"{OWNER}-after-it"))
    clock.advance(1)
    assert not it.publish(EAGER, {"progress": 20.0})
    assert table.get(ID).progress is None
