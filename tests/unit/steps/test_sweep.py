"""The sweep: closes and publishes records whose state machine execution has ended."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.reconcile import app
from tests.fakes.aws import FailingClient, Machine, Table, Topic, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.fakes.step_functions import FakeStepFunctions
from tests.fakes.upstream_client import FakeUpstream
from tests.support.build import build_limiter, build_notifier, build_reconcile_step, build_sweeper
from tests.support.builders import (
    CALLER,
    ID,
    OWNER,
    SOURCE,
    SUCCESS_AND_FAILURE,
    UPSTREAM_ID,
    final_attributes,
    record,
    request_dict,
    running_record,
)
from tests.support.invoke import Invoke, log_of
from waterhook.domain.status import Status
from waterhook.notifications import notification_events
from waterhook.steps import state_machine_executions, sweep
from waterhook.steps.state_machine_executions import StateMachineExecutions
from waterhook.steps.sweep import SweepResult
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.execution_record import UNFINISHED_SHARDS, ExecutionRecord
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.timestamps import to_rfc3339

LATER = NOW + 3600
ALIVE = [record(), record(status=Status.STARTING), running_record()]


def owned(digit: str, **changes: Any) -> ExecutionRecord:
    """Return a running record with its own execution, in the index shard `digit`."""
    return running_record(
        execution_id=digit * 32, owner_execution_arn=OWNER + digit, unfinished=digit, **changes
    )


class Throttled:
    """Refuses an execution's description a number of times."""

    def __init__(self, states: FakeStepFunctions, arn: str, fault: Exception, times: int) -> None:
        self.times, self._arn, self._fault, self._describe = times, arn, fault, states.describe_execution
        states.describe_execution = self.describe_execution  # type: ignore[method-assign]

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        if arguments["executionArn"] == self._arn and self.times:
            self.times -= 1
            raise self._fault
        return self._describe(**arguments)


class SweepScenario:
    """A sweeper with Step Functions, a reconcile step, a notifier and an upstream, on one clock."""

    def __init__(
        self,
        table: Table,
        topic: Topic,
        *,
        sns: Any = None,
        now: float = LATER,
        limiter: ConcurrencyLimiter | None = None,
    ) -> None:
        self.clock, self.step_functions, self.topic = Clock(now), FakeStepFunctions(), topic
        self.upstream = FakeUpstream()
        self.failed: list[str] = []
        records = table.records
        self.notifier = build_notifier(table, topic, sns=sns, clock=self.clock, limiter=limiter)
        step = build_reconcile_step(
            records, self.upstream, self.notifier, self.clock, sleep=lambda _seconds: None
        )
        states: Any = self.step_functions
        self.unfinished = UnfinishedIndex(table.name, table.client)
        self.executions = StateMachineExecutions(states, "machine", self.clock, self.clock.sleep)
        self.sweeper = build_sweeper(
            records,
            self.unfinished,
            self.executions,
            step,
            self.notifier,
            self.clock,
            on_failure=lambda execution_id, _error: self.failed.append(execution_id),
        )

    def sweep(self, remaining_s: Callable[[], float] = lambda: 300.0) -> SweepResult:
        return self.sweeper.sweep(remaining_s)

    def published(self) -> list[tuple[str, str]]:
        events = [json.loads(text) for text in self.topic.messages()]
        return sorted((event["subject"], event["data"]["status"]) for event in events)


@pytest.fixture
def scenario(table: Table, topic: Topic) -> SweepScenario:
    return SweepScenario(table, topic)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("ABORTED", "CANCELLED"), ("TIMED_OUT", "TIMED_OUT"), ("FAILED", "ERROR"), ("SUCCEEDED", "ERROR")],
)
def test_a_record_whose_execution_ended_without_a_status_event_is_closed_as_by_that_event(
    table: Table, scenario: SweepScenario, status: str, outcome: str
) -> None:
    table.put(running_record())
    scenario.step_functions.ended[OWNER] = (status, NOW)
    assert scenario.sweep() == SweepResult(ended=1)
    assert scenario.upstream.cancelled == [UPSTREAM_ID]
    assert scenario.published() == [(ID, outcome)]
    assert table.only().unfinished is None
    assert scenario.sweep() == SweepResult()


@pytest.mark.parametrize(
    ("stored", "outcome", "code"),
    [
        (ALIVE[0], Status.ERROR, "never_started"),
        (ALIVE[1], Status.UNCERTAIN, "start_uncertain"),
        (ALIVE[2], Status.ERROR, "never_started"),
    ],
    ids=["accepted", "starting", "running"],
)
def test_a_record_whose_execution_does_not_exist_is_closed(
    table: Table, scenario: SweepScenario, stored: ExecutionRecord, outcome: Status, code: str
) -> None:
    table.put(stored)
    assert scenario.sweep() == SweepResult(ended=1)
    assert scenario.published() == [(ID, outcome)]
    closed = table.only()
    assert closed.error is not None
    assert closed.error["code"] == code
    assert len(scenario.upstream.cancelled) == (stored.waterflai_execution_id is not None)


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
@pytest.mark.parametrize("ended", ["FAILED", None])
def test_an_outcome_that_was_never_published_is_published_unchanged(
    table: Table, scenario: SweepScenario, status: Status, ended: str | None
) -> None:
    stored = table.put(running_record(**final_attributes(status)))
    if ended:
        scenario.step_functions.ended[OWNER] = (ended, NOW)
    assert scenario.sweep() == SweepResult(ended=1)
    assert scenario.topic.messages() == [notification_events.outcome_event(stored, SOURCE)]
    assert (table.only().status, table.only().notified_at) == (status, to_rfc3339(LATER))
    assert scenario.upstream.cancelled == []


@pytest.mark.parametrize(
    "stored",
    [*ALIVE, running_record(**final_attributes())],
    ids=lambda one: one.status,
)
def test_a_record_whose_execution_is_running_is_not_changed(
    table: Table, scenario: SweepScenario, stored: ExecutionRecord
) -> None:
    table.put(stored)
    scenario.step_functions.running = {OWNER, "another", "a third"}
    assert scenario.sweep() == SweepResult(alive=1)
    assert (table.only(), scenario.published(), scenario.step_functions.described) == (stored, [], [])


def test_an_execution_that_is_not_yet_in_the_list_of_running_ones_is_described(
    table: Table, scenario: SweepScenario
) -> None:
    stored = table.put(running_record())

    class Behind(set[str]):
        def __iter__(self) -> Any:
            return iter(())

    scenario.step_functions.running = Behind({OWNER})
    assert scenario.sweep() == SweepResult(alive=1)
    assert (table.only(), scenario.step_functions.described) == (stored, [OWNER])


@pytest.mark.parametrize("age_s", [0.0, state_machine_executions.GRACE_S - 1])
def test_an_execution_that_ended_less_than_the_grace_period_ago_is_left_to_reconcile(
    table: Table, scenario: SweepScenario, age_s: float
) -> None:
    stored = table.put(running_record())
    scenario.step_functions.ended[OWNER] = ("ABORTED", LATER - age_s)
    assert scenario.sweep() == SweepResult(alive=1)
    assert (table.only(), scenario.published()) == (stored, [])


def test_a_record_that_has_just_been_accepted_is_not_swept(table: Table, topic: Topic) -> None:
    table.put(record())
    scenario = SweepScenario(table, topic, now=NOW + state_machine_executions.GRACE_S - 1)
    assert scenario.sweep() == SweepResult()
    scenario.clock.advance(2)
    assert scenario.sweep() == SweepResult(ended=1)


def test_a_notified_record_is_not_in_the_index(table: Table, scenario: SweepScenario) -> None:
    scenario.notifier.conclude(
        table.put(running_record()), {"status": Status.FAILED, "finished_at": to_rfc3339(NOW)}
    )
    assert scenario.sweep() == SweepResult()
    assert scenario.step_functions.described == []


def test_a_record_older_than_the_index_is_added_to_it_with_its_outcome(table: Table, topic: Topic) -> None:
    table.put(running_record(unfinished=None))
    down = FailingClient(topic.sns, {"publish": client_error("InternalError", 500)})
    scenario = SweepScenario(table, topic, sns=down)
    with pytest.raises(Exception, match="InternalError"):
        scenario.notifier.conclude(table.only(), final_attributes(Status.FAILED))
    scenario.step_functions.ended[OWNER] = ("FAILED", NOW)
    down.faults.clear()
    assert scenario.sweep() == SweepResult(ended=1)
    assert scenario.published() == [(ID, "FAILED")]


def test_a_record_that_an_older_version_notified_leaves_the_index(
    table: Table, scenario: SweepScenario
) -> None:
    table.put(running_record(**final_attributes(), notified_at=to_rfc3339(NOW + 61), unfinished="0"))
    scenario.sweep()
    assert (table.only().unfinished, scenario.published(), scenario.step_functions.described) == (
        None,
        [],
        [],
    )


def test_each_sweep_tries_to_publish_the_same_event_while_the_topic_fails(table: Table, topic: Topic) -> None:
    down = FailingClient(topic.sns, {"publish": client_error("InternalError", 500)})
    scenario = SweepScenario(table, topic, sns=down)
    table.put(running_record())
    scenario.step_functions.ended[OWNER] = ("FAILED", NOW)
    for _ in range(2):
        assert scenario.sweep() == SweepResult(failed=1)
    safe = table.only()
    assert (safe.status, safe.notified_at) == (Status.ERROR, None)
    assert scenario.failed == [ID, ID]
    down.faults.clear()
    scenario.clock.advance(900)
    assert scenario.sweep() == SweepResult(ended=1)
    assert topic.messages() == [notification_events.outcome_event(safe, SOURCE)]


def test_a_record_that_cannot_be_swept_does_not_stop_the_others(
    table: Table, scenario: SweepScenario
) -> None:
    for digit in "0123":
        table.put(owned(digit))
    table.set("1" * 32, status="NONSENSE")
    scenario.step_functions.faults[OWNER + "2"] = client_error("AccessDeniedException")
    assert scenario.sweep() == SweepResult(ended=2, failed=2)
    assert scenario.published() == [("0" * 32, "ERROR"), ("3" * 32, "ERROR")]
    assert scenario.failed == ["1" * 32, "2" * 32]


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_a_throttled_record_is_tried_again_after_a_pause(
    table: Table, scenario: SweepScenario, code: str
) -> None:
    for digit in "012":
        table.put(owned(digit))
    throttled = Throttled(scenario.step_functions, OWNER + "1", client_error(code), times=2)
    assert scenario.sweep() == SweepResult(ended=3)
    assert throttled.times == 0
    assert scenario.clock.now - LATER >= 3 * state_machine_executions.THROTTLE_PAUSE_S


def test_a_record_that_is_throttled_each_time_does_not_stop_the_others(
    table: Table, scenario: SweepScenario
) -> None:
    for digit in "012":
        table.put(owned(digit))
    scenario.step_functions.faults[OWNER + "1"] = client_error("ThrottlingException")
    assert scenario.sweep() == SweepResult(ended=2, failed=1)
    assert scenario.failed == ["1" * 32]


def test_a_sweep_continues_where_the_last_one_stopped_and_reaches_every_shard(
    table: Table, scenario: SweepScenario
) -> None:
    """Also where the records of the first shards can never be closed."""
    for digit in UNFINISHED_SHARDS:
        table.put(owned(digit))
    for digit in "012345":
        scenario.step_functions.faults[OWNER + digit] = client_error("AccessDeniedException")
    counts = []
    for _ in range(6):
        scenario.step_functions.described.clear()
        counts.append(scenario.sweep(lambda: 300.0 if len(scenario.step_functions.described) < 3 else 0.0))
        scenario.clock.advance(sweep.SWEEP_INTERVAL_S)
    # The sixth sweep starts a second round. Only the records that can't be closed are left.
    assert [(one.ended, one.failed) for one in counts] == [(0, 3), (0, 3), (3, 0), (3, 0), (3, 0), (1, 2)]
    assert len(scenario.published()) == 10


def test_a_complete_sweep_deletes_the_position(table: Table, scenario: SweepScenario) -> None:
    for digit in "05a":
        table.put(owned(digit))
    first = scenario.sweep(
        lambda: (
            state_machine_executions.RESERVE_S
            if not scenario.step_functions.described
            else state_machine_executions.RESERVE_S - 0.001
        )
    )
    assert first == SweepResult(ended=1, left=2)
    assert scenario.unfinished.position() is not None
    assert scenario.sweep() == SweepResult(ended=2)
    assert scenario.unfinished.position() is None


def test_the_number_of_records_left_excludes_running_executions(
    table: Table, scenario: SweepScenario
) -> None:
    for digit in UNFINISHED_SHARDS:
        table.put(owned(digit))
    scenario.step_functions.running = {OWNER + "e", OWNER + "f"}
    left = scenario.sweep(
        lambda: (
            state_machine_executions.RESERVE_S
            if len(scenario.step_functions.described) < 3
            else state_machine_executions.RESERVE_S - 0.001
        )
    )
    assert left == SweepResult(ended=3, left=11)


class Pages:
    """A client whose pages hold two items. It counts the queries."""

    def __init__(self, table: Table) -> None:
        self._client = table.client
        self.queries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def query(self, **arguments: Any) -> Any:
        self.queries += 1
        return self._client.query(**arguments | {"Limit": 2})


def test_pages_of_the_index_are_read_one_at_a_time(
    table: Table,
) -> None:
    for index in range(7):
        table.put(running_record(execution_id=f"a{index:031x}", unfinished="a"))
    client: Any = Pages(table)
    entries = UnfinishedIndex(table.name, client).accepted_before(to_rfc3339(LATER) or "")
    next(entries)
    # Ten empty shards, and one page of the eleventh.
    assert client.queries == 11
    assert len({entry.execution_id for entry in entries}) == 6


def test_from_any_position_each_record_is_found_once(table: Table) -> None:
    for index in range(7):
        shard, created_at = "01f"[index % 3], to_rfc3339(NOW + index)
        table.put(
            running_record(execution_id=f"{shard}{index:031x}", unfinished=shard, created_at=created_at)
        )
    unfinished = UnfinishedIndex(table.name, table.client)
    ring = list(unfinished.accepted_before(to_rfc3339(LATER) or ""))
    for index, position in enumerate(ring):
        entries = list(unfinished.accepted_before(to_rfc3339(LATER) or "", after=position.key))
        # The entry at the position was the last of the previous sweep.
        assert entries == ring[index + 1 :] + ring[:index]


def test_the_oldest_record_of_a_shard_is_first(table: Table) -> None:
    for index, age_s in enumerate([5, 20, 10]):
        created_at = to_rfc3339(NOW - age_s)
        table.put(running_record(execution_id=f"a{index:031x}", unfinished="a", created_at=created_at))
    entries = UnfinishedIndex(table.name, table.client).accepted_before(to_rfc3339(NOW) or "")
    assert [entry.execution_id[-1] for entry in entries] == ["1", "2", "0"]


def test_descriptions_stay_below_the_rate_limit_of_step_functions(
    table: Table, scenario: SweepScenario
) -> None:
    for index in range(10):
        table.put(
            running_record(
                execution_id=f"a{index:031x}", owner_execution_arn=f"{OWNER}{index}", unfinished="a"
            )
        )
    assert scenario.sweep() == SweepResult(ended=10)
    assert len(scenario.step_functions.described) == 10
    assert scenario.clock.now - LATER >= 9 / state_machine_executions.DESCRIBES_PER_S


def test_the_number_of_listed_running_executions_is_limited(
    scenario: SweepScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_machine_executions, "MAX_RUNNING_PAGES", 3)
    scenario.step_functions.running = {f"{OWNER}{index}" for index in range(10)}
    # A page of the list holds two.
    assert len(list(scenario.executions.running(lambda: 300.0))) == 6


def test_a_throttled_list_of_running_executions_is_tried_again(table: Table, scenario: SweepScenario) -> None:
    table.put(owned("a"))
    scenario.step_functions.running = {OWNER + "a"}
    scenario.step_functions.list_faults = [client_error("ThrottlingException")]
    assert scenario.sweep() == SweepResult(alive=1)


# Requests that were never started


def never_started(**changes: Any) -> ExecutionRecord:
    return replace(record(), source="api", caller=CALLER, **changes)


@pytest.mark.parametrize(
    "stored",
    [never_started(), never_started(repeated=to_rfc3339(LATER - state_machine_executions.GRACE_S - 1))],
    ids=["requested once", "repeated long ago"],
)
def test_a_record_of_a_request_that_was_never_started_is_deleted_without_a_notification(
    table: Table, scenario: SweepScenario, stored: ExecutionRecord
) -> None:
    """Its POST was answered 503, so no caller has its id."""
    table.put(stored)
    assert scenario.sweep() == SweepResult(discarded=1)
    assert (table.all(), scenario.published(), scenario.upstream.cancelled) == ([], [], [])


def test_a_record_whose_request_was_just_repeated_is_not_deleted(
    table: Table, scenario: SweepScenario
) -> None:
    stored = table.put(never_started(repeated=to_rfc3339(LATER - state_machine_executions.GRACE_S + 1)))
    assert scenario.sweep() == SweepResult(alive=1)
    assert (table.only(), scenario.published()) == (stored, [])


def test_a_request_that_is_repeated_during_the_sweep_keeps_its_record(
    table: Table, scenario: SweepScenario
) -> None:
    table.put(never_started())
    describe = scenario.step_functions.describe_execution

    def meanwhile(**arguments: Any) -> dict[str, Any]:
        table.records.mark_repeated(table.only(), scenario.clock.now)
        return describe(**arguments)

    scenario.step_functions.describe_execution = meanwhile  # type: ignore[method-assign]
    assert scenario.sweep() == SweepResult(alive=1)
    assert table.only().status is Status.ACCEPTED


@pytest.mark.parametrize(
    "stored",
    [
        never_started(start_attempts=1),
        never_started(slots=("capacity",)),
        never_started(waiting={"reason": "queued"}),
        never_started(cancel_requested=to_rfc3339(NOW)),
        replace(never_started(), source="events", caller=None),
    ],
    ids=[
        "a start was tried",
        "a slot was taken",
        "it waits for a slot",
        "a cancel was requested",
        "not by the API",
    ],
)
def test_a_record_that_its_execution_or_a_caller_has_changed_is_notified(
    table: Table, scenario: SweepScenario, stored: ExecutionRecord
) -> None:
    table.put(stored)
    assert scenario.sweep() == SweepResult(ended=1)
    assert scenario.published() == [(ID, "ERROR")]
    error = table.only().error
    assert error is not None
    assert error["code"] == "never_started"


# Slots


def test_a_slot_that_was_not_released_with_the_notification_is_released_by_a_sweep(
    table: Table, topic: Topic
) -> None:
    slots = build_limiter(table, stack=1)
    slots.acquire(ID, "support-chat")
    table.put(running_record(**final_attributes(), notified_at=to_rfc3339(NOW + 61), slots=("capacity",)))
    scenario = SweepScenario(table, topic, limiter=slots)
    assert scenario.sweep() == SweepResult(alive=1)
    assert slots.acquire("e" * 32, "other")
    assert (table.only().unfinished, scenario.published()) == (None, [])


# The function


def test_the_function_sweeps_the_records_whose_execution_no_longer_exists(
    invoke: Invoke, machine: Machine, table: Table, topic: Topic
) -> None:
    def start(name: str) -> str:
        answer = machine.client.start_execution(stateMachineArn=machine.arn, name=name, input="{}")
        return answer["executionArn"]

    running, ended = start("running"), start("ended")
    machine.client.stop_execution(executionArn=ended)
    owners = {"a": running, "b": ended, "c": machine.arn.replace(":stateMachine:", ":execution:") + ":never"}
    for digit, owner in owners.items():
        table.put(
            running_record(
                execution_id=digit * 32,
                owner_execution_arn=owner,
                unfinished=digit,
                expires_at=9_000_000_000,
            )
        )
    with ScriptedServer([reply(200, {"cancelled": True})]) as server:
        answer = invoke(app, {"sweep": {}}, WATERFLAI_BASE_URL=server.url)
    # Execution "b" has just ended, so it is left to reconcile.
    assert answer == {"ended": 1, "alive": 2, "failed": 0, "left": 0, "discarded": 0}
    (event,) = [json.loads(text) for text in topic.messages()]
    assert (event["subject"], event["data"]["error"]["code"]) == ("c" * 32, "never_started")
    assert {table.get("a" * 32).status, table.get("b" * 32).status} == {Status.RUNNING}


def test_the_log_of_a_sweep_has_counts_and_ids_and_no_data(
    invoke: Invoke, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    table.put(record(metadata_json='{"order":"k0815"}', expires_at=9_000_000_000))
    table.put(owned("b", expires_at=9_000_000_000))
    table.set("b" * 32, status="card k4711")
    with log_of(app) as log:
        assert invoke(app, {"sweep": request_dict()})["failed"] == 1
    failure, line = map(json.loads, log.getvalue().splitlines())
    assert (failure["message"], failure["execution_id"], failure["fault"]) == (
        "not swept",
        "b" * 32,
        "ValueError",
    )
    counts = {name: line[name] for name in ("swept", "swept_alive", "swept_failed", "swept_left")}
    assert counts == {"swept": 1, "swept_alive": 0, "swept_failed": 1, "swept_left": 0}
    metrics = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(one["Reconciled"], one["NotSwept"]) for one in metrics] == [([1.0], [1.0])]
    for secret in ("k4711", "k0815", "why?"):
        assert secret not in log.getvalue()


def test_a_sweep_without_records_emits_no_metric(
    invoke: Invoke, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(app, {"sweep": {}}) == {"ended": 0, "alive": 0, "failed": 0, "left": 0, "discarded": 0}
    assert capsys.readouterr().out == ""
