"""Reconcile: what the machine could not close is closed once, by its owner, with the outcome it really had."""

import heapq
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from functions.reconcile import app
from tests.fakes.aws import Bucket, Failing, Machine, Table, Topic, client_error
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
    UPSTREAM_ID,
    final_attributes,
    job,
    record,
    request_dict,
    running_record,
)
from tests.support.invoke import Invoke, log_of
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
FINAL = [status for status in Status if status.is_final]
# The record `ID` came in by the API, and this is what its execution was given.
GIVEN = {"execution_id": ID, "request": request_dict()}
OUTCOMES = {"ABORTED": "CANCELLED", "TIMED_OUT": "TIMED_OUT", "FAILED": "ERROR"}


class ReconcileScenario:
    """A reconcile step with its notifier and upstream; a pause is recorded and takes no time."""

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
        self, status: str = "ABORTED", given: object = GIVEN, *, arn: str = OWNER, error: str | None = None
    ) -> ExecutionRecord | None:
        return self._step.close(EndedExecution(arn, status, given, STARTED_AT, error))

    def published(self) -> list[str]:
        return [json.loads(text)["data"]["status"] for text in self.topic.messages()]


@pytest.mark.parametrize("status", OUTCOMES)
def test_a_job_whose_machine_ended_is_cancelled_and_its_record_closed(
    table: Table, topic: Topic, status: str
) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    assert scenario.close(status) is not None
    assert scenario.upstream.cancelled == [UPSTREAM_ID]
    assert scenario.published() == [OUTCOMES[status]]
    assert (table.status(ID), table.get(ID).notified_at is not None) == (OUTCOMES[status], True)


@pytest.mark.parametrize("status", OUTCOMES)
def test_a_request_that_was_not_started_yet_is_closed_without_an_upstream_request(
    table: Table, topic: Topic, status: str
) -> None:
    table.put(record())
    scenario = ReconcileScenario(table, topic)
    scenario.close(status)
    assert (scenario.published(), scenario.upstream.cancelled) == ([OUTCOMES[status]], [])
    with pytest.raises(RecordConflictError):
        table.records.begin_start(record())


@pytest.mark.parametrize("status", OUTCOMES)
def test_a_start_that_was_cut_off_is_uncertain(table: Table, topic: Topic, status: str) -> None:
    table.put(record(status=Status.STARTING))
    scenario = ReconcileScenario(table, topic)
    scenario.close(status)
    assert (scenario.published(), scenario.upstream.cancelled) == (["UNCERTAIN"], [])
    error = table.get(ID).error
    assert error is not None
    assert error["code"] == "start_uncertain"


@pytest.mark.parametrize("status", OUTCOMES)
def test_a_request_that_waits_after_a_lost_answer_is_uncertain(
    table: Table, topic: Topic, status: str
) -> None:
    table.put(record(start_attempts=1, perhaps_started=True))
    scenario = ReconcileScenario(table, topic)
    scenario.close(status)
    assert scenario.published() == ["UNCERTAIN"]
    error = table.get(ID).error
    assert error is not None
    assert error["code"] == "start_uncertain"


def test_a_start_still_under_way_leaves_no_job_running(table: Table, topic: Topic) -> None:
    """Who stops a machine stops no function: the start saves its id after the record was read without one."""
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


def test_an_upstream_that_responds_in_the_end_gets_no_further_request(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[DOWN, YES])
    scenario.close()
    assert len(scenario.upstream.cancelled) == 2
    error = table.get(ID).error
    assert error is not None
    assert "may still be running" not in error["message"]


def test_reconciled_twice_it_is_published_once(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close()
    there = table.get(ID)
    assert scenario.close("FAILED") is None
    assert (scenario.published(), table.get(ID), len(scenario.upstream.cancelled)) == (
        ["CANCELLED"],
        there,
        1,
    )


@pytest.mark.parametrize("status", FINAL)
def test_what_is_final_and_notified_is_left_alone(table: Table, topic: Topic, status: Status) -> None:
    there = table.put(
        running_record(**final_attributes(status), notified_at=to_rfc3339(NOW), unfinished=None)
    )
    scenario = ReconcileScenario(table, topic)
    assert scenario.close() is None
    assert (scenario.published(), table.get(ID), scenario.upstream.cancelled) == ([], there, [])


@pytest.mark.parametrize("status", FINAL)
def test_an_outcome_that_was_never_published_is_published_unchanged(
    table: Table, topic: Topic, status: Status
) -> None:
    table.put(running_record(**final_attributes(status)))
    scenario = ReconcileScenario(table, topic)
    scenario.close()
    assert (scenario.published(), scenario.upstream.cancelled) == ([status], [])
    assert (table.status(ID), table.get(ID).notified_at is not None) == (status, True)


def test_the_loops_notify_after_it_adds_nothing(table: Table, topic: Topic) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close()
    scenario.notifier.notify(job().ended(Status.COMPLETED), OWNER)
    assert (scenario.published(), table.status(ID)) == (["CANCELLED"], Status.CANCELLED)


def test_the_loops_notify_during_the_cancel_is_the_one_that_counts(table: Table, topic: Topic) -> None:
    table.put(running_record())

    def cancel() -> CancelResult:
        scenario.notifier.notify(job().ended(Status.COMPLETED), OWNER)
        return YES

    scenario = ReconcileScenario(table, topic, cancels=[cancel])
    scenario.close()
    assert (scenario.published(), table.status(ID)) == (["COMPLETED"], Status.COMPLETED)


def test_a_duplicates_end_does_nothing_to_the_first_one(table: Table, topic: Topic) -> None:
    keyed = request_dict(idempotency_key="order-7")
    starter = build_start_step(table.records, FakeUpstream(), Clock())
    starter.start(keyed, owner=OWNER, started_at=STARTED_AT)
    there = table.only()
    scenario = ReconcileScenario(table, topic)
    for status in OUTCOMES:
        assert scenario.close(status, keyed, arn=OTHER) is None
    assert (table.only(), scenario.published(), scenario.upstream.cancelled) == (there, [], [])


def test_a_forged_id_does_not_change_the_record_it_names(table: Table, topic: Topic) -> None:
    there = table.put(running_record())
    scenario = ReconcileScenario(table, topic)
    scenario.close(given=GIVEN, arn=OTHER)
    assert (table.get(ID), scenario.upstream.cancelled) == (there, [])


@pytest.mark.parametrize(
    ("given", "chatbot_id"),
    [(request_dict(), "support-chat"), ({"no": "request"}, None), (None, None)],
    ids=["a request", "an invalid one", "none"],
)
def test_an_execution_whose_record_never_existed_gets_one_and_a_notification(
    table: Table, topic: Topic, given: object, chatbot_id: str | None
) -> None:
    scenario = ReconcileScenario(table, topic)
    assert scenario.close("ABORTED", given) is not None
    there = table.only()
    assert (there.status, there.chatbot_id, there.owner_execution_arn) == (
        Status.CANCELLED,
        chatbot_id,
        OWNER,
    )
    assert scenario.close("ABORTED", given) is None
    assert scenario.published() == ["CANCELLED"]


def test_a_request_stopped_while_it_waited_for_room_is_closed_and_takes_none(
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


def test_a_job_that_is_closed_gives_its_slot_back(table: Table, topic: Topic) -> None:
    slots = build_limiter(table, stack=1, chatbot=1)
    slots.acquire(ID, "support-chat")
    table.put(running_record(slots=("capacity", "capacity/support-chat")))
    ReconcileScenario(table, topic, cancels=[YES], limiter=slots).close()
    assert slots.acquire("e" * 32, "support-chat")


@pytest.mark.parametrize("name", ["Waterhook.Error", "Waterhook.Duplicate", "Waterhook.TimedOut"])
def test_an_execution_that_notify_ended_is_left_alone_and_an_erased_one_stays_erased(
    table: Table, topic: Topic, name: str
) -> None:
    scenario = ReconcileScenario(table, topic)
    assert scenario.close("FAILED", request_dict(), error=name) is None
    assert (table.all(), scenario.published()) == ([], [])


@pytest.mark.parametrize("name", ["States.Runtime", "States.DataLimitExceeded", "Lambda.Unknown", None])
def test_a_fault_that_no_catch_saw_is_closed(table: Table, topic: Topic, name: str | None) -> None:
    table.put(running_record())
    scenario = ReconcileScenario(table, topic, cancels=[YES])
    scenario.close("FAILED", error=name)
    assert scenario.published() == ["ERROR"]


@pytest.mark.parametrize(
    "there", [record(), record(status=Status.STARTING), running_record()], ids=lambda one: one.status
)
def test_killed_at_any_step_and_called_again_it_is_one_outcome_published_at_least_once(
    table: Table, topic: Topic, there: ExecutionRecord
) -> None:
    rehearsal = StepCounter()
    table.put(there)
    ReconcileScenario(table, topic, cancels=[YES], counter=rehearsal).close()
    topic.messages()
    for at, step in enumerate(rehearsal.steps):
        table.put(there)
        with pytest.raises(Killed):
            ReconcileScenario(table, topic, cancels=[YES], counter=StepCounter(kill_at=at)).close()
        ReconcileScenario(table, topic, cancels=[YES]).close()
        messages = topic.messages()
        assert table.get(ID).notified_at is not None, step
        assert len(set(messages)) == 1, step
        assert len(messages) <= 2, step


def test_a_slot_that_could_not_be_given_back_after_the_notification_is_given_back_when_it_is_called_again(
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
    """Return a client whose every call takes so long, and one of them never succeeds."""
    faults = {hanging: ReadTimeoutError(endpoint_url="x")}
    return TimedClient(Failing(real, faults), clock, seconds)


@pytest.mark.parametrize(
    "hanging", ["", "get_item", "update_item", "put_object", "publish", "describe_execution"]
)
@pytest.mark.parametrize("upstream", ["does not answer", "refuses", "has completed", "is fast"])
def test_closing_a_record_fits_the_reserve_of_a_sweep_however_slow_everything_is(
    table: Table, topic: Topic, bucket: Bucket, upstream: str, hanging: str
) -> None:
    """Each call of AWS takes its longest time, one kind of call never succeeds, and Waterflai takes its budget."""
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
    # A start is under way when the closing begins: the way that takes most calls.
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


def test_an_output_that_the_bucket_does_not_take_keeps_its_record_open(
    table: Table, topic: Topic, bucket: Bucket
) -> None:
    """Closed now, a completed job would be called cancelled, and its output would be lost."""
    there = table.put(running_record())
    clock = Clock(NOW + 60)
    refusing: Any = Failing(bucket.client, {"put_object": client_error("SlowDown", 503)})
    large = StatusDocument("COMPLETED", final_output_json='"' + "x" * 40_000 + '"')
    upstream = FakeUpstream(cancels=[UpstreamRefusedError("refused", "409")], statuses=[large])
    results = ResultsBucket("results", lambda: refusing)
    step = build_reconcile_step(
        table.records, upstream, build_notifier(table, topic, clock=clock), clock, results=results
    )
    with pytest.raises(DependencyUnavailableError):
        step.end(there, "ABORTED")
    assert (table.get(ID), topic.messages()) == (there, [])


def test_a_secret_that_stays_unreadable_keeps_a_record_open_until_six_hours_after_its_deadline(
    table: Table, topic: Topic, bucket: Bucket
) -> None:
    there = table.put(running_record())
    clock = Clock(there.deadline + 6 * 3600 - 1)
    upstream = FakeUpstream(cancels=[KeyUnavailableError("the secret is empty")])
    step = build_reconcile_step(table.records, upstream, build_notifier(table, topic, clock=clock), clock)
    with pytest.raises(KeyUnavailableError):
        step.end(there, "ABORTED")
    clock.advance(1)
    step.end(there, "ABORTED")
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


def test_a_description_that_is_throttled_for_as_long_as_there_is_time_is_lambdas_to_repeat() -> None:
    assert 600 < sum(pauses_s(OWNER)) <= 840 - RESERVE_S


def test_a_thousand_executions_that_end_at_once_are_all_described_within_the_functions_time() -> None:
    """They share a bucket of 250 that is refilled by 10 a second, the smallest there is; none of them raises."""
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


def test_the_function_describes_no_execution_whose_name_leads_to_its_record(
    invoke: Invoke, table: Table, topic: Topic, machine: Machine
) -> None:
    """The machine of this test knows no such execution: its description would be an error."""
    owner = machine.arn.replace(":stateMachine:", ":execution:") + f":{ID}-1767225600000"
    table.put(record(owner_execution_arn=owner, expires_at=9_000_000_000))
    event = {"arn": owner, "status": "ABORTED"}
    assert invoke(app, event) == {"closed": True}
    assert invoke(app, event) == {"closed": False}
    assert len(topic.messages()) == 1


def stopped(machine: Machine, given: object) -> dict[str, Any]:
    """Start an execution, stop it, and return the event that a rule passes on."""
    arn = machine.client.start_execution(stateMachineArn=machine.arn, name="one", input=json.dumps(given))[
        "executionArn"
    ]
    machine.client.stop_execution(executionArn=arn)
    return {"arn": arn, "status": "ABORTED", "name": "one"}


def test_the_function_reads_the_input_of_the_execution(
    invoke: Invoke, machine: Machine, table: Table, topic: Topic
) -> None:
    event = stopped(machine, GIVEN)
    table.put(running_record(owner_execution_arn=event["arn"], expires_at=9_000_000_000))
    with ScriptedServer([reply(200, {"cancelled": True})]) as server:
        assert invoke(app, event, WATERFLAI_BASE_URL=server.url) == {"closed": True}
        assert invoke(app, event, WATERFLAI_BASE_URL=server.url) == {"closed": False}
    assert [one.method for one in server.requests] == ["DELETE"]
    assert len(topic.messages()) == 1


def test_the_function_finds_the_record_of_a_start_by_the_same_moment(
    invoke: Invoke, machine: Machine, table: Table
) -> None:
    """Without a key the record is named for the execution and its start, which two APIs write differently."""
    event = stopped(machine, request_dict())
    began = machine.client.describe_execution(executionArn=event["arn"])["startDate"].astimezone(UTC)
    text = began.isoformat(timespec="microseconds")
    starter = build_start_step(table.records, FakeUpstream(), lambda: datetime.now(UTC).timestamp())
    state = starter.start(request_dict(), owner=event["arn"], started_at=text)
    with ScriptedServer([reply(200, {"cancelled": True})]) as server:
        invoke(app, event, WATERFLAI_BASE_URL=server.url)
    assert (table.only().execution_id, table.only().status) == (state["execution_id"], Status.CANCELLED)


@pytest.mark.parametrize("hours", [-5, 0, 5.5])
def test_the_start_of_an_execution_is_written_in_utc_whatever_the_zone_of_the_machine(hours: float) -> None:
    class States:
        """Step Functions as boto3 shows it: moments in the local zone."""

        def describe(self, _arn: str, _remaining_s: object) -> dict[str, Any]:
            zone = timezone(timedelta(hours=hours))
            return {"startDate": datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC).astimezone(zone), "input": "{}"}

    states: Any = States()
    ended = describe(states, OWNER, "ABORTED", remaining_s=lambda: 60.0)
    assert ended.started_at == "2026-01-01T00:00:00.123Z"


def test_the_function_brings_an_output_that_was_faster_than_the_stop(
    invoke: Invoke, machine: Machine, table: Table, bucket: Bucket
) -> None:
    event = stopped(machine, GIVEN)
    table.put(running_record(owner_execution_arn=event["arn"], expires_at=9_000_000_000))
    output = '"' + "x" * 40_000 + '"'
    document = '{"status":"COMPLETED","final_output":' + output + "}"
    with ScriptedServer([reply(400, {"detail": "too late"}), reply(200, document)]) as server:
        invoke(app, event, WATERFLAI_BASE_URL=server.url)
    there = table.only()
    assert (there.status, bucket.text(there.output_ref or "")) == (Status.COMPLETED, output)


def test_the_log_of_a_reconciliation_holds_none_of_the_customers_data(
    invoke: Invoke, machine: Machine, table: Table
) -> None:
    given = request_dict(input_data={"secret": "input-7"}, metadata={"order": "metadata-7"})
    with log_of(app) as log:
        invoke(app, stopped(machine, given))
    assert table.only().status is Status.CANCELLED
    assert "input-7" not in log.getvalue()
    assert "metadata-7" not in log.getvalue()
