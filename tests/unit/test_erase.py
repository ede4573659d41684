"""Erasing one execution: nothing of it is left that can be, and nothing else is touched."""

from datetime import date
from typing import Any

import pytest

from tests.support.aws import Bucket, Killed, Table, Tape, Taped
from tests.support.builders import ID, OTHER, record, running_record, verdict
from tests.support.clock import NOW, Clock
from waterhook.domain.status import Status
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339
from waterhook_cli.erase import CannotErase, Erased, Eraser

OTHER_ID = "1e" * 16
KEY = f"executions/{ID}/final_output.json"
CAPS = ConcurrencyLimits(stack=5, chatbot=5)


def finished(**changes: Any) -> ExecutionRecord:
    return running_record(**verdict(), notified_at=to_rfc3339(NOW + 61), **changes)


def eraser(table: Table, bucket: Bucket, tape: Tape | None = None, days: int = 1) -> Eraser:
    dynamodb: Any = Taped(table.client, tape) if tape else table.client
    return Eraser(
        dynamodb, bucket.client, table=table.name, bucket=bucket.name, clock=Clock(NOW + days * 86_400)
    )


def store(bucket: Bucket, key: str = KEY) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"{}")


def test_record_and_output_of_one_execution_are_deleted_and_no_others(table: Table, bucket: Bucket) -> None:
    table.put(finished(output_ref=f"s3://{bucket.name}/{KEY}"))
    kept = table.put(finished(execution_id=OTHER_ID))
    others = f"executions/{OTHER_ID}/final_output.json"
    store(bucket)
    store(bucket, others)
    erased = eraser(table, bucket).erase(ID)
    assert (erased.execution_id, erased.record, erased.notified, erased.objects) == (ID, True, True, (KEY,))
    assert table.all() == [kept]
    assert bucket.keys() == [others]


def test_every_version_of_an_output_is_deleted(table: Table, bucket: Bucket) -> None:
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    table.put(finished())
    store(bucket)
    store(bucket)
    bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
    assert eraser(table, bucket).erase(ID).objects == (KEY, KEY)
    left = bucket.client.list_object_versions(Bucket=bucket.name)
    assert (left.get("Versions", []), left.get("DeleteMarkers", [])) == ([], [])


def test_an_output_that_no_record_names_is_deleted_too(table: Table, bucket: Bucket) -> None:
    store(bucket)
    erased = eraser(table, bucket).erase(ID)
    assert (erased.record, erased.notified, erased.objects) == (False, False, (KEY,))
    assert bucket.keys() == []


@pytest.mark.parametrize(
    "there", [record(), record(status=Status.STARTING), running_record()], ids=lambda one: one.status
)
def test_what_has_not_ended_is_left_alone_and_to_be_cancelled_first(
    table: Table, bucket: Bucket, there: ExecutionRecord
) -> None:
    table.put(there)
    store(bucket)
    with pytest.raises(CannotErase, match=f"{ID} is {there.status}: cancel it first"):
        eraser(table, bucket).erase(ID)
    assert (table.only(), bucket.keys()) == (there, [KEY])


def test_what_is_not_there_is_said_to_be_gone(table: Table, bucket: Bucket) -> None:
    with pytest.raises(CannotErase, match="erased or has expired"):
        eraser(table, bucket).erase(ID)


@pytest.mark.parametrize("execution_id", ["", "capacity", "../" + ID, ID.upper(), ID + "\n", "0f/" * 10])
def test_what_is_no_id_reaches_neither_table_nor_bucket(
    table: Table, bucket: Bucket, execution_id: str
) -> None:
    tape = Tape()
    with pytest.raises(CannotErase, match="32 hexadecimal digits"):
        eraser(table, bucket, tape).erase(execution_id)
    assert tape.steps == []


@pytest.mark.parametrize(
    "caps", [CAPS, ConcurrencyLimits(stack=5), ConcurrencyLimits(chatbot=5), ConcurrencyLimits()]
)
def test_no_slot_stays_taken_and_no_list_of_slots_is_made(
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
def test_an_execution_whose_record_is_gone_gives_back_the_slot_of_the_stack(
    table: Table, bucket: Bucket, *, stored: bool
) -> None:
    ConcurrencyLimiter(table.name, ConcurrencyLimits(stack=5), table.client).acquire(ID, "support-chat")
    if stored:
        store(bucket)
        eraser(table, bucket).erase(ID)
    else:
        with pytest.raises(CannotErase, match="erased or has expired"):
            eraser(table, bucket).erase(ID)
    (slots,) = table.client.scan(TableName=table.name)["Items"]
    assert "running" not in slots


def test_a_record_that_was_never_notified_is_erased_and_said_to_be_so(table: Table, bucket: Bucket) -> None:
    table.put(running_record(**verdict(Status.FAILED)))
    assert eraser(table, bucket).erase(ID).notified is False
    assert table.all() == []


def test_a_record_that_took_its_place_meanwhile_stays(table: Table, bucket: Bucket) -> None:
    class Late(Tape):
        def step(self, name: str) -> None:
            if name == "before delete_item":
                table.put(record(owner_execution_arn=OTHER))

    table.put(finished())
    with pytest.raises(CannotErase, match="started anew"):
        eraser(table, bucket, Late()).erase(ID)
    assert table.only().owner_execution_arn == OTHER


def test_interrupted_anywhere_it_finishes_when_called_again(table: Table, bucket: Bucket) -> None:
    def prepare() -> None:
        table.put(finished())
        ConcurrencyLimiter(table.name, CAPS, table.client).acquire(ID, "support-chat")
        store(bucket)

    prepare()
    rehearsal = Tape()
    eraser(table, bucket, rehearsal).erase(ID)
    assert len(rehearsal.steps) == 8
    for at, step in enumerate(rehearsal.steps):
        prepare()
        with pytest.raises(Killed):
            eraser(table, bucket, Tape(kill_at=at)).erase(ID)
        if step != "after delete_item":
            eraser(table, bucket).erase(ID)
        items = table.client.scan(TableName=table.name)["Items"]
        assert [name for item in items for name in item if name != "execution_id"] == [], step
        assert bucket.keys() == []


def until(erased: Erased, word: str) -> date | None:
    (place,) = (place for place in erased.remaining if word in place.place)
    return place.until


def test_what_stays_is_named_with_its_last_day(table: Table, bucket: Bucket) -> None:
    table.put(finished())
    erased = eraser(table, bucket, days=30).erase(ID)
    # It ended on 1 January, and is erased on the 31st.
    assert until(erased, "Step Functions") == date(2026, 4, 1)
    assert until(erased, "queues") == date(2026, 2, 14)
    assert until(erased, "point-in-time") == date(2026, 3, 7)
    assert until(erased, "logs") is None


def test_what_has_expired_already_is_not_said_to_stay(table: Table, bucket: Bucket) -> None:
    table.put(finished())
    places = [place.place for place in eraser(table, bucket, days=91).erase(ID).remaining]
    assert not [place for place in places if "Step Functions" in place]
