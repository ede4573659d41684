"""Queue of webhooks: delays, batches, and messages that SQS refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import FailingClient, Queue, client_error
from waterhook.errors import DependencyUnavailableError
from waterhook.notifications.webhook_queue import MAX_DELAY_S, WebhookQueue

MESSAGE = {"execution_id": "a" * 32, "event_id": f"{'a' * 32}/1767225600000/COMPLETED"}


class RecordingClient:
    """An SQS client that records its requests. `refused` are the indexes to refuse, for each batch."""

    def __init__(self, *refused: set[str]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._refused = list(refused)

    def send_message(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        return {}

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        refused = self._refused.pop(0) if self._refused else set[str]()
        ids = {entry["Id"] for entry in request["Entries"]}
        return {"Failed": [{"Id": name, "Code": "InternalError"} for name in sorted(ids & refused)]}

    @property
    def sizes(self) -> list[int]:
        return [len(request["Entries"]) for request in self.requests]


def queue_over(client: Any, url: str = "https://queue") -> WebhookQueue:
    return WebhookQueue(url, lambda: client)


def numbered(count: int) -> list[tuple[dict[str, Any], float]]:
    return [({"event_id": str(number)}, 0.0) for number in range(count)]


def test_a_message_is_delivered(queue: Queue) -> None:
    queue_over(queue.client, queue.url).send(MESSAGE)
    assert queue.messages() == [MESSAGE]


@pytest.mark.parametrize(
    ("delay_s", "seconds"), [(0.0, 0), (0.001, 1), (5.0, 5), (5.2, 6), (1e9, MAX_DELAY_S), (-3.0, 0)]
)
def test_a_delay_is_rounded_up_and_limited(delay_s: float, seconds: int) -> None:
    client = RecordingClient()
    queue_over(client).send(MESSAGE, delay_s)
    queue_over(client).send_batch([(MESSAGE, delay_s)])
    single, batch = client.requests
    assert single["DelaySeconds"] == batch["Entries"][0]["DelaySeconds"] == seconds


@pytest.mark.parametrize(
    ("host", "group"),
    [("hooks.example.com", "hooks.example.com"), ("::1", "::1"), ("a" * 253, "a" * 128), (None, "unknown")],
)
def test_messages_of_a_host_are_a_group_so_that_other_hosts_do_not_wait_for_them(
    host: str | None, group: str
) -> None:
    client = RecordingClient()
    queue_over(client).send({**MESSAGE, "host": host})
    queue_over(client).send_batch([({**MESSAGE, "host": host}, 0.0)])
    single, batch = client.requests
    assert single["MessageGroupId"] == batch["Entries"][0]["MessageGroupId"] == group


def test_many_messages_are_sent_in_batches_of_ten(queue: Queue) -> None:
    assert queue_over(queue.client, queue.url).send_batch(numbered(23)) == 23
    assert sorted(int(message["event_id"]) for message in queue.messages()) == list(range(23))
    client = RecordingClient()
    queue_over(client).send_batch(numbered(23))
    assert client.sizes == [10, 10, 3]


def test_without_messages_no_request_is_made_and_no_client_is_created() -> None:
    def no_client() -> Any:
        raise AssertionError

    assert WebhookQueue("https://queue", no_client).send_batch([]) == 0


def test_a_refused_message_is_sent_once_more() -> None:
    client = RecordingClient({"1", "3"})
    assert queue_over(client).send_batch(numbered(5)) == 5
    assert client.sizes == [5, 2]
    assert [entry["MessageBody"] for entry in client.requests[1]["Entries"]] == [
        '{"event_id":"1"}',
        '{"event_id":"3"}',
    ]


def test_a_message_that_is_refused_twice_is_raised_after_the_others_were_sent() -> None:
    client = RecordingClient({"1", "3"}, {"3"})
    with pytest.raises(DependencyUnavailableError, match="1 of 12 messages: InternalError"):
        queue_over(client).send_batch(numbered(12))
    assert client.sizes == [10, 2, 2]


@pytest.mark.parametrize(
    "call", [lambda queue: queue.send(MESSAGE), lambda queue: queue.send_batch([(MESSAGE, 0)])]
)
def test_an_error_of_boto3_is_raised_unchanged(queue: Queue, call: Callable[[WebhookQueue], object]) -> None:
    error = client_error("ThrottlingException")
    failing = FailingClient(queue.client, {"send_message": error, "send_message_batch": error})
    with pytest.raises(ClientError):
        call(queue_over(failing))
