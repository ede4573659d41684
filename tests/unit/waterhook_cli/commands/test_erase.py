"""`waterhook erase`: deletes all data of one execution that can be deleted, and no other."""

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.fakes.aws import Bucket, Table, WebhookTable
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.fakes.deployed_stack import STACK_NAME, WEBHOOK_OUTPUTS, DeployedStack
from tests.support.builders import ID, OTHER, final_attributes, record, running_record
from tests.unit.waterhook_cli.command_line import run, run_in_terminal
from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_retries import CLAIM_S
from waterhook.errors import RecordConflictError
from waterhook.notifications import notification_events
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.timestamps import to_rfc3339
from waterhook_cli.commands.erase import Eraser, ErasureReport
from waterhook_cli.errors import CommandError, ExitCode

OTHER_ID = "1e" * 16
KEY = f"executions/{ID}/final_output.json"
CAPS = ConcurrencyLimits(stack=5, chatbot=5)


def finished(**changes: Any) -> ExecutionRecord:
    return running_record(**final_attributes(), notified_at=to_rfc3339(NOW + 61), **changes)


def eraser(table: Table, bucket: Bucket, counter: StepCounter | None = None, days: int = 1) -> Eraser:
    dynamodb: Any = CountedClient(table.client, counter) if counter else table.client
    return Eraser(
        dynamodb, bucket.client, table=table.name, bucket=bucket.name, clock=Clock(NOW + days * 86_400)
    )


def store(bucket: Bucket, key: str = KEY) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"{}")


def test_record_and_output_of_one_execution_are_deleted_and_no_others(table: Table, bucket: Bucket) -> None:
    table.put(finished(output_ref=f"s3://{bucket.name}/{KEY}"))
    kept = table.put(finished(execution_id=OTHER_ID))
    other_key = f"executions/{OTHER_ID}/final_output.json"
    store(bucket)
    store(bucket, other_key)
    erased = eraser(table, bucket).erase(ID)
    assert (erased.execution_id, erased.record, erased.notified, erased.objects) == (ID, True, True, (KEY,))
    assert table.all() == [kept]
    assert bucket.keys() == [other_key]


def test_all_versions_of_an_output_are_deleted(table: Table, bucket: Bucket) -> None:
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    table.put(finished())
    store(bucket)
    store(bucket)
    bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
    assert eraser(table, bucket).erase(ID).objects == (KEY, KEY)
    left = bucket.client.list_object_versions(Bucket=bucket.name)
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])


def test_an_output_without_a_record_is_deleted(table: Table, bucket: Bucket) -> None:
    store(bucket)
    erased = eraser(table, bucket).erase(ID)
    assert (erased.record, erased.notified, erased.objects) == (False, False, (KEY,))
    assert bucket.keys() == []


@pytest.mark.parametrize(
    "unfinished", [record(), record(status=Status.STARTING), running_record()], ids=lambda one: one.status
)
def test_an_execution_that_is_not_final_is_not_erased(
    table: Table, bucket: Bucket, unfinished: ExecutionRecord
) -> None:
    table.put(unfinished)
    store(bucket)
    with pytest.raises(CommandError, match=f"{ID} is {unfinished.status}: cancel it first"):
        eraser(table, bucket).erase(ID)
    assert (table.only(), bucket.keys()) == (unfinished, [KEY])


def test_an_unknown_execution_is_an_error(table: Table, bucket: Bucket) -> None:
    with pytest.raises(CommandError, match="erased or has expired") as caught:
        eraser(table, bucket).erase(ID)
    assert caught.value.exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    "caps", [CAPS, ConcurrencyLimits(stack=5), ConcurrencyLimits(chatbot=5), ConcurrencyLimits()]
)
def test_the_slots_are_released_and_no_item_is_created(
    table: Table, bucket: Bucket, caps: ConcurrencyLimits
) -> None:
    table.put(finished())
    capacity = ConcurrencyLimiter(table.name, caps, table.client)
    for execution_id in (ID, OTHER_ID):
        capacity.acquire(execution_id, "support-chat")
    eraser(table, bucket).erase(ID)
    items = table.client.scan(TableName=table.name)["Items"]
    assert all(item["running"] == {"SS": [OTHER_ID]} for item in items)
    assert len(items) == bool(caps.stack) + bool(caps.chatbot)


@pytest.mark.parametrize("stored", [False, True])
def test_the_slot_of_the_stack_is_released_also_without_a_record(
    table: Table, bucket: Bucket, *, stored: bool
) -> None:
    ConcurrencyLimiter(table.name, ConcurrencyLimits(stack=5), table.client).acquire(ID, "support-chat")
    if stored:
        store(bucket)
        eraser(table, bucket).erase(ID)
    else:
        with pytest.raises(CommandError, match="erased or has expired"):
            eraser(table, bucket).erase(ID)
    (slots,) = table.client.scan(TableName=table.name)["Items"]
    assert "running" not in slots


def test_an_execution_that_was_never_notified_is_erased_and_reported_as_such(
    table: Table, bucket: Bucket
) -> None:
    table.put(running_record(**final_attributes(Status.FAILED)))
    assert eraser(table, bucket).erase(ID).notified is False
    assert table.all() == []


def test_a_record_that_was_written_in_the_meantime_is_not_deleted(table: Table, bucket: Bucket) -> None:
    class Late(StepCounter):
        def step(self, name: str) -> None:
            if name == "before delete_item":
                table.put(record(owner_execution_arn=OTHER))

    table.put(finished())
    with pytest.raises(CommandError, match="started again"):
        eraser(table, bucket, Late()).erase(ID)
    assert table.only().owner_execution_arn == OTHER


def test_an_erasure_can_be_repeated_after_a_crash_at_any_step(table: Table, bucket: Bucket) -> None:
    def prepare() -> None:
        table.put(finished())
        ConcurrencyLimiter(table.name, CAPS, table.client).acquire(ID, "support-chat")
        store(bucket)

    prepare()
    complete = StepCounter()
    eraser(table, bucket, complete).erase(ID)
    assert len(complete.steps) == 8
    for at, step in enumerate(complete.steps):
        prepare()
        with pytest.raises(Killed):
            eraser(table, bucket, StepCounter(kill_at=at)).erase(ID)
        if step != "after delete_item":
            eraser(table, bucket).erase(ID)
        items = table.client.scan(TableName=table.name)["Items"]
        assert [name for item in items for name in item if name != "execution_id"] == [], step
        assert bucket.keys() == []


WEBHOOK = Webhook("https://hooks.example.com/?token=not-shown")
ERASED_AT = NOW + 86_400


def webhook_eraser(
    table: Table,
    bucket: Bucket,
    webhooks: WebhookTable,
    sleep: Callable[[float], None] | None = None,
    counter: StepCounter | None = None,
) -> Eraser:
    """Return an eraser with webhooks. Without `sleep`, it must not wait."""
    counted = StepCounter() if counter is None else counter
    dynamodb: Any = CountedClient(table.client, counted)

    def must_not_wait(_seconds: float) -> None:
        raise AssertionError

    return Eraser(
        dynamodb,
        bucket.client,
        table=table.name,
        bucket=bucket.name,
        deliveries=WebhookDeliveries(webhooks.name, dynamodb),
        clock=lambda: ERASED_AT,
        sleep=sleep or must_not_wait,
    )


def new_delivery(ended: ExecutionRecord, now: float = NOW) -> Delivery:
    event_id = notification_events.event_id(ended)
    return Delivery.new(ended.execution_id, event_id, host=WEBHOOK.host, now=now, expires_at=2**31)


def attempt(
    webhooks: WebhookTable, delivery: Delivery, now: float = NOW, *, exists: bool = False
) -> Delivery:
    """Begin an attempt of a delivery as the deliver function does."""
    return webhooks.deliveries.claim(delivery, exists=exists, token=f"token {now}", now=now)


def deliver(webhooks: WebhookTable, delivery: Delivery) -> None:
    claimed = attempt(webhooks, delivery)
    webhooks.deliveries.finish(claimed, DeliveryStatus.DELIVERED, now=NOW, code=200, error=None)


def test_the_deliveries_of_one_execution_are_deleted_and_no_others(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    ended = table.put(finished(webhook=WEBHOOK))
    other = finished(webhook=WEBHOOK, execution_id=OTHER_ID)
    deliver(webhook_table, new_delivery(ended))
    deliver(webhook_table, new_delivery(other))
    erased = webhook_eraser(table, bucket, webhook_table).erase(ID)
    assert (erased.record, erased.deliveries) == (True, 1)
    assert [item["pk"] for item in webhook_table.items()] == [{"S": OTHER_ID}]


def test_a_delivery_without_a_record_is_deleted(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    deliver(webhook_table, new_delivery(finished(webhook=WEBHOOK)))
    erased = webhook_eraser(table, bucket, webhook_table).erase(ID)
    assert (erased.record, erased.deliveries) == (False, 1)
    assert webhook_table.items() == []
    with pytest.raises(CommandError, match="erased or has expired"):
        webhook_eraser(table, bucket, webhook_table).erase(ID)


def test_a_first_attempt_that_read_the_record_before_leaves_no_delivery(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    delivery = new_delivery(table.put(finished(webhook=WEBHOOK)))

    def sleep(seconds: float) -> None:
        assert seconds >= CLAIM_S  # longer than the timeout of the deliver function
        assert table.all() == []  # so no further attempt begins
        deliver(webhook_table, delivery)

    erased = webhook_eraser(table, bucket, webhook_table, sleep).erase(ID)
    assert erased.deliveries == 1
    assert webhook_table.items() == []


@pytest.mark.parametrize("ends", ["claim", "finish", "retry", "postpone"])
def test_an_attempt_that_read_the_delivery_before_can_not_create_it_again(
    table: Table, bucket: Bucket, webhook_table: WebhookTable, ends: str
) -> None:
    ended = table.put(finished(webhook=WEBHOOK))
    read = attempt(webhook_table, new_delivery(ended))
    webhook_eraser(table, bucket, webhook_table).erase(ID)
    deliveries = webhook_table.deliveries
    writes: dict[str, Callable[[], object]] = {
        "claim": lambda: attempt(webhook_table, read, ERASED_AT, exists=True),
        "finish": lambda: deliveries.finish(read, DeliveryStatus.DELIVERED, now=NOW, code=200, error=None),
        "retry": lambda: deliveries.retry(read, next_at=NOW, queued=True, code=503, error="http_status"),
        "postpone": lambda: deliveries.postpone(read, exists=True, next_at=NOW, queued=True),
    }
    with pytest.raises(RecordConflictError):
        writes[ends]()
    assert webhook_table.items() == []


def test_a_delivery_that_has_just_begun_is_deleted_again_after_a_minute(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    # Another message of the delivery may have read the table before the first attempt wrote it.
    ended = table.put(finished(webhook=WEBHOOK))
    deliver(webhook_table, new_delivery(ended, now=ERASED_AT - CLAIM_S))
    waits: list[float] = []
    erased = webhook_eraser(table, bucket, webhook_table, waits.append).erase(ID)
    assert (erased.deliveries, waits) == (1, [CLAIM_S])


@pytest.mark.parametrize("webhook", [None, Webhook("https://hooks.example.com/", events=("failed",))])
def test_an_execution_whose_outcome_is_not_sent_is_erased_without_waiting(
    table: Table, bucket: Bucket, webhook_table: WebhookTable, webhook: Webhook | None
) -> None:
    table.put(finished(webhook=webhook))
    assert webhook_eraser(table, bucket, webhook_table).erase(ID).deliveries == 0


def test_an_erasure_with_deliveries_can_be_repeated_after_a_crash_at_any_step(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    def prepare() -> None:
        deliver(webhook_table, new_delivery(table.put(finished(webhook=WEBHOOK))))
        store(bucket)

    prepare()
    complete = StepCounter()
    webhook_eraser(table, bucket, webhook_table, counter=complete).erase(ID)
    record_deleted = complete.steps.index("after delete_item")
    assert complete.steps[record_deleted + 1 :].count("after delete_item") == 1  # the delivery
    for at in range(len(complete.steps)):
        prepare()
        with pytest.raises(Killed):
            webhook_eraser(table, bucket, webhook_table, counter=StepCounter(kill_at=at)).erase(ID)
        if webhook_table.items() or table.all():
            webhook_eraser(table, bucket, webhook_table).erase(ID)
        assert (table.all(), webhook_table.items(), bucket.keys()) == ([], [], []), complete.steps[at]


def test_remaining_data_of_a_webhook_is_reported(
    table: Table, bucket: Bucket, webhook_table: WebhookTable
) -> None:
    deliver(webhook_table, new_delivery(table.put(finished(webhook=WEBHOOK))))
    erased = webhook_eraser(table, bucket, webhook_table).erase(ID)
    assert until(erased, "queue of webhooks", exact=True) == date(2026, 1, 16)
    assert until(erased, "receiver of the webhook") is None
    assert "not-shown" not in str(erased)
    table.put(finished())
    places = [place.place for place in webhook_eraser(table, bucket, webhook_table).erase(ID).remaining]
    assert not [place for place in places if "webhook" in place]


def until(report: ErasureReport, word: str, *, exact: bool = False) -> date | None:
    (place,) = (
        place for place in report.remaining if (word == place.place if exact else word in place.place)
    )
    return place.until


def test_remaining_data_is_reported_with_its_last_day(table: Table, bucket: Bucket) -> None:
    table.put(finished())
    erased = eraser(table, bucket, days=30).erase(ID)
    # The execution ended on 1 January and is erased on the 31st.
    assert until(erased, "Step Functions") == date(2026, 4, 1)
    assert until(erased, "queues") == date(2026, 2, 14)
    assert until(erased, "point-in-time") == date(2026, 3, 7)
    assert until(erased, "logs") is None


def test_data_that_has_expired_is_not_reported(table: Table, bucket: Bucket) -> None:
    table.put(finished())
    places = [place.place for place in eraser(table, bucket, days=91).erase(ID).remaining]
    assert not [place for place in places if "Step Functions" in place]


def test_an_invalid_id_is_a_usage_error_before_aws_is_called(stack: DeployedStack) -> None:
    assert run("erase", "../" + ID, "--yes", on=stack).exit_code == 2
    assert stack.access_keys == set()


def test_erasing_a_running_execution_is_an_error(stack: DeployedStack) -> None:
    stack.table_items = [{"execution_id": {"S": ID}, "status": {"S": "RUNNING"}}]
    result = run("erase", ID, "--yes", on=stack)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{ID} is RUNNING: cancel it first, then erase it" in result.stderr


FINISHED = {
    "execution_id": {"S": ID},
    "status": {"S": "FAILED"},
    "chatbot_id": {"S": "support-chat"},
    "owner_execution_arn": {"S": "an-arn"},
    "finished_at": {"S": "2026-01-01T00:00:00.000Z"},
}


def test_the_report_is_printed(stack: DeployedStack) -> None:
    stack.table_items = [FINISHED]
    result = run("erase", ID, "--yes", on=stack)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "erased\trecord: yes",
        "erased\tstored outputs: 0",
        "note\tthe outcome was not published, and never will be",
    ]
    assert "remains\tlogs: ids, outcomes and error codes; no input and no output" in lines


def test_the_deleted_deliveries_are_printed(stack: DeployedStack) -> None:
    stack.table_items = [FINISHED]
    stack.outputs = WEBHOOK_OUTPUTS
    stack.deliveries = [{"pk": {"S": ID}, "sk": {"S": "1/FAILED"}}]
    assert "erased\tdeliveries of webhooks: 1\n" in run("erase", ID, "--yes", on=stack).stdout


def test_the_report_is_printed_as_json(stack: DeployedStack) -> None:
    stack.table_items = [FINISHED | {"notified_at": {"S": "2026-01-01T00:00:01.000Z"}}]
    report = json.loads(run("erase", ID, "--yes", "--json", on=stack).stdout)
    assert {name: report[name] for name in ("execution_id", "record", "notified", "objects")} == {
        "execution_id": ID,
        "record": True,
        "notified": True,
        "objects": [],
    }
    places = {place["place"]: place["until"] for place in report["remaining"]}
    assert places["logs"] is None
    assert date.fromisoformat(places["point-in-time recovery of the table"]) > date(2026, 1, 1)


def test_the_prompt_for_confirmation_has_the_stack_the_status_and_the_chatbot(stack: DeployedStack) -> None:
    stack.table_items = [FINISHED]
    code, screen = run_in_terminal("erase", ID, on=stack, typed="n\n", columns=200)
    assert code == 1
    assert (
        f"Erase execution {ID} (FAILED, chatbot support-chat) from the stack {STACK_NAME} (us-east-1)? "
        "This can't be undone. [y/N]" in screen
    )
    assert "Nothing was done." in screen
