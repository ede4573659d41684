"""Cancel by a caller: one outcome in every order of events, published before the response."""

import json
from typing import Any

import pytest

from tests.fakes.aws import FailingClient, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import build_job_canceller, build_notifier
from tests.support.builders import (
    ID,
    OWNER,
    UPSTREAM_ID,
    final_attributes,
    record,
    running_record,
    running_state,
)
from waterhook.api.cancellation import ExecutionCanceller
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    ApiError,
    PerhapsAcceptedError,
    RecordConflictError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.client import CancelResult

YES = CancelResult(cancelled=True, message=None, previous_status="RUNNING")

TOO_LATE = CancelResult(cancelled=False, message=None, previous_status="COMPLETED")

COMPLETED = StatusDocument("COMPLETED", final_output_json='{"n":1.0}')

FAULTS: dict[str, UpstreamError] = {
    "unreachable": UpstreamUnavailableError("unreachable", "no connection"),
    "500": PerhapsAcceptedError("server_error", "HTTP 500", status=500),
}


class CancellationScenario:
    """A canceller of executions with its records, notifier and upstream, on one clock."""

    def __init__(
        self,
        table: Table,
        topic: Topic,
        *,
        statuses: list[Answer[StatusDocument]] | None = None,
        cancels: list[Answer[CancelResult]] | None = None,
        counter: StepCounter | None = None,
        records: ExecutionsTable | None = None,
        upstream: FakeUpstream | None = None,
    ) -> None:
        self.clock = Clock(NOW + 60)
        self.topic = topic
        self.upstream = upstream or FakeUpstream(statuses=statuses, cancels=cancels)
        client: Any = CountedClient(table.client, counter) if counter else table.client
        sns: Any = CountedClient(topic.sns, counter) if counter else topic.sns
        self.records = records or table.records_over(client)
        self.notifier = build_notifier(table, topic, records=self.records, sns=sns, clock=self.clock)
        canceller = build_job_canceller(self.upstream, self.clock)
        self.canceller = ExecutionCanceller(self.records, canceller, self.notifier, self.clock)

    def published(self) -> list[str]:
        return [json.loads(text)["data"]["status"] for text in self.topic.messages()]


# Cancel before there is a job


def test_a_cancel_before_the_start_is_published_immediately_without_an_upstream_request(
    table: Table, topic: Topic
) -> None:
    scenario = CancellationScenario(table, topic)
    result = scenario.canceller.cancel(table.put(record()))
    assert result == CancelResult(cancelled=True, message="cancelled", previous_status="ACCEPTED")
    assert scenario.published() == ["CANCELLED"]
    assert (table.status(ID), scenario.upstream.cancelled) == (Status.CANCELLED, [])
    with pytest.raises(RecordConflictError):
        table.records.begin_start(record())


def test_a_cancel_after_a_lost_answer_is_uncertain(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic)
    result = scenario.canceller.cancel(table.put(record(start_attempts=1, perhaps_started=True)))
    assert (result.cancelled, result.previous_status) == (False, "ACCEPTED")
    assert "may be running this job" in (result.message or "")
    assert scenario.published() == ["UNCERTAIN"]
    stored = table.get(ID)
    assert stored.error is not None
    assert (stored.status, stored.error["code"]) == (Status.UNCERTAIN, "start_uncertain")
    # Repeated, it is too late.
    assert scenario.canceller.cancel(stored).message == "too late: the execution is UNCERTAIN"


def test_a_cancel_during_the_start_is_written_to_the_record_for_the_start(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic)
    stored = table.put(record(status=Status.STARTING))
    result = scenario.canceller.cancel(stored)
    assert (result.cancelled, result.previous_status) == (False, "STARTING")
    assert scenario.published() == []
    assert table.records.save_start(stored, UPSTREAM_ID, NOW).cancel_requested == to_rfc3339(NOW + 60)


class Moving(ExecutionsTable):
    """A table whose record changes between the caller's read and the write of the cancel request."""

    def __init__(self, table: Table, becomes: ExecutionRecord | None) -> None:
        super().__init__(table.name, table.client)
        self._there = table
        self._becomes = becomes

    def request_cancel(
        self, record: ExecutionRecord, now: float, *, by_operator: bool = False
    ) -> ExecutionRecord:
        if self._becomes is None:
            self._there.delete(record)
        else:
            self._there.put(self._becomes)
        return super().request_cancel(record, now, by_operator=by_operator)


@pytest.mark.parametrize("previous", [record(), record(status=Status.STARTING)], ids=lambda one: one.status)
def test_a_start_that_got_its_id_between_read_and_write_is_cancelled_upstream(
    table: Table, topic: Topic, previous: ExecutionRecord
) -> None:
    scenario = CancellationScenario(table, topic, cancels=[YES], records=Moving(table, running_record()))
    result = scenario.canceller.cancel(table.put(previous))
    assert (result.cancelled, scenario.upstream.cancelled) == (True, [UPSTREAM_ID])
    assert scenario.published() == ["CANCELLED"]


def test_a_start_that_began_between_read_and_write_finds_the_cancel_request(
    table: Table, topic: Topic
) -> None:
    scenario = CancellationScenario(table, topic, records=Moving(table, record(status=Status.STARTING)))
    assert not scenario.canceller.cancel(table.put(record())).cancelled
    assert table.get(ID).cancel_requested is not None
    assert table.status(ID) is Status.STARTING


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.COMPLETED])
def test_an_outcome_between_read_and_write_is_returned_to_the_caller(
    table: Table, topic: Topic, status: Status
) -> None:
    scenario = CancellationScenario(
        table, topic, records=Moving(table, running_record(**final_attributes(status)))
    )
    result = scenario.canceller.cancel(table.put(record()))
    assert result.cancelled is (status is Status.CANCELLED)
    assert table.get(ID) == running_record(**final_attributes(status))


def test_an_execution_erased_between_read_and_write_is_not_found(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic, records=Moving(table, None))
    with pytest.raises(ApiError) as caught:
        scenario.canceller.cancel(table.put(record()))
    assert caught.value.status == 404
    assert (table.all(), scenario.published()) == ([], [])


# Cancel of a running job


def test_a_cancel_of_a_running_job_is_published_before_the_response(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic, cancels=[YES])
    result = scenario.canceller.cancel(table.put(running_record()))
    assert result == CancelResult(cancelled=True, message="cancelled", previous_status="RUNNING")
    assert scenario.published() == ["CANCELLED"]
    stored = table.get(ID)
    assert stored.error == {"code": "cancelled", "message": "cancelled by its caller"}
    assert stored.notified_at is not None


def test_the_outcome_states_that_an_operator_cancelled_a_running_job(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic, cancels=[YES])
    assert scenario.canceller.cancel(table.put(running_record()), by_operator=True).cancelled
    assert table.get(ID).error == {"code": "cancelled", "message": "cancelled by an operator"}
    (message,) = topic.messages()
    assert json.loads(message)["data"]["error"]["message"] == "cancelled by an operator"


def test_the_outcome_states_that_an_operator_cancelled_before_the_start(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic)
    assert scenario.canceller.cancel(table.put(record()), by_operator=True).cancelled
    message = "cancelled by an operator before the job was started"
    assert table.get(ID).error == {"code": "cancelled", "message": message}


@pytest.mark.parametrize("by_operator", [[True], [False, True], [True, False], [False]], ids=str)
def test_the_latest_cancel_request_during_the_start_counts(
    table: Table, topic: Topic, by_operator: list[bool]
) -> None:
    scenario = CancellationScenario(table, topic)
    table.put(record(status=Status.STARTING))
    for operator in by_operator:
        scenario.canceller.cancel(table.get(ID), by_operator=operator)
    assert bool(table.get(ID).cancelled_by_operator) is by_operator[-1]


def test_a_later_notify_of_the_loop_publishes_nothing(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic, cancels=[YES])
    scenario.canceller.cancel(table.put(running_record()))
    stored = table.get(ID)
    for outcome in (Status.CANCELLED, Status.COMPLETED, Status.TIMED_OUT):
        assert scenario.notifier.notify(running_state().ended(outcome), OWNER)["status"] == Status.CANCELLED
    assert (scenario.published(), table.get(ID)) == (["CANCELLED"], stored)


def test_a_second_cancel_is_too_late_and_changes_nothing(table: Table, topic: Topic) -> None:
    scenario = CancellationScenario(table, topic, cancels=[YES])
    scenario.canceller.cancel(table.put(running_record()))
    stored = table.get(ID)
    result = scenario.canceller.cancel(stored)
    assert result == CancelResult(
        cancelled=False, message="too late: the execution is CANCELLED", previous_status="CANCELLED"
    )
    assert (scenario.published(), len(scenario.upstream.cancelled), table.get(ID)) == (
        ["CANCELLED"],
        1,
        stored,
    )


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.COMPLETED])
def test_a_cancel_of_a_finished_execution_sends_no_request_and_changes_nothing(
    table: Table, topic: Topic, status: Status
) -> None:
    scenario = CancellationScenario(table, topic)
    stored = table.put(running_record(**final_attributes(status)))
    result = scenario.canceller.cancel(stored)
    assert (result.cancelled, result.previous_status) == (False, status)
    assert (scenario.upstream.cancelled, scenario.published(), table.get(ID)) == ([], [], stored)


@pytest.mark.parametrize(
    "refusal", [TOO_LATE, UpstreamRefusedError("refused", "HTTP 409", status=409)], ids=str
)
def test_a_job_that_completed_first_is_completed_and_published_immediately(
    table: Table, topic: Topic, refusal: Answer[CancelResult]
) -> None:
    scenario = CancellationScenario(table, topic, cancels=[refusal], statuses=[COMPLETED])
    result = scenario.canceller.cancel(table.put(running_record()))
    assert result == CancelResult(
        cancelled=False, message="too late: the execution is COMPLETED", previous_status="RUNNING"
    )
    assert scenario.published() == ["COMPLETED"]
    assert table.get(ID).final_output_json == '{"n":1.0}'


def test_an_outcome_that_the_loop_writes_during_the_cancel_is_kept(table: Table, topic: Topic) -> None:
    def cancel() -> CancelResult:
        table.put(running_record(**final_attributes(Status.COMPLETED)))
        return YES

    scenario = CancellationScenario(table, topic, cancels=[cancel])
    result = scenario.canceller.cancel(table.put(running_record()))
    assert result.message == "too late: the execution is COMPLETED"
    assert scenario.published() == ["COMPLETED"]


def test_an_execution_erased_during_the_cancel_is_not_found(table: Table, topic: Topic) -> None:
    stored = table.put(running_record())

    def cancel() -> CancelResult:
        table.delete(stored)
        return YES

    scenario = CancellationScenario(table, topic, cancels=[cancel])
    with pytest.raises(ApiError) as caught:
        scenario.canceller.cancel(stored)
    assert caught.value.status == 404
    assert (table.all(), scenario.published()) == ([], [])


UNKNOWN = "Waterflai may have cancelled the job; read the status in a moment: "


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_cancel_that_the_upstream_does_not_answer_is_502_and_changes_nothing(
    table: Table, topic: Topic, fault: UpstreamError
) -> None:
    stored = table.put(running_record())
    scenario = CancellationScenario(table, topic, cancels=[fault])
    with pytest.raises(ApiError) as caught:
        scenario.canceller.cancel(stored)
    assert caught.value.status == 502
    if isinstance(fault, UpstreamUnavailableError):
        assert (
            caught.value.detail == f"Waterflai did not cancel the job, nothing has changed: {fault.message}"
        )
    else:
        assert caught.value.detail == UNKNOWN + fault.message
    assert (table.get(ID), scenario.published()) == (stored, [])


def test_a_cancel_after_a_lost_response_succeeds_if_the_status_is_cancelled(
    table: Table, topic: Topic
) -> None:
    stored = table.put(running_record())
    scenario = CancellationScenario(
        table, topic, cancels=[FAULTS["500"]], statuses=[StatusDocument("CANCELLED")]
    )
    result = scenario.canceller.cancel(stored)
    assert result == CancelResult(cancelled=True, message="cancelled", previous_status="RUNNING")
    assert scenario.published() == ["CANCELLED"]
    assert table.get(ID).error == {"code": "cancelled", "message": "cancelled by its caller"}


@pytest.mark.parametrize(
    "answer",
    [UpstreamRefusedError("refused", "HTTP 403", status=403), CancelResult(None, None, None), TOO_LATE],
    ids=["refused", "no body", "too late"],
)
@pytest.mark.parametrize(
    "status", [StatusDocument("RUNNING"), FAULTS["unreachable"]], ids=["running", "no status"]
)
def test_a_cancel_that_is_not_confirmed_is_502_and_changes_nothing(
    table: Table, topic: Topic, answer: Answer[CancelResult], status: Answer[StatusDocument]
) -> None:
    stored = table.put(running_record())
    scenario = CancellationScenario(table, topic, cancels=[answer], statuses=[status])
    with pytest.raises(ApiError) as caught:
        scenario.canceller.cancel(stored)
    assert caught.value.status == 502
    assert caught.value.detail == (
        "Waterflai has not confirmed the cancellation; read the status in a moment"
    )
    assert (table.get(ID), scenario.published()) == (stored, [])


# Crashes between any two steps


def cancelling_upstream(counter: StepCounter) -> FakeUpstream:
    """Return an upstream that cancels a job once, and reports it as CANCELLED afterwards."""
    again = CancelResult(cancelled=False, message=None, previous_status="CANCELLED")
    upstream = FakeUpstream(
        cancels=[YES, again],
        statuses=[lambda: StatusDocument("CANCELLED" if upstream.cancelled else "RUNNING")],
        counter=counter,
    )
    return upstream


@pytest.mark.parametrize(
    "stored", [record(), record(status=Status.STARTING), running_record()], ids=lambda one: one.status
)
def test_a_cancel_that_is_killed_at_any_step_and_repeated_publishes_one_outcome(
    table: Table, topic: Topic, stored: ExecutionRecord
) -> None:
    rehearsal = StepCounter()
    table.put(stored)
    CancellationScenario(
        table, topic, counter=rehearsal, upstream=cancelling_upstream(rehearsal)
    ).canceller.cancel(stored)
    topic.messages()
    for at, step in enumerate(rehearsal.steps):
        table.put(stored)
        counter = StepCounter(kill_at=at)
        upstream = cancelling_upstream(counter)
        with pytest.raises(Killed):
            CancellationScenario(table, topic, counter=counter, upstream=upstream).canceller.cancel(stored)
        upstream.counter = StepCounter()
        scenario = CancellationScenario(table, topic, upstream=upstream)
        answer = scenario.canceller.cancel(table.get(ID))
        # The loop ends the execution afterwards. A STARTING one has no outcome before.
        result = table.get(ID)
        if stored.status is Status.STARTING:
            assert (result.status, result.cancel_requested is not None, answer.cancelled) == (
                Status.STARTING,
                True,
                False,
            ), step
            continue
        scenario.notifier.notify(running_state().ended(Status.CANCELLED), OWNER)
        messages = topic.messages()
        assert table.get(ID).status is Status.CANCELLED, step
        assert table.get(ID).notified_at is not None, step
        assert len(set(messages)) == 1, step
        assert len(messages) <= 2, step


def test_an_outcome_that_the_topic_refused_is_published_by_the_loop(table: Table, topic: Topic) -> None:
    table.put(record())
    scenario = CancellationScenario(table, topic)
    failing: Any = FailingClient(topic.sns, {"publish": client_error("Throttling")})
    broken = build_notifier(table, topic, sns=failing, clock=scenario.clock)
    canceller = ExecutionCanceller(
        table.records, build_job_canceller(scenario.upstream, scenario.clock), broken, scenario.clock
    )
    with pytest.raises(type(client_error("Throttling"))):
        canceller.cancel(table.get(ID))
    assert table.status(ID) is Status.CANCELLED
    scenario.notifier.notify(running_state().ended(Status.CANCELLED), OWNER)
    assert scenario.published() == ["CANCELLED"]
