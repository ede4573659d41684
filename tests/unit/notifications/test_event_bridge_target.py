"""The event bus as a target: independent of the topic and the webhook, also if it fails."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.fakes.aws import FailingClient, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.event_bus import BUS, EventBus, refused
from tests.fakes.webhook_queue import RecordingQueue
from tests.support.build import build_notifier, build_progress_publisher
from tests.support.builders import (
    ID,
    OWNER,
    REGION,
    SOURCE,
    SUCCESS_AND_FAILURE,
    final_attributes,
    final_record,
    largest_record,
    running_record,
    running_state,
)
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.domain.webhook import Webhook
from waterhook.errors import RecordUnavailableError
from waterhook.notifications import notification_events
from waterhook.notifications.delivery_targets import EventBridgeTarget, WebhookTarget
from waterhook.timestamps import to_rfc3339

ALL = ("sns", "dynamodb", "eventbridge")
COMPLETED = running_state().ended(Status.COMPLETED, final_output_json='{"n":1.0}')
EAGER = running_state(progress_events=True)
DOWN = client_error("InternalError", 500)
MAX_ENTRY_BYTES = 256 * 1024  # less than this, by the documentation of EventBridge
TIME_BYTES = 14

# How a bus can fail.
FAULTS: dict[str, Exception | Mapping[str, Any]] = {
    "denied": client_error("AccessDeniedException"),
    "missing": client_error("ResourceNotFoundException"),
    "throttled": client_error("ThrottlingException"),
    "down": DOWN,
    "slow": ReadTimeoutError(endpoint_url="https://events"),
    "denied entry": refused("AccessDeniedException"),
    "throttled entry": refused("ThrottlingException"),
    "entry without a result": {"FailedEntryCount": 0, "Entries": []},
    "garbage": {"html": "<html>"},
}


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture(params=FAULTS)
def failing(request: pytest.FixtureRequest, bus: EventBus) -> EventBus:
    bus.fault = FAULTS[request.param]
    return bus


# Outcomes


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_the_detail_of_an_event_is_the_notification(
    table: Table, topic: Topic, bus: EventBus, status: Status
) -> None:
    table.put(running_record(deliver_to=ALL))
    build_notifier(table, topic, result_bus=bus.target()).notify(
        running_state().ended(status, code="why", message="Grüße"), OWNER
    )
    assert bus.entries == [
        {
            "Source": "waterhook",
            "DetailType": f"waterhook.execution.{status.lower()}",
            "Detail": topic.messages()[0],
            "Time": datetime.fromtimestamp(NOW + 60, UTC),
            "Resources": [OWNER],
            "EventBusName": BUS,
        }
    ]
    assert table.get(ID).notified_at is not None


def test_an_event_that_is_put_late_has_the_time_of_its_outcome(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    stored = table.put(running_record(deliver_to=ALL, **final_attributes()))
    build_notifier(table, topic, result_bus=bus.target(), clock=Clock(NOW + 9_999)).conclude(stored, {})
    assert bus.entries[0]["Time"] == datetime.fromtimestamp(NOW + 60, UTC)


@pytest.mark.parametrize("deliver_to", [("sns",), ("dynamodb",), ("sns", "dynamodb")], ids="+".join)
def test_nothing_is_put_on_the_bus_unless_the_request_lists_it(
    table: Table, topic: Topic, bus: EventBus, deliver_to: tuple[str, ...]
) -> None:
    table.put(running_record(deliver_to=deliver_to, progress_events=True))
    publisher = build_progress_publisher(table, topic, others=[bus.target()])
    publisher.publish(EAGER, {"progress": 50.0})
    build_notifier(table, topic, result_bus=bus.target()).notify(COMPLETED, OWNER)
    assert bus.calls == 0
    assert table.get(ID).notified_at is not None


@pytest.mark.parametrize("deliver_to", [("eventbridge",), ("eventbridge", "dynamodb")], ids="+".join)
def test_without_sns_the_outcome_is_only_on_the_bus(
    table: Table, topic: Topic, bus: EventBus, deliver_to: tuple[str, ...]
) -> None:
    table.put(running_record(deliver_to=deliver_to))
    build_notifier(table, topic, result_bus=bus.target()).notify(COMPLETED, OWNER)
    stored = table.get(ID)
    assert (len(bus.entries), topic.messages()) == (1, [])
    assert stored.final_output_json == ('{"n":1.0}' if "dynamodb" in deliver_to else None)


def test_no_client_is_created_for_a_request_without_the_bus(table: Table, topic: Topic) -> None:
    def create_client() -> Any:
        pytest.fail("a client was created")

    table.put(running_record(progress_events=True))
    target = EventBridgeTarget(create_client, BUS, SOURCE)
    build_progress_publisher(table, topic, others=[target]).publish(EAGER, {"progress": 50.0})
    build_notifier(table, topic, result_bus=target).notify(COMPLETED, OWNER)
    assert len(topic.messages()) == 2


# A bus that fails


def test_a_bus_that_fails_does_not_repeat_the_others(table: Table, topic: Topic, failing: EventBus) -> None:
    queue: Any = RecordingQueue()
    targets: dict[str, Any] = {"webhook": WebhookTarget(queue, SOURCE), "result_bus": failing.target()}
    table.put(running_record(deliver_to=ALL, webhook=Webhook("https://hooks.example.com/in")))
    for _ in range(40):
        with pytest.raises((ClientError, ReadTimeoutError)):
            build_notifier(table, topic, **targets).notify(COMPLETED, OWNER)
    stored = table.get(ID)
    assert (stored.status, stored.final_output_json) == (Status.COMPLETED, '{"n":1.0}')
    assert (stored.published_to, stored.notified_at) == (("sns", "webhook"), None)
    (message,) = topic.messages()
    assert (message, len(queue.messages)) == (notification_events.outcome_event(stored, SOURCE), 1)
    failing.fault = None
    build_notifier(table, topic, **targets).notify(COMPLETED, OWNER)
    assert (failing.details(), topic.messages(), len(queue.messages)) == ([message], [], 1)
    assert table.get(ID).notified_at is not None


def test_a_topic_that_fails_does_not_repeat_the_bus(table: Table, topic: Topic, bus: EventBus) -> None:
    table.put(running_record(deliver_to=ALL))
    sns: Any = FailingClient(topic.sns, {"publish": DOWN})
    for _ in range(3):
        with pytest.raises(ClientError):
            build_notifier(table, topic, sns=sns, result_bus=bus.target()).notify(COMPLETED, OWNER)
    assert table.get(ID).published_to == ("eventbridge",)
    build_notifier(table, topic, result_bus=bus.target()).notify(COMPLETED, OWNER)
    assert (len(bus.entries), len(topic.messages())) == (1, 1)


def test_the_topic_receives_its_event_before_the_bus_is_called(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    received: list[str] = []
    bus.meanwhile = lambda: received.extend(topic.messages())
    table.put(running_record(deliver_to=ALL))
    build_notifier(table, topic, result_bus=bus.target()).notify(COMPLETED, OWNER)
    assert len(received) == 1


def test_an_outcome_that_is_not_written_is_not_put_on_the_bus(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    table.put(running_record(deliver_to=ALL))
    records = table.records_over(FailingClient(table.client, {"update_item": DOWN}))
    with pytest.raises(RecordUnavailableError):
        build_notifier(table, topic, records=records, result_bus=bus.target()).notify(COMPLETED, OWNER)
    assert bus.calls == 0


def test_an_execution_ends_where_the_bus_was_switched_off_while_it_ran(table: Table, topic: Topic) -> None:
    table.put(running_record(deliver_to=("eventbridge",)))
    build_notifier(table, topic).notify(COMPLETED, OWNER)
    stored = table.get(ID)
    assert (stored.status, topic.messages()) == (Status.COMPLETED, [])
    assert stored.notified_at is not None


# Responses of EventBridge


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (refused("MalformedDetail"), "MalformedDetail"),
        (refused("ThrottlingException"), "ThrottlingException"),
        # Not a code: it could be any text.
        (refused("the detail is {...}"), "InvalidResponse"),
        (refused({"code": 1}), "InvalidResponse"),
        ({"FailedEntryCount": 1, "Entries": [{"EventId": "1"}]}, "InvalidResponse"),
        ({"FailedEntryCount": 0, "Entries": [{}]}, "InvalidResponse"),
        ({"FailedEntryCount": 0, "Entries": [None]}, "InvalidResponse"),
        ({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}, {"EventId": "2"}]}, "InvalidResponse"),
        ({"FailedEntryCount": 0, "Entries": [{"EventId": "1", "ErrorCode": "Denied"}]}, "Denied"),
        ({"Entries": [{"EventId": "1"}]}, "InvalidResponse"),
        ({}, "InvalidResponse"),
    ],
    ids=str,
)
def test_an_entry_that_is_not_accepted_raises_an_error_with_its_code_and_no_payload(
    bus: EventBus, response: Mapping[str, Any], code: str
) -> None:
    bus.fault = response
    with pytest.raises(ClientError) as raised:
        bus.target().publish_outcome(final_record(deliver_to=ALL))
    assert raised.value.response["Error"]["Code"] == code
    assert str(raised.value) == (
        f"An error occurred ({code}) when calling the PutEvents operation: EventBridge did not accept the event"
    )


class RawResponse:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._body


BODIES = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"<html>",
    b"\xff\xfe",
    b'{"Entries": 5}',
    b'{"Entries": {"a": 1}}',
    b'{"FailedEntryCount": "none", "Entries": [5]}',
)


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_a_body_that_boto3_can_not_read_counts_as_a_failure_of_the_bus(
    table: Table, topic: Topic, body: bytes
) -> None:
    client = boto3.client("events", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")

    def answer(request: Any, **_: Any) -> Any:
        return AWSResponse(request.url, 200, HTTPHeaders(), RawResponse(body))

    client.meta.events.register_first(
        "before-send.events.PutEvents",
        answer,
    )
    table.put(running_record(deliver_to=ALL, progress_events=True))
    target = EventBridgeTarget(lambda: client, BUS, SOURCE)
    assert build_progress_publisher(table, topic, others=[target]).publish(EAGER, {"progress": 50.0})
    with pytest.raises(ClientError, match="InvalidResponse") as raised:
        build_notifier(table, topic, result_bus=target).notify(COMPLETED, OWNER)
    assert raised.value.__suppress_context__  # the log has no part of the response
    assert len(topic.messages()) == 2
    assert table.get(ID).published_to == ("sns",)


def test_boto3_accepts_the_entry(table: Table, topic: Topic, aws: None) -> None:
    client = boto3.client("events", region_name=REGION)
    client.create_event_bus(Name=BUS)
    target = EventBridgeTarget(lambda: client, BUS, SOURCE)
    table.put(running_record(deliver_to=ALL, progress_events=True))
    assert build_progress_publisher(table, topic, others=[target]).publish(EAGER, {"progress": 50.0})
    build_notifier(table, topic, result_bus=target).notify(COMPLETED, OWNER)
    assert table.get(ID).notified_at is not None


# Sizes


@pytest.mark.parametrize("letter", ["🦆", '"', "\ufffe", "\x1f"])
def test_the_largest_entry_is_below_the_limit_of_eventbridge(bus: EventBus, letter: str) -> None:
    # A character that is not in XML takes twelve bytes as an escape, and six where it is escaped already.
    piece = {"\ufffe": "\ufffe", '"': '\\"', "\x1f": "\\u001f"}.get(letter, letter)
    output = '"' + piece * ((MAX_INLINE_BYTES - 2) // len(piece.encode())) + '"'
    record = largest_record(letter, final_output_json=output, owner_execution_arn="a" * 256)
    bus.target().publish_outcome(record)
    (entry,) = bus.entries
    texts = (entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"])
    size_bytes = TIME_BYTES + sum(len(text.encode()) for text in texts)
    assert size_bytes < MAX_ENTRY_BYTES // 2
    assert len(entry["DetailType"]) <= 128  # the limit of EventBridge, in characters


# Redelivery


def test_a_redelivery_goes_to_the_bus_and_the_topic_with_the_same_bytes(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    table.put(running_record(deliver_to=ALL))
    notifier = build_notifier(table, topic, result_bus=bus.target())
    notifier.notify(COMPLETED, OWNER)
    answer = notifier.redeliver(ID)
    assert (answer["redelivered"], answer["published_to"]) == (True, ["sns", "eventbridge"])
    first, again = bus.entries
    assert again == first
    assert topic.messages() == [first["Detail"]] * 2


@pytest.mark.parametrize(
    ("deliver_to", "published_to"),
    [
        (("sns", "dynamodb"), ["sns"]),
        (("eventbridge", "dynamodb"), ["eventbridge"]),
        (("eventbridge", "sns", "dynamodb"), ["sns", "eventbridge"]),
    ],
    ids=str,
)
def test_a_redelivery_goes_to_the_targets_of_the_request(
    table: Table, topic: Topic, bus: EventBus, deliver_to: tuple[str, ...], published_to: list[str]
) -> None:
    table.put(final_record(deliver_to=deliver_to, output_error="too_large", notified_at=to_rfc3339(NOW)))
    answer = build_notifier(table, topic, result_bus=bus.target()).redeliver(ID)
    assert answer["published_to"] == published_to
    assert (len(topic.messages()), len(bus.entries)) == (
        int("sns" in deliver_to),
        int("eventbridge" in deliver_to),
    )


@pytest.mark.parametrize(
    ("deliver_to", "why"),
    [(("eventbridge",), "ResultEventBusName"), (("dynamodb",), "neither sns nor eventbridge")],
    ids=str,
)
def test_a_redelivery_without_a_target_is_refused_with_the_reason(
    table: Table, topic: Topic, deliver_to: tuple[str, ...], why: str
) -> None:
    table.put(final_record(Status.FAILED, deliver_to=deliver_to))
    answer = build_notifier(table, topic).redeliver(ID)
    assert (answer["redelivered"], why in answer["reason"]) == (False, True)


def test_without_a_bus_a_redelivery_goes_to_the_topic_only(table: Table, topic: Topic) -> None:
    table.put(final_record(Status.FAILED, deliver_to=ALL))
    assert build_notifier(table, topic).redeliver(ID)["published_to"] == ["sns"]


@pytest.mark.parametrize("notified_at", [None, to_rfc3339(NOW)])
def test_a_redelivery_to_a_failing_bus_publishes_to_the_topic_and_raises(
    table: Table, topic: Topic, failing: EventBus, notified_at: str | None
) -> None:
    stored = table.put(final_record(Status.FAILED, deliver_to=ALL, notified_at=notified_at))
    with pytest.raises((ClientError, ReadTimeoutError)):
        build_notifier(table, topic, result_bus=failing.target()).redeliver(ID)
    assert len(topic.messages()) == 1
    current = table.get(ID)
    assert current.notified_at == notified_at
    assert current.published_to == (("sns",) if notified_at is None else None)
    assert current.status is stored.status


# Progress


def test_progress_goes_to_the_bus(table: Table, topic: Topic, bus: EventBus) -> None:
    table.put(running_record(deliver_to=ALL, progress_events=True))
    assert build_progress_publisher(table, topic, others=[bus.target()]).publish(EAGER, {"progress": 50.0})
    (entry,) = bus.entries
    assert entry["DetailType"] == "waterhook.execution.progress"
    assert (entry["Time"], entry["Resources"]) == (datetime.fromtimestamp(NOW, UTC), [OWNER])
    assert topic.messages() == [entry["Detail"]]


@pytest.mark.parametrize("targets", [("sns",), ("eventbridge",)], ids=str)
def test_progress_goes_only_to_the_targets_of_the_request(
    table: Table, topic: Topic, bus: EventBus, targets: tuple[str, ...]
) -> None:
    table.put(running_record(deliver_to=targets, progress_events=True))
    build_progress_publisher(table, topic, others=[bus.target()]).publish(EAGER, {"progress": 50.0})
    assert (len(topic.messages()), len(bus.entries)) == (
        int("sns" in targets),
        int("eventbridge" in targets),
    )


def progress(topic: Topic) -> list[float]:
    """Return the progress in the events of the topic, in the order of their ids."""
    return [text_progress for _, text_progress in sorted(map(_numbered, topic.messages()))]


def _numbered(text: str) -> tuple[int, float]:
    data = json.loads(text)["data"]
    return data["sequence"], data["progress"]


def test_a_bus_that_fails_takes_no_progress_from_the_topic_and_repeats_none(
    table: Table, topic: Topic, failing: EventBus
) -> None:
    table.put(running_record(deliver_to=ALL, progress_events=True))
    clock = Clock()
    publisher = build_progress_publisher(table, topic, clock, others=[failing.target()])
    for percent in (10.0, 10.0, 20.0, 20.0, 30.0):
        publisher.publish(EAGER, {"progress": percent})
        clock.advance(2)
    assert progress(topic) == [10.0, 20.0, 30.0]


def test_a_bus_that_does_not_answer_delays_one_event_and_receives_no_more_progress(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    table.put(running_record(deliver_to=ALL, progress_events=True))
    clock = Clock()
    bus.fault, bus.meanwhile = ReadTimeoutError(endpoint_url="x"), lambda: clock.advance(5)
    publisher = build_progress_publisher(table, topic, clock, others=[bus.target()])
    for percent in (10.0, 20.0, 30.0):
        assert publisher.publish(EAGER, {"progress": percent})
        clock.advance(2)
    assert (bus.calls, progress(topic)) == (1, [10.0, 20.0, 30.0])


def test_where_no_target_answers_the_record_is_not_written_for_progress(
    table: Table, topic: Topic, bus: EventBus
) -> None:
    stored = table.put(running_record(deliver_to=("eventbridge",), progress_events=True))
    clock = Clock()
    bus.fault, bus.meanwhile = ReadTimeoutError(endpoint_url="x"), lambda: clock.advance(5)
    publisher = build_progress_publisher(table, topic, clock, others=[bus.target()])
    for percent in (10.0, 20.0, 30.0):
        assert not publisher.publish(EAGER, {"progress": percent})
        clock.advance(2)
    assert (bus.calls, table.get(ID).progress_sequence) == (1, stored.progress_sequence + 1)
