"""The notifier: the first outcome is written to the record, and the record is published."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import FailingClient, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.build import RETENTION_S, build_limiter, build_notifier
from tests.support.builders import (
    ID,
    OTHER,
    OWNER,
    SOURCE,
    SUCCESS_AND_FAILURE,
    UPSTREAM_ID,
    final_attributes,
    history,
    record,
    request,
    running_record,
    running_state,
)
from waterhook.domain.loop_state import LoopState
from waterhook.domain.status import Status
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.notifications import notification_events, state_machine_output
from waterhook.notifications.notifier import Notifier
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339


def completed(**result: Any) -> LoopState:
    return running_state(history=history(status_requests=3, polls=2, follows=1)).ended(
        Status.COMPLETED,
        **({"final_output_json": '{"n":1.0}', "completed_at": to_rfc3339(NOW + 59)} | result),
    )


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_an_outcome_is_written_published_and_marked_as_notified(
    table: Table, topic: Topic, status: Status
) -> None:
    table.put(running_record())
    output = build_notifier(table, topic).notify(
        running_state().ended(status, code="why", message="because"), OWNER
    )
    (message,) = topic.messages()
    stored = table.get(ID)
    assert (stored.status, stored.finished_at, stored.notified_at) == (
        status,
        to_rfc3339(NOW + 60),
        to_rfc3339(NOW + 60),
    )
    assert message == notification_events.outcome_event(stored, SOURCE)
    assert output == state_machine_output.outcome_output(stored)


def test_an_outcome_sets_when_the_record_expires(table: Table, topic: Topic) -> None:
    table.put(running_record())
    build_notifier(table, topic).notify(completed(), OWNER)
    assert table.get(ID).expires_at == int(NOW + 60) + RETENTION_S


@pytest.mark.parametrize("retention_days", [1, 400])
def test_the_retention_of_a_record_begins_with_its_notification(
    table: Table, topic: Topic, retention_days: int
) -> None:
    table.put(running_record())
    clock = Clock(NOW + 60)
    down: Any = FailingClient(topic.sns, {"publish": client_error("InternalError", 500)})
    retention_s = retention_days * 24 * 3600
    publisher = build_notifier(table, topic, sns=down, retention_s=retention_s, clock=clock)
    with pytest.raises(ClientError):
        publisher.notify(completed(), OWNER)
    clock.advance(29 * 24 * 3600)
    down.faults.clear()
    publisher.notify(completed(), OWNER)
    assert len(topic.messages()) == 1
    assert table.get(ID, clock.now).expires_at == int(clock.now) + retention_s


def test_a_notification_has_the_usage_and_the_times_of_its_execution(table: Table, topic: Topic) -> None:
    table.put(running_record())
    build_notifier(table, topic).notify(completed(), OWNER)
    data = json.loads(topic.messages()[0])["data"]
    assert data["usage"] == {"polls": 3, "follow_seconds": 0, "estimated_cost_usd": 0.000341}
    assert data["timing"] == {
        "accepted_at": to_rfc3339(NOW),
        "started_at": to_rfc3339(NOW + 1),
        "completed_at": to_rfc3339(NOW + 59),
        "finished_at": to_rfc3339(NOW + 60),
    }


def test_an_upstream_id_that_was_never_saved_is_saved_with_the_outcome(table: Table, topic: Topic) -> None:
    table.put(record(status=Status.STARTING))
    build_notifier(table, topic).notify(completed(), OWNER)
    assert table.get(ID).waterflai_execution_id == UPSTREAM_ID


def test_a_message_has_the_attributes_that_subscribers_filter_by(table: Table, topic: Topic) -> None:
    table.put(running_record())
    build_notifier(table, topic).notify(completed(), OWNER)
    (envelope,) = topic.envelopes()
    assert {name: result["Value"] for name, result in envelope["MessageAttributes"].items()} == {
        "type": "waterhook.execution.completed",
        "status": "COMPLETED",
        "chatbot_id": "support-chat",
    }


def test_a_repeated_notify_publishes_once_and_returns_the_same_output(table: Table, topic: Topic) -> None:
    table.put(running_record())
    first = build_notifier(table, topic).notify(completed(), OWNER)
    second = build_notifier(table, topic, clock=Clock(NOW + 999)).notify(completed(), OWNER)
    assert first == second
    assert len(topic.messages()) == 1


def test_a_second_notify_with_another_outcome_keeps_the_first(table: Table, topic: Topic) -> None:
    table.put(running_record())
    first = build_notifier(table, topic).notify(completed(), OWNER)
    second = build_notifier(table, topic).notify(
        running_state().ended(Status.TIMED_OUT, code="x", message="y"), OWNER
    )
    assert first == second
    assert len(topic.messages()) == 1


def test_an_outcome_that_another_function_wrote_is_published(table: Table, topic: Topic) -> None:
    table.put(running_record(**final_attributes(Status.FAILED)))
    output = build_notifier(table, topic).notify(completed(), OWNER)
    (message,) = topic.messages()
    assert json.loads(message)["data"]["status"] == output["outcome"] == Status.FAILED
    assert table.get(ID).final_output_json is None


def test_an_outcome_that_was_written_between_read_and_write_is_published(table: Table, topic: Topic) -> None:
    class Overtaken(ExecutionsTable):
        def conclude(self, record: Any, final_attributes: Any) -> ExecutionRecord:
            table.put(running_record(status=Status.CANCELLED, finished_at=to_rfc3339(NOW + 5)))
            return super().conclude(record, final_attributes)

    table.put(running_record())
    output = build_notifier(table, topic, records=Overtaken(table.name, table.client)).notify(
        completed(), OWNER
    )
    assert output["outcome"] == Status.CANCELLED
    assert json.loads(topic.messages()[0])["time"] == to_rfc3339(NOW + 5)


def test_a_notify_that_is_killed_at_any_step_and_repeated_publishes_one_event(
    table: Table, topic: Topic
) -> None:
    rehearsal = StepCounter()
    _run(table, topic, rehearsal, NOW + 60)
    topic.messages()
    steps = list(rehearsal.steps)
    assert steps.count("before publish") == 1
    for at, step in enumerate(steps):
        table.put(running_record())
        with pytest.raises(Killed):
            _run(table, topic, StepCounter(kill_at=at), NOW + 60)
        # Step Functions repeats the call minutes later.
        _notify(table, topic, StepCounter(), NOW + 600)
        messages = topic.messages()
        stored = table.get(ID)
        assert set(messages) == {notification_events.outcome_event(stored, SOURCE)}, step
        assert len(messages) <= 2, step
        assert stored.notified_at is not None


def _run(table: Table, topic: Topic, counter: StepCounter, now: float) -> None:
    table.put(running_record())
    _notify(table, topic, counter, now)


def _notify(table: Table, topic: Topic, counter: StepCounter, now: float) -> None:
    records = table.records_over(CountedClient(table.client, counter))
    build_notifier(
        table, topic, records=records, sns=CountedClient(topic.sns, counter), clock=Clock(now)
    ).notify(completed(), OWNER)


def test_a_late_notification_has_the_time_of_its_outcome(table: Table, topic: Topic) -> None:
    table.put(running_record())
    with pytest.raises(Killed):
        build_notifier(table, topic, sns=CountedClient(topic.sns, StepCounter(kill_at=0))).notify(
            completed(), OWNER
        )
    assert topic.messages() == []
    build_notifier(table, topic, clock=Clock(NOW + 5000)).notify(completed(), OWNER)
    assert json.loads(topic.messages()[0])["time"] == to_rfc3339(NOW + 60)


def test_a_topic_that_fails_raises_and_leaves_the_record_unmarked(table: Table, topic: Topic) -> None:
    table.put(running_record())
    failing = FailingClient(topic.sns, {"publish": client_error("Throttling")})
    for _ in range(3):
        with pytest.raises(type(client_error("x"))):
            build_notifier(table, topic, sns=failing).notify(completed(), OWNER)
        assert table.get(ID).notified_at is None
    build_notifier(table, topic).notify(completed(), OWNER)
    assert len(topic.messages()) == 1


def test_an_outcome_that_the_table_refuses_is_not_published(table: Table, topic: Topic) -> None:
    table.put(running_record())
    failing = table.records_over(
        FailingClient(table.client, {"update_item": client_error("ThrottlingException")})
    )
    with pytest.raises(RecordUnavailableError):
        build_notifier(table, topic, records=failing).notify(completed(), OWNER)
    assert topic.messages() == []
    assert table.status(ID) is Status.RUNNING


def test_an_outcome_whose_response_was_lost_is_published(table: Table, topic: Topic) -> None:
    table.put(running_record())
    lost = FailingClient(table.client, {"update_item": client_error("InternalServerError", 500)}, after=True)
    with pytest.raises(RecordUnavailableError):
        build_notifier(table, topic, records=table.records_over(lost)).notify(completed(), OWNER)
    assert table.status(ID) is Status.COMPLETED
    build_notifier(table, topic).notify(completed(), OWNER)
    assert len(topic.messages()) == 1


def test_without_sns_the_outcome_is_only_written_to_the_record(table: Table, topic: Topic) -> None:
    table.put(running_record(deliver_to=("dynamodb",)))
    build_notifier(table, topic).notify(completed(), OWNER)
    stored = table.get(ID)
    assert topic.messages() == []
    assert (stored.status, stored.final_output_json) == (Status.COMPLETED, '{"n":1.0}')
    assert stored.notified_at is not None


def test_without_dynamodb_the_output_is_deleted_after_it_was_published(table: Table, topic: Topic) -> None:
    table.put(running_record(deliver_to=("sns",)))
    with pytest.raises(Killed):
        build_notifier(table, topic, sns=CountedClient(topic.sns, StepCounter(kill_at=1))).notify(
            completed(), OWNER
        )
    assert table.get(ID).final_output_json == '{"n":1.0}'
    output = build_notifier(table, topic).notify(completed(), OWNER)
    assert table.get(ID).final_output_json is None
    assert table.get(ID).status is Status.COMPLETED
    # The state machine still returns it.
    assert output["final_output_json"] == '{"n":1.0}'
    first, second = topic.messages()
    assert first == second


def test_a_duplicate_neither_writes_an_outcome_nor_publishes(table: Table, topic: Topic) -> None:
    existing = table.put(running_record())
    output = build_notifier(table, topic).notify(completed(), OTHER)
    assert output["error_name"] == "Waterhook.Duplicate"
    assert table.get(ID) == existing
    assert topic.messages() == []


def test_a_duplicate_returns_the_outcome_of_the_first_execution(table: Table, topic: Topic) -> None:
    existing = table.put(running_record(**final_attributes(Status.FAILED)))
    output = build_notifier(table, topic).notify(completed(), OTHER)
    assert output == state_machine_output.outcome_output(existing)
    assert topic.messages() == []


def test_an_erased_execution_gets_no_new_record(table: Table, topic: Topic) -> None:
    output = build_notifier(table, topic).notify(completed(), OWNER)
    assert (output["error_name"], output["outcome"], output["next"]) == (
        "Waterhook.Error",
        Status.ERROR,
        "done",
    )
    assert "does not exist" in json.loads(output["cause"])["message"]
    assert (table.all(), topic.messages()) == ([], [])


def test_an_execution_that_is_erased_during_the_write_gets_no_new_record(table: Table, topic: Topic) -> None:
    class Erased(ExecutionsTable):
        def conclude(self, record: Any, final_attributes: Any) -> ExecutionRecord:
            table.delete(record)
            return super().conclude(record, final_attributes)

    table.put(running_record())
    with pytest.raises(RecordConflictError):
        build_notifier(table, topic, records=Erased(table.name, table.client)).notify(completed(), OWNER)
    assert (table.all(), topic.messages()) == ([], [])


def test_a_state_without_an_outcome_is_an_error(table: Table, topic: Topic) -> None:
    table.put(running_record())
    output = build_notifier(table, topic).notify(running_state(), OWNER)
    assert (output["outcome"], output["error"]["code"]) == (Status.ERROR, "no_outcome")
    assert json.loads(topic.messages()[0])["data"]["status"] == "ERROR"


def test_a_rejected_request_is_notified_without_an_upstream_id(table: Table, topic: Topic) -> None:
    table.put(record(request(metadata={"order": 7})))
    rejected = running_state(waterflai_execution_id=None).ended(
        Status.REJECTED, code="refused", message="HTTP 404"
    )
    build_notifier(table, topic).notify(rejected, OWNER)
    data = json.loads(topic.messages()[0])["data"]
    assert (data["status"], data["waterflai_execution_id"], data["metadata"]) == (
        "REJECTED",
        None,
        {"order": 7},
    )


# Slots


SLOTS = ("capacity", "capacity/support-chat")


def capped(table: Table, topic: Topic, *, client: Any = None) -> Notifier:
    return build_notifier(table, topic, limiter=build_limiter(table, stack=1, chatbot=1, client=client))


def is_free(table: Table) -> bool:
    return bool(build_limiter(table, stack=1, chatbot=1).acquire("f" * 32, "support-chat"))


def test_the_slot_of_a_finished_execution_is_free_again(table: Table, topic: Topic) -> None:
    build_limiter(table, stack=1, chatbot=1).acquire(ID, "support-chat")
    table.put(running_record(slots=SLOTS))
    assert not is_free(table)
    capped(table, topic).notify(completed(), OWNER)
    assert is_free(table)


def test_a_slot_that_could_not_be_released_is_released_by_the_next_notify(table: Table, topic: Topic) -> None:
    build_limiter(table, stack=1, chatbot=1).acquire(ID, "support-chat")
    table.put(running_record(slots=SLOTS))
    failing = FailingClient(table.client, {"update_item": client_error("TransactionConflictException")})
    with pytest.raises(RecordUnavailableError):
        capped(table, topic, client=failing).notify(completed(), OWNER)
    # It is published and marked. It stays in the index, so a sweep would release the slot.
    assert len(topic.messages()) == 1
    assert (table.get(ID).notified_at, table.get(ID).unfinished) == (to_rfc3339(NOW + 60), ID[0])
    capped(table, topic).notify(completed(), OWNER)
    assert is_free(table)
    assert (topic.messages(), table.get(ID).unfinished) == ([], None)


def test_a_duplicate_does_not_release_the_slot_of_the_first_execution(table: Table, topic: Topic) -> None:
    build_limiter(table, stack=1, chatbot=1).acquire(ID, "support-chat")
    table.put(running_record(slots=SLOTS))
    capped(table, topic).notify(completed(), OTHER)
    assert not is_free(table)


def test_the_slot_of_an_erased_execution_is_released(table: Table, topic: Topic) -> None:
    stack = build_limiter(table, stack=1)
    stack.acquire(ID, "support-chat")
    capped(table, topic).notify(completed(), OWNER)
    assert stack.acquire("f" * 32, "support-chat")


# Redelivery


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
@pytest.mark.parametrize("deliver_to", [["sns"], ["sns", "dynamodb"]], ids="+".join)
def test_a_redelivery_publishes_the_same_bytes(
    table: Table, topic: Topic, status: Status, deliver_to: list[str]
) -> None:
    result = {"output_ref": f"s3://results/executions/{ID}/final_output.json"}
    existing = running_record(deliver_to=tuple(deliver_to), metadata_json='{"order":7}')
    table.put(existing)
    build_notifier(table, topic).notify(
        running_state(history=history(status_requests=3)).ended(
            status, code="why", message="Grüße", **result
        ),
        OWNER,
    )
    (first,) = topic.envelopes()
    before = table.get(ID)
    answer = build_notifier(table, topic, clock=Clock(NOW + 9_999)).redeliver(ID)
    (again,) = topic.envelopes()
    assert again["Message"] == first["Message"]
    assert again["MessageAttributes"] == first["MessageAttributes"]
    assert answer == {
        "execution_id": ID,
        "redelivered": True,
        "outcome": status,
        "event_id": f"{ID}/1767225600000/{status}",
        "published_to": ["sns"],
    }
    # The time of the first notification does not change.
    assert table.get(ID) == before


def test_a_redelivery_does_not_change_numbers_of_the_output(table: Table, topic: Topic) -> None:
    table.put(running_record())
    build_notifier(table, topic).notify(
        completed(final_output_json='{"n":12345678901234567890,"r":1.0}'), OWNER
    )
    build_notifier(table, topic).redeliver(ID)
    first, again = topic.messages()
    assert again == first
    assert '"final_output":{"n":12345678901234567890,"r":1.0}' in again


@pytest.mark.parametrize("deliver_to", [["sns"], ["sns", "dynamodb"]], ids="+".join)
def test_a_redelivery_publishes_a_notification_that_could_not_be_published_before(
    table: Table, topic: Topic, deliver_to: list[str]
) -> None:
    table.put(running_record(deliver_to=tuple(deliver_to)))
    down = FailingClient(topic.sns, {"publish": client_error("InternalError", 500)})
    for _ in range(3):
        with pytest.raises(ClientError):
            build_notifier(table, topic, sns=down).notify(completed(), OWNER)
    safe = table.get(ID)
    assert (safe.status, safe.final_output_json, safe.notified_at) == (Status.COMPLETED, '{"n":1.0}', None)
    answer = build_notifier(table, topic, clock=Clock(NOW + 9_999)).redeliver(ID)
    assert answer["redelivered"] is True
    assert topic.messages() == [notification_events.outcome_event(safe, SOURCE)]
    assert table.get(ID).notified_at == to_rfc3339(NOW + 9_999)


def test_a_redelivery_to_a_failing_topic_raises_and_leaves_the_record_unmarked(
    table: Table, topic: Topic
) -> None:
    table.put(running_record(**final_attributes(Status.FAILED)))
    down = FailingClient(topic.sns, {"publish": client_error("InternalError", 500)})
    with pytest.raises(ClientError):
        build_notifier(table, topic, sns=down).redeliver(ID)
    assert table.get(ID).notified_at is None


@pytest.mark.parametrize(
    ("existing", "why"),
    [
        (None, "erased or has expired"),
        (running_record(), "status is RUNNING"),
        (record(), "status is ACCEPTED"),
        (
            running_record(**final_attributes(Status.FAILED), deliver_to=("dynamodb",)),
            "neither sns nor eventbridge",
        ),
        (
            running_record(**final_attributes(), deliver_to=("sns",), notified_at=to_rfc3339(NOW + 61)),
            "output was deleted",
        ),
        (running_record(**final_attributes(expires_at=int(NOW))), "has expired"),
    ],
    ids=["unknown", "running", "accepted", "no sns", "dropped", "expired"],
)
def test_a_redelivery_that_is_not_possible_is_refused_with_a_reason(
    table: Table, topic: Topic, existing: ExecutionRecord | None, why: str
) -> None:
    if existing is not None:
        table.put(existing)
    answer = build_notifier(table, topic).redeliver(ID)
    assert (answer["execution_id"], answer["redelivered"]) == (ID, False)
    assert why in answer["reason"]
    assert topic.messages() == []


@pytest.mark.parametrize("execution_id", [None, "", 5, ["a"], "\ud800", "x" * 9_999, "capacity"])
def test_a_redelivery_of_an_invalid_id_is_refused(table: Table, topic: Topic, execution_id: object) -> None:
    capacity = build_limiter(table, stack=1)
    capacity.acquire(ID, "support-chat")
    assert build_notifier(table, topic).redeliver(execution_id)["redelivered"] is False


def test_a_redelivery_that_is_killed_at_any_step_and_repeated_publishes_one_event(
    table: Table, topic: Topic
) -> None:
    def attempt(counter: StepCounter) -> None:
        client = table.records_over(CountedClient(table.client, counter))
        build_notifier(table, topic, records=client, sns=CountedClient(topic.sns, counter)).redeliver(ID)

    existing = running_record(**final_attributes(Status.FAILED))
    table.put(existing)
    rehearsal = StepCounter()
    attempt(rehearsal)
    for at in range(len(rehearsal.steps)):
        table.put(existing)
        with pytest.raises(Killed):
            attempt(StepCounter(kill_at=at))
        attempt(StepCounter())
    assert set(topic.messages()) == {notification_events.outcome_event(existing, SOURCE)}
