"""Deliveries table: which of two concurrent writes each condition lets through, the index, and lost responses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.fakes.aws import FailingClient, RepeatingClient, WebhookTable, client_error
from tests.fakes.clock import NOW
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import CLAIM_S, KEPT_AFTER_S, MAX_ATTEMPTS
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.webhook_deliveries import DUE_SHARDS, DueDelivery, WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts

ID = "a" * 32
EVENT_ID = f"{ID}/1767225600000/COMPLETED"
HOST = "hooks.example.com"
EXPIRES_AT = int(NOW) + 10**6


def new(event_id: str = EVENT_ID, *, now: float = NOW, has_cleanup: bool = False) -> Delivery:
    return Delivery.new(
        event_id.partition("/")[0],
        event_id,
        host=HOST,
        now=now,
        expires_at=EXPIRES_AT,
        has_cleanup=has_cleanup,
    )


def claimed(table: WebhookTable, delivery: Delivery | None = None) -> Delivery:
    return table.deliveries.claim(delivery or new(), exists=False, token="first", now=NOW)


def waiting(table: WebhookTable) -> Delivery:
    """Return a stored delivery that waits for its second attempt."""
    return table.deliveries.retry(claimed(table), next_at=NOW + 5, queued=True, code=503, error="http_status")


def delivered(table: WebhookTable, delivery: Delivery) -> Delivery:
    return table.deliveries.finish(delivery, DeliveryStatus.DELIVERED, now=NOW + 1, code=204, error=None)


def stored(table: WebhookTable) -> Delivery:
    delivery = table.deliveries.get(ID, EVENT_ID)
    assert delivery is not None
    return delivery


def in_index(table: WebhookTable, before: float = NOW + 10**6) -> list[DueDelivery]:
    return [entry for shard in DUE_SHARDS for entry in table.deliveries.due(shard, before)]


def test_the_deliveries_that_began_since_a_time_are_found_in_all_pages(webhook_table: WebhookTable) -> None:
    # A page is a megabyte. An attribute of another version fills it.
    for digit in "0123456789":
        delivery = new(f"{digit * 32}/1/FAILED", now=NOW + int(digit))
        webhook_table.deliveries.claim(delivery, exists=False, token="first", now=NOW)
        webhook_table.client.update_item(
            TableName=webhook_table.name,
            Key={"pk": {"S": delivery.execution_id}, "sk": {"S": "1/FAILED"}},
            UpdateExpression="SET padding = :padding",
            ExpressionAttributeValues={":padding": {"S": "x" * 300_000}},
        )
    WebhookHosts(webhook_table.name, webhook_table.client, limit=1).enter(HOST, "token", NOW, held_back_s=0)
    found = webhook_table.deliveries.created_since(NOW + 3)
    assert sorted(delivery.execution_id[0] for delivery in found) == [*"3456789"]
    assert list(webhook_table.deliveries.created_since(NOW + 9.5)) == []


def test_a_missing_delivery_is_none(webhook_table: WebhookTable) -> None:
    assert webhook_table.deliveries.get(ID, EVENT_ID) is None
    assert webhook_table.deliveries.of_execution(ID) == []


@pytest.mark.parametrize(
    ("execution_id", "event_id"),
    [
        ("", ""),
        (ID, ID),
        (ID, f"{ID}/"),
        (ID, f"{'b' * 32}/1/FAILED"),
        (ID, f"{ID}/{'9' * 3000}"),
        ("é", "é/1"),
    ],
)
def test_an_invalid_id_has_no_delivery_and_sends_no_request(execution_id: str, event_id: str) -> None:
    no_client: Any = object()
    assert WebhookDeliveries("none", no_client).get(execution_id, event_id) is None


def test_the_first_claim_stores_the_delivery(webhook_table: WebhookTable) -> None:
    delivery = webhook_table.deliveries.claim(new(now=NOW + 0.123456), exists=False, token="t", now=NOW + 0.5)
    assert delivery == stored(webhook_table)
    assert delivery == replace(
        new(now=NOW + 0.123456), attempts=1, claim="t", last_attempt_at=NOW + 0.5, next_at=NOW + CLAIM_S + 1
    )
    assert [item["expires_at"] for item in webhook_table.items()] == [{"N": str(EXPIRES_AT)}]


def test_a_running_attempt_is_due_when_its_claim_ends(webhook_table: WebhookTable) -> None:
    claimed(webhook_table)
    assert in_index(webhook_table, NOW + CLAIM_S - 1) == []
    assert in_index(webhook_table, NOW + CLAIM_S) == [
        DueDelivery(ID, EVENT_ID, DeliveryStatus.PENDING, HOST, NOW + CLAIM_S, queued=False)
    ]


def test_a_failed_attempt_waits_for_the_next_one(webhook_table: WebhookTable) -> None:
    delivery = waiting(webhook_table)
    assert delivery == stored(webhook_table)
    assert (delivery.claim, delivery.attempts, delivery.last_code, delivery.last_error) == (
        None,
        1,
        503,
        "http_status",
    )
    second = webhook_table.deliveries.claim(delivery, exists=True, token="second", now=NOW + 5)
    assert (second.attempts, second.claim, second.queued) == (2, "second", False)
    assert second.next_at == NOW + 5 + 300


def test_the_time_of_the_next_attempt_is_rounded_up_to_whole_seconds(webhook_table: WebhookTable) -> None:
    delivery = webhook_table.deliveries.postpone(new(), exists=False, next_at=NOW + 5.001, queued=True)
    assert delivery.next_at == stored(webhook_table).next_at == NOW + 6


@pytest.mark.parametrize("status", [DeliveryStatus.DELIVERED, DeliveryStatus.GONE])
def test_a_finished_delivery_leaves_the_index(webhook_table: WebhookTable, status: DeliveryStatus) -> None:
    finished = webhook_table.deliveries.finish(
        claimed(webhook_table), status, now=NOW + 1, code=204, error=None
    )
    assert finished == stored(webhook_table)
    assert (finished.status, finished.claim, finished.last_code) == (status, None, 204)
    assert finished.delivered_at == (NOW + 1 if status is DeliveryStatus.DELIVERED else None)
    assert in_index(webhook_table) == list(webhook_table.deliveries.failed()) == []


def test_a_failed_delivery_moves_to_the_partition_of_failed_ones(webhook_table: WebhookTable) -> None:
    webhook_table.deliveries.finish(
        claimed(webhook_table), DeliveryStatus.FAILED, now=NOW + 0.5, code=None, error="timeout"
    )
    assert in_index(webhook_table) == []
    assert list(webhook_table.deliveries.failed()) == [
        DueDelivery(ID, EVENT_ID, DeliveryStatus.FAILED, HOST, NOW + 1, queued=False)
    ]
    assert list(webhook_table.deliveries.failed(since=NOW + 2)) == []


def test_a_delivery_whose_output_is_to_be_deleted_is_due_once_more_after_a_day(
    webhook_table: WebhookTable,
) -> None:
    finished = delivered(webhook_table, claimed(webhook_table, new(has_cleanup=True)))
    assert in_index(webhook_table, NOW + KEPT_AFTER_S) == []
    (due,) = in_index(webhook_table, NOW + KEPT_AFTER_S + 1)
    assert due.status is DeliveryStatus.DELIVERED
    webhook_table.deliveries.cleaned_up(finished)
    assert in_index(webhook_table) == []
    assert stored(webhook_table) == replace(finished, has_cleanup=False, next_at=NOW + 1)


def test_cleaned_up_does_nothing_if_the_delivery_was_deleted(webhook_table: WebhookTable) -> None:
    finished = delivered(webhook_table, claimed(webhook_table, new(has_cleanup=True)))
    webhook_table.deliveries.delete_of(ID)
    webhook_table.deliveries.cleaned_up(finished)
    assert webhook_table.items() == []


def test_a_resend_that_was_made_meanwhile_keeps_its_output(webhook_table: WebhookTable) -> None:
    finished = delivered(webhook_table, claimed(webhook_table, new(has_cleanup=True)))
    again = webhook_table.deliveries.reset(finished, exists=True, now=NOW + 2, queued=True)
    with pytest.raises(RecordConflictError):
        webhook_table.deliveries.cleaned_up(finished)
    assert stored(webhook_table) == again


def test_a_final_delivery_can_be_sent_again(webhook_table: WebhookTable) -> None:
    failed = webhook_table.deliveries.finish(
        claimed(webhook_table), DeliveryStatus.FAILED, now=NOW, code=500, error="http_status"
    )
    again = webhook_table.deliveries.reset(
        replace(failed, expires_at=EXPIRES_AT + 9), exists=True, now=NOW + 9, queued=True
    )
    assert again == stored(webhook_table)
    assert again == replace(new(now=NOW + 9), queued=True, expires_at=EXPIRES_AT + 9)
    assert [entry.event_id for entry in in_index(webhook_table)] == [EVENT_ID]
    assert list(webhook_table.deliveries.failed()) == []


def test_a_delivery_that_was_never_stored_can_be_sent(webhook_table: WebhookTable) -> None:
    assert webhook_table.deliveries.reset(new(), exists=False, now=NOW, queued=True) == stored(webhook_table)


def test_a_delivery_with_a_running_attempt_can_not_be_reset(webhook_table: WebhookTable) -> None:
    running = claimed(webhook_table)
    with pytest.raises(RecordConflictError, match="in a minute"):
        webhook_table.deliveries.reset(running, exists=True, now=NOW + CLAIM_S - 1, queued=True)
    assert stored(webhook_table) == running
    again = webhook_table.deliveries.reset(running, exists=True, now=NOW + CLAIM_S, queued=True)
    assert (again.attempts, again.claim) == (0, None)


type Write = Callable[[WebhookDeliveries, Delivery], object]

WRITES: dict[str, Write] = {
    "claim": lambda table, delivery: table.claim(delivery, exists=True, token="other", now=NOW + 70),
    "delivered": lambda table, delivery: table.finish(
        delivery, DeliveryStatus.DELIVERED, now=NOW + 70, code=200, error=None
    ),
    "failed": lambda table, delivery: table.finish(
        delivery, DeliveryStatus.FAILED, now=NOW + 70, code=None, error="timeout"
    ),
    "retry": lambda table, delivery: table.retry(
        delivery, next_at=NOW + 900, queued=False, code=500, error="http_status"
    ),
    "postpone": lambda table, delivery: table.postpone(delivery, exists=True, next_at=NOW + 130, queued=True),
    "reset": lambda table, delivery: table.reset(delivery, exists=True, now=NOW + 70, queued=True),
}


@pytest.mark.parametrize("second", WRITES)
@pytest.mark.parametrize("first", WRITES)
@pytest.mark.parametrize("read", [claimed, waiting], ids=["after a claim", "after a failed attempt"])
def test_of_two_writes_that_read_the_same_delivery_only_the_first_one_is_carried_out(
    webhook_table: WebhookTable, read: Callable[[WebhookTable], Delivery], first: str, second: str
) -> None:
    """The same write twice has the effect of one, as after a lost response."""
    as_read = read(webhook_table)
    WRITES[first](webhook_table.deliveries, as_read)
    after = stored(webhook_table)
    if first == second:
        WRITES[second](webhook_table.deliveries, as_read)
    else:
        with pytest.raises(RecordConflictError):
            WRITES[second](webhook_table.deliveries, as_read)
    assert stored(webhook_table) == after


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("status", {"S": "gone"}),
        ("attempts", {"N": "9"}),
        ("next_at", {"N": "9"}),
        ("claim", {"S": "another"}),
    ],
)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("read", [claimed, waiting], ids=["after a claim", "after a failed attempt"])
def test_a_write_fails_if_one_attribute_is_not_as_it_was_read(
    webhook_table: WebhookTable,
    read: Callable[[WebhookTable], Delivery],
    write: str,
    attribute: str,
    value: Any,
) -> None:
    as_read = read(webhook_table)
    (item,) = webhook_table.items()
    changed = item | {attribute: value}
    webhook_table.client.put_item(TableName=webhook_table.name, Item=changed)
    with pytest.raises(RecordConflictError):
        WRITES[write](webhook_table.deliveries, as_read)
    assert webhook_table.items() == [changed]


@pytest.mark.parametrize("write", WRITES)
def test_no_write_creates_a_delivery_that_was_deleted(webhook_table: WebhookTable, write: str) -> None:
    as_read = claimed(webhook_table)
    webhook_table.deliveries.delete_of(ID)
    with pytest.raises(RecordConflictError):
        WRITES[write](webhook_table.deliveries, as_read)
    assert webhook_table.items() == []


def test_of_two_claims_with_different_tokens_the_first_one_wins(webhook_table: WebhookTable) -> None:
    first = claimed(webhook_table)
    with pytest.raises(RecordConflictError):
        webhook_table.deliveries.claim(new(), exists=False, token="second", now=NOW + 1)
    with pytest.raises(RecordConflictError):
        webhook_table.deliveries.postpone(new(), exists=False, next_at=NOW + 60, queued=True)
    with pytest.raises(RecordConflictError):
        webhook_table.deliveries.reset(new(), exists=False, now=NOW, queued=True)
    assert stored(webhook_table) == first


def test_an_attempt_whose_claim_has_ended_does_not_change_the_next_one(webhook_table: WebhookTable) -> None:
    slow = claimed(webhook_table)
    following = webhook_table.deliveries.claim(slow, exists=True, token="second", now=NOW + 90)
    with pytest.raises(RecordConflictError):
        delivered(webhook_table, slow)
    with pytest.raises(RecordConflictError):
        webhook_table.deliveries.retry(slow, next_at=NOW + 99, queued=True, code=500, error="http_status")
    assert stored(webhook_table) == following


def test_the_last_attempt_without_a_result_can_be_finished_by_another_call(
    webhook_table: WebhookTable,
) -> None:
    delivery = claimed(webhook_table)
    for number in range(2, MAX_ATTEMPTS + 1):
        delivery = webhook_table.deliveries.claim(
            delivery, exists=True, token=str(number), now=delivery.next_at
        )
    assert delivery.attempts == MAX_ATTEMPTS
    WRITES["failed"](webhook_table.deliveries, stored(webhook_table))
    assert stored(webhook_table).status is DeliveryStatus.FAILED


# Lost responses


@pytest.mark.parametrize("name", ["claim first", *WRITES])
def test_a_write_that_botocore_repeats_is_no_conflict(webhook_table: WebhookTable, name: str) -> None:
    repeating = WebhookDeliveries(webhook_table.name, RepeatingClient(webhook_table.client))  # type: ignore[arg-type]
    if name == "claim first":
        written: object = repeating.claim(new(), exists=False, token="t", now=NOW)
    else:
        written = WRITES[name](repeating, claimed(webhook_table))
    assert written == stored(webhook_table)


def test_cleaned_up_that_botocore_repeats_is_no_conflict(webhook_table: WebhookTable) -> None:
    finished = delivered(webhook_table, claimed(webhook_table, new(has_cleanup=True)))
    repeating = WebhookDeliveries(webhook_table.name, RepeatingClient(webhook_table.client))  # type: ignore[arg-type]
    repeating.cleaned_up(finished)
    assert not stored(webhook_table).has_cleanup


def test_a_claim_whose_response_is_lost_permanently_is_ours(webhook_table: WebhookTable) -> None:
    lost = FailingClient(
        webhook_table.client, {"update_item": client_error("InternalServerError")}, after=True
    )
    deliveries = WebhookDeliveries(webhook_table.name, lost)  # type: ignore[arg-type]
    assert deliveries.claim(new(), exists=False, token="t", now=NOW).claim == "t"


def test_a_repeated_claim_after_which_another_attempt_began_is_a_conflict(
    webhook_table: WebhookTable,
) -> None:
    def meanwhile() -> None:
        webhook_table.deliveries.claim(stored(webhook_table), exists=True, token="other", now=NOW + 60)

    repeating: Any = RepeatingClient(webhook_table.client, meanwhile)
    with pytest.raises(RecordConflictError):
        WebhookDeliveries(webhook_table.name, repeating).claim(new(), exists=False, token="t", now=NOW)
    assert stored(webhook_table).claim == "other"


# Failures of the table


CALLS: dict[str, Callable[[WebhookDeliveries], object]] = {
    "get": lambda table: table.get(ID, EVENT_ID),
    "claim": lambda table: table.claim(new(), exists=False, token="t", now=NOW),
    "postpone": lambda table: table.postpone(new(), exists=False, next_at=NOW, queued=True),
    "cleaned_up": lambda table: table.cleaned_up(new()),
    "of_execution": lambda table: table.of_execution(ID),
    "due": lambda table: list(table.due("a", NOW)),
    "failed": lambda table: list(table.failed()),
    "delete_of": lambda table: table.delete_of(ID),
}


@pytest.mark.parametrize(
    "fault",
    [client_error("ThrottlingException"), EndpointConnectionError(endpoint_url="https://dynamodb")],
    ids=["throttled", "no connection"],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_failure_of_the_table_raises_record_unavailable(
    webhook_table: WebhookTable, call: str, fault: Exception
) -> None:
    faults = dict.fromkeys(("get_item", "update_item", "query"), fault)
    failing: Any = FailingClient(webhook_table.client, faults)
    with pytest.raises(RecordUnavailableError):
        CALLS[call](WebhookDeliveries(webhook_table.name, failing))


def test_a_delivery_is_read_consistently() -> None:
    """Moto has no replicas that lag behind, so this checks the request."""
    requests: list[dict[str, Any]] = []

    class RecordingClient:
        def get_item(self, **request: Any) -> dict[str, Any]:
            requests.append(request)
            return {}

    client: Any = RecordingClient()
    WebhookDeliveries("deliveries", client).get(ID, EVENT_ID)
    assert requests[0]["ConsistentRead"]


# Several deliveries


def event_ids(count: int, execution_id: str = ID) -> list[str]:
    return [f"{execution_id}/{number:013}/COMPLETED" for number in range(count)]


class ShortPages:
    """A client whose queries return two items per page."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.pages = 0

    def query(self, **arguments: Any) -> Any:
        self.pages += 1
        return self._real.query(**arguments | {"Limit": 2})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_the_index_is_read_page_by_page_with_the_oldest_entry_first(webhook_table: WebhookTable) -> None:
    for number, event_id in enumerate(event_ids(5)):
        webhook_table.deliveries.postpone(new(event_id), exists=False, next_at=NOW - number, queued=True)
    client: Any = ShortPages(webhook_table.client)
    due = WebhookDeliveries(webhook_table.name, client).due("a", NOW - 1)
    assert next(due).event_id == event_ids(5)[4]
    assert client.pages == 1
    assert [entry.event_id for entry in due] == event_ids(5)[3:0:-1]


def test_a_shard_has_only_the_executions_whose_id_begins_with_its_digit(webhook_table: WebhookTable) -> None:
    for digit in DUE_SHARDS:
        webhook_table.deliveries.claim(new(f"{digit * 32}/1/FAILED"), exists=False, token="t", now=NOW)
    for digit in DUE_SHARDS:
        (entry,) = webhook_table.deliveries.due(digit, NOW + CLAIM_S)
        assert entry.execution_id == digit * 32


def test_failed_deliveries_of_all_executions_are_in_one_partition(webhook_table: WebhookTable) -> None:
    for number, digit in enumerate("f0a"):
        delivery = webhook_table.deliveries.claim(
            new(f"{digit * 32}/1/FAILED"), exists=False, token="t", now=NOW
        )
        webhook_table.deliveries.finish(
            delivery, DeliveryStatus.FAILED, now=NOW + number, code=None, error="tls"
        )
    client: Any = ShortPages(webhook_table.client)
    failed = WebhookDeliveries(webhook_table.name, client).failed()
    assert [entry.execution_id[0] for entry in failed] == ["f", "0", "a"]


def test_the_deliveries_of_an_execution_are_listed_and_deleted(webhook_table: WebhookTable) -> None:
    other = new(f"{'b' * 32}/1/FAILED")
    for event_id in [*event_ids(5), other.event_id]:
        webhook_table.deliveries.claim(new(event_id), exists=False, token="t", now=NOW)
    client: Any = ShortPages(webhook_table.client)
    deliveries = WebhookDeliveries(webhook_table.name, client)
    assert [delivery.event_id for delivery in deliveries.of_execution(ID)] == event_ids(5)
    assert deliveries.delete_of(ID) == 5
    assert deliveries.of_execution(ID) == []
    assert deliveries.delete_of(ID) == 0
    assert len(deliveries.of_execution(other.execution_id)) == 1


def test_attributes_of_another_version_are_kept_and_ignored(webhook_table: WebhookTable) -> None:
    delivery = waiting(webhook_table)
    (item,) = webhook_table.items()
    webhook_table.client.put_item(TableName=webhook_table.name, Item=item | {"brand_new": {"S": "x"}})
    assert stored(webhook_table) == delivery
    delivered(webhook_table, webhook_table.deliveries.claim(delivery, exists=True, token="t", now=NOW))
    assert [item["brand_new"] for item in webhook_table.items()] == [{"S": "x"}]
