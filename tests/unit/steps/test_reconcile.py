"""The reconcile step: closes the record of a state machine execution that ended without a notification."""

import heapq
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from functions.reconcile import app
from tests.fakes.aws import Bucket, FailingClient, Machine, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.fakes.step_functions import FakeStepFunctions
from tests.fakes.timed_client import TimedClient
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import (
    build_limiter,
    build_notifier,
    build_reconcile_step,
    build_start_step,
    build_sweeper,
)
from tests.support.builders import (
    ID,
    OTHER,
    OWNER,
    STARTED_AT,
    SUCCESS_AND_FAILURE,
    UPSTREAM_ID,
    final_attributes,
    record,
    request_dict,
    running_record,
    running_state,
)
from tests.support.invoke import Invoke
from waterhook import aws_config
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    DependencyUnavailableError,
    KeyUnavailableError,
    PerhapsAcceptedError,
    RecordConflictError,
    UpstreamRefusedError,
)
from waterhook.steps.reconcile import CALL_BUDGET_S, CANCEL_PAUSE_S, EndedExecution, describe
from waterhook.steps.state_machine_executions import RESERVE_S, StateMachineExecutions
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.client import CancelResult

YES = CancelResult(cancelled=True, message=None, previous_status="RUNNING")
DOWN = PerhapsAcceptedError("server_error", "HTTP 500", status=500)
# The input of the state machine execution of a request that the API accepted.
API_INPUT = {"execution_id": ID, "request": request_dict()}
OUTCOMES = {"ABORTED": "CANCELLED", "TIMED_OUT": "TIMED_OUT", "FAILED": "ERROR"}


class ReconcileScenario:
    """A reconcile step with its notifier and upstream. Pauses are stored and take no time."""

    def __init__(
        self,
        table: Table,
        topic: Topic,
        *,
        cancels: list[Answer[CancelResult]] | None = None,
        statuses: list[Answer[StatusDocument]] | None = None,
        counter: StepCounter | None = None,
        limiter: ConcurrencyLimiter | None = None,
    ) -> None:
        self.clock = Clock(NOW + 60)
        self.pauses: list[float] = []
        self.topic = topic
        self.upstream = FakeUpstream(cancels=cancels, statuses=statuses)
        records = table.records_over(CountedClient(table.client, counter) if counter else table.client)
        sns: Any = CountedClient(topic.sns, counter) if counter else topic.sns
        self.notifier = build_notifier(
            table,
            topic,
            records=records,
            sns=sns,
            clock=self.clock,
            limiter=limiter,
        )
        self._step = build_reconcile_step(
            records, self.upstream, self.notifier, self.clock, sleep=self.pauses.append
        )

    def close(
        self,
        status: str = "ABORTED",
        execution_input: object = API_INPUT,
        *,
        arn: str = OWNER,
        error: str | None = None,
    ) -> ExecutionRecord | None:
        return self._step.close(EndedExecution(arn, status, execution_input, STARTED_AT, error))

    def published(self) -> list[str]:
        return [json.loads(text)["data"]["status"] for text in self.topic.messages()]


@pytest.mark.parametrize("status", OUTCOMES)
def test_a_job_whose_state_machine_execution_ended_is_cancelled_and_its_record_closed(
    table: Table, topic: Topic, status: str
) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    assert scenario.close(status) is not None
    assert scenario.upstream.cancelled == [UPSTREAM_ID]
    assert scenario.published() == [OUTCOMES[status]]
    assert (table.status(ID), table.get(ID).notified_at is not None) == (OUTCOMES[status], True)


def test_a_request_that_was_not_started_yet_is_closed_without_an_upstream_request(
    table: Table, topic: Topic
) -> None:
    table.put(record())
    scenario = ReconcileScenario(table, topic)
    scenario.close()
    assert (scenario.published(), scenario.upstream.cancelled) == (["CANCELLED"], [])
    with pytest.raises(RecordConflictError):
        table.records.begin_start(record())


def test_a_record_that_is_starting_is_uncertain(table: Table, topic: Topic) -> None:
    table.put(record(status=Status.STARTING))
    scenario = ReconcileScenario(table, topic)
    scenario.close()
    assert (scenario.published(), scenario.upstream.cancelled) == (["UNCERTAIN"], [])
    error = table.get(ID).error
    assert error is not None
    assert error["code"] == "start_uncertain"


def test_a_request_that_waits_after_a_lost_answer_is_uncertain(table: Table, topic: Topic) -> None:
    table.put(record(start_attempts=1, perhaps_started=True))
    scenario = ReconcileScenario(table, topic)
    scenario.close()
    assert scenario.published() == ["UNCERTAIN"]
    error = table.get(ID).error
    assert error is not None
    assert error["code"] == "start_uncertain"


def test_a_job_that_a_running_start_saves_meanwhile_is_cancelled(table: Table, topic: Topic) -> None:
    """Stopping the execution does not stop its start function, which saves the id after reconcile read the record."""
    table.put(record())

    class Meanwhile(StepCounter):
        def step(self, name: str) -> None:
            if name == "before update_item" and table.get(ID).status is Status.ACCEPTED:
                table.records.save_start(table.records.begin_start(table.get(ID)), UPSTREAM_ID, NOW)

    scenario = ReconcileScenario(table, topic, cancels=[YES], counter=Meanwhile())
    scenario.close("ABORTED")
    assert scenario.upstream.cancelled == [UPSTREAM_ID]
    assert scenario.published() == ["CANCELLED"]


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED"])
def test_a_job_that_had_ended_meanwhile_keeps_its_real_outcome(table: Table, topic: Topic, end: str) -> None:
    table.put(running_record())
    late = UpstreamRefusedError("refused", "HTTP 409", status=409)
    scenario = ReconcileScenario(
        table, topic, cancels=[late], statuses=[StatusDocument(end, final_output_json="{}")]
    )
    scenario.close()
    assert scenario.published() == [end]


def test_an_upstream_that_does_not_respond_gets_three_requests_and_the_record_is_closed(
    table: Table, topic: Topic
) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[DOWN])
    scenario.close()
    assert (len(scenario.upstream.cancelled), scenario.pauses) == (3, [CANCEL_PAUSE_S] * 2)
    assert scenario.published() == ["CANCELLED"]
    error = table.get(ID).error
    assert error is not None
    assert "may still be running" in error["message"]


def test_a_cancel_that_succeeds_at_the_second_attempt_is_not_repeated(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[DOWN, YES])
    scenario.close()
    assert len(scenario.upstream.cancelled) == 2
    error = table.get(ID).error
    assert error is not None
    assert "may still be running" not in error["message"]


def test_an_execution_that_is_reconciled_twice_is_published_once(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close()
    stored = table.get(ID)
    assert scenario.close("FAILED") is None
    assert (scenario.published(), table.get(ID), len(scenario.upstream.cancelled)) == (
        ["CANCELLED"],
        stored,
        1,
    )


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_a_final_record_that_was_notified_is_not_changed(table: Table, topic: Topic, status: Status) -> None:
    stored = table.put(
        running_record(**final_attributes(status), notified_at=to_rfc3339(NOW), unfinished=None)
    )
    scenario = ReconcileScenario(table, topic)
    assert scenario.close() is None
    assert (scenario.published(), table.get(ID), scenario.upstream.cancelled) == ([], stored, [])


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_an_outcome_that_was_never_published_is_published_unchanged(
    table: Table, topic: Topic, status: Status
) -> None:
    table.put(running_record(**final_attributes(status)))
    scenario = ReconcileScenario(table, topic)
    scenario.close()
    assert (scenario.published(), scenario.upstream.cancelled) == ([status], [])
    assert (table.status(ID), table.get(ID).notified_at is not None) == (status, True)


def test_a_later_notify_of_the_loop_publishes_nothing(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close()
    scenario.notifier.notify(running_state().ended(Status.COMPLETED), OWNER)
    assert (scenario.published(), table.status(ID)) == (["CANCELLED"], Status.CANCELLED)


def test_an_outcome_that_the_loop_writes_during_the_cancel_is_kept(table: Table, topic: Topic) -> None:
    table.put(running_record())

    def cancel() -> CancelResult:
        scenario.notifier.notify(running_state().ended(Status.COMPLETED), OWNER)
        return YES

    scenario = ReconcileScenario(table, topic, cancels=[cancel])
    scenario.close()
    assert (scenario.published(), table.status(ID)) == (["COMPLETED"], Status.COMPLETED)


def test_the_end_of_a_duplicate_does_not_change_the_first_execution(table: Table, topic: Topic) -> None:
    keyed = request_dict(idempotency_key="order-7")
    starter = build_start_step(table.records, FakeUpstream(), Clock())
    starter.start(keyed, owner=OWNER, started_at=STARTED_AT)
    stored = table.only()
    scenario = ReconcileScenario(table, topic)
    for status in OUTCOMES:
        assert scenario.close(status, keyed, arn=OTHER) is None
    assert (table.only(), scenario.published(), scenario.upstream.cancelled) == (stored, [], [])


def test_an_execution_with_a_forged_id_does_not_change_that_record(table: Table, topic: Topic) -> None:
    stored = table.put(running_record())
    scenario = ReconcileScenario(table, topic)
    scenario.close(execution_input=API_INPUT, arn=OTHER)
    assert (table.get(ID), scenario.upstream.cancelled) == (stored, [])


@pytest.mark.parametrize(
    ("execution_input", "chatbot_id"),
    [(request_dict(), "support-chat"), ({"no": "request"}, None), (None, None)],
    ids=["a request", "an invalid one", "none"],
)
def test_an_execution_without_a_record_gets_a_record_and_a_notification(
    table: Table, topic: Topic, execution_input: object, chatbot_id: str | None
) -> None:
    scenario = ReconcileScenario(table, topic)
    assert scenario.close("ABORTED", execution_input) is not None
    stored = table.only()
    assert (stored.status, stored.chatbot_id, stored.owner_execution_arn) == (
        Status.CANCELLED,
        chatbot_id,
        OWNER,
    )
    assert scenario.close("ABORTED", execution_input) is None
    assert scenario.published() == ["CANCELLED"]


def test_a_request_stopped_while_it_waited_for_a_slot_releases_no_other_slot(
    table: Table, topic: Topic
) -> None:
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    starter = build_start_step(table.records, FakeUpstream(), Clock(), limiter=slots)
    state = starter.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert state["next"] == "start"
    scenario = ReconcileScenario(table, topic, limiter=slots)
    scenario.close("ABORTED", request_dict())
    assert scenario.published() == ["CANCELLED"]
    assert table.status(state["execution_id"]) is Status.CANCELLED
    assert not slots.acquire("e" * 32, "other")


def test_a_closed_job_releases_its_slot(table: Table, topic: Topic) -> None:
    slots = build_limiter(table, stack=1, chatbot=1)
    slots.acquire(ID, "support-chat")
    table.put(running_record(slots=("capacity", "capacity/support-chat")))
    ReconcileScenario(table, topic, cancels=[YES], limiter=slots).close()
    assert slots.acquire("e" * 32, "support-chat")


def test_an_execution_that_notify_ended_gets_no_new_record(table: Table, topic: Topic) -> None:
    scenario = ReconcileScenario(table, topic)
    assert scenario.close("FAILED", request_dict(), error="Waterhook.Error") is None
    assert (table.all(), scenario.published()) == ([], [])


@pytest.mark.parametrize("name", ["States.Runtime", None])
def test_a_fault_that_no_catch_handled_is_closed(table: Table, topic: Topic, name: str | None) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close("FAILED", error=name)
    assert scenario.published() == ["ERROR"]


@pytest.mark.parametrize(
    "stored", [record(), record(status=Status.STARTING), running_record()], ids=lambda one: one.status
)
def test_a_reconciliation_killed_at_any_step_and_repeated_publishes_one_outcome(
    table: Table, topic: Topic, stored: ExecutionRecord
) -> None:
    rehearsal = StepCounter()
    table.put(stored)
    ReconcileScenario(table, topic, cancels=[YES], counter=rehearsal).close()
    topic.messages()
    for at, step in enumerate(rehearsal.steps):
        table.put(stored)
        with pytest.raises(Killed):
            ReconcileScenario(table, topic, cancels=[YES], counter=StepCounter(kill_at=at)).close()
        ReconcileScenario(table, topic, cancels=[YES]).close()
        messages = topic.messages()
        assert table.get(ID).notified_at is not None, step
        assert len(set(messages)) == 1, step
        assert len(messages) <= 2, step


def test_a_slot_that_was_not_released_with_the_notification_is_released_by_reconcile(
    table: Table, topic: Topic
) -> None:
    slots = build_limiter(table, stack=1)
    slots.acquire(ID, "support-chat")
    table.put(running_record(**final_attributes(), notified_at=to_rfc3339(NOW), slots=("capacity",)))
    scenario = ReconcileScenario(table, topic, limiter=slots)
    assert scenario.close() is None
    assert slots.acquire("e" * 32, "other")
    assert (scenario.published(), table.get(ID).unfinished) == ([], None)


def slow(real: Any, clock: Clock, seconds: float, hanging: str) -> Any:
    """Return a client whose calls take `seconds`. Calls of `hanging` time out."""
    faults = {hanging: ReadTimeoutError(endpoint_url="x")}
    return TimedClient(FailingClient(real, faults), clock, seconds)


@pytest.mark.parametrize(
    "hanging", ["", "get_item", "update_item", "put_object", "publish", "describe_execution"]
)
@pytest.mark.parametrize("upstream", ["does not answer", "refuses", "has completed", "is fast"])
def test_closing_a_record_fits_the_reserve_of_a_sweep_with_every_call_at_its_longest(
    table: Table, topic: Topic, bucket: Bucket, upstream: str, hanging: str
) -> None:
    """Each call of AWS takes its longest time, one operation times out, and Waterflai uses its whole budget."""
    clock = Clock(NOW + 3600)
    table.put(running_record(waterflai_execution_id=None, status=Status.STARTING))

    def patiently(answer: object) -> Any:
        def step() -> Any:
            clock.advance(0.1 if upstream in {"is fast", "refuses"} else CALL_BUDGET_S)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return step

    large = StatusDocument("COMPLETED", final_output_json='"' + "x" * 40_000 + '"')
    fake = FakeUpstream(
        cancels=[
            patiently(
                {"has completed": UpstreamRefusedError("refused", "409"), "is fast": YES}.get(upstream, DOWN)
            )
        ],
        statuses=[patiently(large if upstream == "has completed" else DOWN)],
    )
    each_s = aws_config.longest_call_s()
    client = slow(table.client, clock, each_s, hanging)
    records = table.records_over(client)
    s3 = slow(bucket.client, clock, aws_config.longest_call_s(aws_config.UPLOADS), hanging)
    results = ResultsBucket(bucket.name, lambda: s3)
    notifier = build_notifier(
        table,
        topic,
        records=records,
        sns=slow(topic.sns, clock, each_s, hanging),
        clock=clock,
        limiter=build_limiter(table, stack=1, chatbot=1, client=client, sleep=clock.sleep),
    )
    step = build_reconcile_step(records, fake, notifier, clock, results=results)
    # The record changes from STARTING to RUNNING meanwhile: this takes the most calls.
    table.put(running_record())

    states = FakeStepFunctions()
    states.ended[OWNER] = ("ABORTED", NOW)
    began: list[float] = []

    def remaining_s() -> float:
        began.append(clock.now)
        return RESERVE_S

    sweeper = build_sweeper(
        records,
        UnfinishedIndex(table.name, table.client),
        StateMachineExecutions(slow(states, clock, each_s, hanging), "machine", clock, clock.sleep),
        step,
        notifier,
        clock,
    )
    swept = sweeper.sweep(remaining_s)
    assert swept.ended + swept.failed == 1
    assert clock.now - began[0] <= RESERVE_S
    attempts = {"does not answer": 3, "refuses": 3}.get(upstream, 1)
    if not hanging:
        assert len(fake.cancelled) == attempts


def test_a_record_whose_output_cannot_be_stored_stays_open(
    table: Table, topic: Topic, bucket: Bucket
) -> None:
    """Closing it now would record a completed job as cancelled and lose its output."""
    stored = table.put(running_record())
    clock = Clock(NOW + 60)
    refusing: Any = FailingClient(bucket.client, {"put_object": client_error("SlowDown", 503)})
    large = StatusDocument("COMPLETED", final_output_json='"' + "x" * 40_000 + '"')
    upstream = FakeUpstream(cancels=[UpstreamRefusedError("refused", "409")], statuses=[large])
    results = ResultsBucket("results", lambda: refusing)
    step = build_reconcile_step(
        table.records, upstream, build_notifier(table, topic, clock=clock), clock, results=results
    )
    with pytest.raises(DependencyUnavailableError):
        step.end(stored, "ABORTED")
    assert (table.get(ID), topic.messages()) == (stored, [])


def test_a_record_stays_open_for_six_hours_after_its_deadline_while_the_secret_is_unreadable(
    table: Table, topic: Topic, bucket: Bucket
) -> None:
    stored = table.put(running_record())
    clock = Clock(stored.deadline + 6 * 3600 - 1)
    upstream = FakeUpstream(cancels=[KeyUnavailableError("the secret is empty")])
    step = build_reconcile_step(table.records, upstream, build_notifier(table, topic, clock=clock), clock)
    with pytest.raises(KeyUnavailableError):
        step.end(stored, "ABORTED")
    clock.advance(1)
    step.end(stored, "ABORTED")
    error = table.only().error
    assert error is not None
    assert "may still be running: the API key could not be read" in error["message"]


# Throttled descriptions


def pauses_s(arn: str) -> list[float]:
    """Return how long the function sleeps after each throttle of one execution, until it gives up."""
    clock, pauses, states = Clock(), list[float](), FakeStepFunctions()
    states.faults[arn] = client_error("ThrottlingException")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    executions = StateMachineExecutions(cast("Any", states), "machine", clock, sleep)
    with pytest.raises(ClientError):
        describe(executions, arn, "FAILED", remaining_s=lambda: 840 - (clock.now - NOW))
    return pauses


def test_a_description_that_is_throttled_until_the_reserve_raises() -> None:
    assert 600 < sum(pauses_s(OWNER)) <= 840 - RESERVE_S


def test_a_thousand_executions_that_end_together_are_described_within_the_functions_time() -> None:
    """They share the smallest token bucket of Step Functions: 250 calls, refilled with 10 a second."""
    pauses = [pauses_s(f"{OWNER}-{number}") for number in range(1_000)]
    calls = [(0.0, number, 0) for number in range(1_000)]
    filled, filled_at, now = 250.0, 0.0, 0.0
    while calls:
        now, number, throttles = heapq.heappop(calls)
        filled, filled_at = min(filled + 10 * (now - filled_at), 250.0), now
        if filled >= 1:
            filled -= 1
        else:
            heapq.heappush(calls, (now + pauses[number][throttles], number, throttles + 1))
    assert now < 150


# The function


def test_the_function_does_not_describe_an_execution_whose_name_contains_its_id(
    invoke: Invoke, table: Table, topic: Topic, machine: Machine
) -> None:
    """This execution does not exist in Step Functions, so a DescribeExecution would fail."""
    owner = machine.arn.replace(":stateMachine:", ":execution:") + f":{ID}-1767225600000"
    table.put(record(owner_execution_arn=owner, expires_at=9_000_000_000))
    event = {"arn": owner, "status": "ABORTED"}
    assert invoke(app, event) == {"closed": True}
    assert invoke(app, event) == {"closed": False}
    assert len(topic.messages()) == 1


def stopped(machine: Machine, execution_input: object) -> dict[str, Any]:
    """Start an execution, stop it, and return the event of the EventBridge rule."""
    arn = machine.client.start_execution(
        stateMachineArn=machine.arn, name="one", input=json.dumps(execution_input)
    )["executionArn"]
    machine.client.stop_execution(executionArn=arn)
    return {"arn": arn, "status": "ABORTED", "name": "one"}


def test_the_function_reads_the_input_of_the_execution(
    invoke: Invoke, machine: Machine, table: Table, topic: Topic
) -> None:
    event = stopped(machine, API_INPUT)
    table.put(running_record(owner_execution_arn=event["arn"], expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"cancelled": True})]) as server:
        assert invoke(app, event, WATERFLAI_BASE_URL=server.url) == {"closed": True}
        assert invoke(app, event, WATERFLAI_BASE_URL=server.url) == {"closed": False}
    assert [one.method for one in server.requests] == ["DELETE"]
    assert len(topic.messages()) == 1


def test_the_function_finds_the_record_of_an_execution_without_a_key(
    invoke: Invoke, machine: Machine, table: Table
) -> None:
    """The id of a record without a key contains the start time, which two APIs format differently."""
    event = stopped(machine, request_dict())
    began = machine.client.describe_execution(executionArn=event["arn"])["startDate"].astimezone(UTC)
    text = began.isoformat(timespec="microseconds")
    starter = build_start_step(table.records, FakeUpstream(), lambda: datetime.now(UTC).timestamp())
    state = starter.start(request_dict(), owner=event["arn"], started_at=text)
    with ScriptedServer([reply(200, {"cancelled": True})]) as server:
        invoke(app, event, WATERFLAI_BASE_URL=server.url)
    assert (table.only().execution_id, table.only().status) == (state["execution_id"], Status.CANCELLED)


def test_the_start_of_an_execution_is_written_in_utc() -> None:
    class States:
        """Step Functions as boto3 returns it: times in the local zone."""

        def describe(self, _arn: str, _remaining_s: object) -> dict[str, Any]:
            zone = timezone(timedelta(hours=5.5))
            return {"startDate": datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC).astimezone(zone), "input": "{}"}

    states: Any = States()
    ended = describe(states, OWNER, "ABORTED", remaining_s=lambda: 60.0)
    assert ended.started_at == "2026-01-01T00:00:00.123Z"


def test_the_function_stores_the_output_of_a_job_that_completed_before_the_stop(
    invoke: Invoke, machine: Machine, table: Table, bucket: Bucket
) -> None:
    event = stopped(machine, API_INPUT)
    table.put(running_record(owner_execution_arn=event["arn"], expires_at=9_000_000_000))
    output = '"' + "x" * 40_000 + '"'
    document = '{"status":"COMPLETED","final_output":' + output + "}"
    with ScriptedServer([reply(400, {"detail": "too late"}), reply(200, document)]) as server:
        invoke(app, event, WATERFLAI_BASE_URL=server.url)
    stored = table.only()
    assert (stored.status, bucket.text(stored.output_ref or "")) == (Status.COMPLETED, output)
