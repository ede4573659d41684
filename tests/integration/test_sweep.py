"""The sweep: what nobody works on any more is ended and told, and what somebody works on is not touched."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.reconcile import app
from tests.support.aws import Failing, Machine, Table, Topic, client_error
from tests.support.builders import (
    ID,
    OWNER,
    SOURCE,
    UPSTREAM_ID,
    record,
    request_dict,
    running_record,
    settings,
    verdict,
)
from tests.support.clock import NOW, Clock
from tests.support.fakes import FakeUpstream
from tests.support.invoke import Invoke, log_of
from tests.support.server import Server, reply
from waterhook import envelope, sweep
from waterhook.models import Status, iso
from waterhook.polling import Poller
from waterhook.record import SHARDS, Record
from waterhook.results import Results
from waterhook.stopping import Stopper
from waterhook.sweep import Sweeper, Swept, Unfinished
from waterhook.verdict import Notifier

LATER = NOW + 3600
FINAL = [status for status in Status if status.is_final]
ALIVE = [record(), record(status=Status.STARTING), running_record()]


def owned(digit: str, **changes: Any) -> Record:
    """A running record of its own execution, in the shard of that digit."""
    there = running_record(execution_id=digit * 32, owner_execution_arn=OWNER + digit, unfinished=digit)
    return (
        there
        if not changes
        else running_record(
            execution_id=digit * 32, owner_execution_arn=OWNER + digit, unfinished=digit, **changes
        )
    )


class Engine:
    """Step Functions, as far as a sweep asks: who runs, and how the others ended and when."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.ended: dict[str, tuple[str, float]] = {}
        self.faults: dict[str, Exception] = {}
        self.asked: list[str] = []

    def list_executions(self, **asked: Any) -> dict[str, Any]:
        assert asked["statusFilter"] == "RUNNING"
        ahead = sorted(self.running)[int(asked.get("nextToken", "0")) :]
        there = {"executions": [{"executionArn": arn} for arn in ahead[:2]]}
        return there | ({"nextToken": str(len(self.running) - len(ahead) + 2)} if len(ahead) > 2 else {})

    def describe_execution(self, **asked: Any) -> dict[str, Any]:
        arn = asked["executionArn"]
        self.asked.append(arn)
        if arn in self.faults:
            raise self.faults[arn]
        if arn in self.running:
            return {"status": "RUNNING"}
        if arn not in self.ended:
            raise client_error("ExecutionDoesNotExist")
        status, at = self.ended[arn]
        return {"status": status, "stopDate": datetime.fromtimestamp(at, UTC)}


class World:
    """A sweeper, what it asks and what it changes."""

    def __init__(self, table: Table, topic: Topic, *, sns: Any = None, now: float = LATER) -> None:
        self.clock, self.engine, self.topic = Clock(now), Engine(), topic
        self.upstream = FakeUpstream()
        self.troubled: list[str] = []
        records = table.records
        self.notifier = Notifier(
            records, sns or topic.sns, topic_arn=topic.arn, source=SOURCE, retention_s=3600, clock=self.clock
        )
        stopper = Stopper(self.upstream, Poller(self.upstream, Results("none"), settings(), self.clock))
        reconciler = app.Reconciler(
            records, stopper, self.notifier, settings(), self.clock, lambda _seconds: None
        )
        states: Any = self.engine
        self.sweeper = Sweeper(
            records,
            Unfinished(table.name, table.client),
            states,
            "machine",
            end=reconciler.end,
            clock=self.clock,
            troubled=lambda execution_id, _error: self.troubled.append(execution_id),
        )

    def sweep(self, remaining_s: Callable[[], float] = lambda: 300.0) -> Swept:
        return self.sweeper.sweep(remaining_s)

    def heard(self) -> list[tuple[str, str]]:
        events = [json.loads(text) for text in self.topic.messages()]
        return sorted((event["subject"], event["data"]["status"]) for event in events)


@pytest.fixture
def world(table: Table, topic: Topic) -> World:
    return World(table, topic)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("ABORTED", "CANCELLED"), ("TIMED_OUT", "TIMED_OUT"), ("FAILED", "ERROR"), ("SUCCEEDED", "ERROR")],
)
def test_a_record_whose_execution_ended_unheard_is_closed_as_the_status_event_would_have(
    table: Table, world: World, status: str, outcome: str
) -> None:
    table.put(running_record())
    world.engine.ended[OWNER] = (status, NOW)
    assert world.sweep() == Swept(ended=1)
    assert world.upstream.cancelled == [UPSTREAM_ID]
    assert world.heard() == [(ID, outcome)]
    assert table.only().unfinished is None
    assert world.sweep() == Swept()


@pytest.mark.parametrize(
    ("there", "outcome", "code"),
    [
        (ALIVE[0], Status.ERROR, "never_started"),
        (ALIVE[1], Status.UNCERTAIN, "start_uncertain"),
        (ALIVE[2], Status.ERROR, "never_started"),
    ],
    ids=["accepted", "starting", "running"],
)
def test_a_record_whose_execution_does_not_exist_is_closed(
    table: Table, world: World, there: Record, outcome: Status, code: str
) -> None:
    table.put(there)
    assert world.sweep() == Swept(ended=1)
    assert world.heard() == [(ID, outcome)]
    closed = table.only()
    assert closed.error is not None
    assert closed.error["code"] == code
    assert len(world.upstream.cancelled) == (there.waterflai_execution_id is not None)


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("ended", ["FAILED", "SUCCEEDED", "ABORTED", None])
def test_an_outcome_that_was_never_told_is_told_as_it_is(
    table: Table, world: World, status: Status, ended: str | None
) -> None:
    there = table.put(running_record(**verdict(status)))
    if ended:
        world.engine.ended[OWNER] = (ended, NOW)
    assert world.sweep() == Swept(ended=1)
    assert world.topic.messages() == [envelope.event(there, SOURCE)]
    assert (table.only().status, table.only().notified_at) == (status, iso(LATER))
    assert world.upstream.cancelled == []


@pytest.mark.parametrize(
    "there",
    [*ALIVE, running_record(**verdict())],
    ids=lambda one: one.status,
)
def test_what_a_live_execution_owns_is_not_touched(table: Table, world: World, there: Record) -> None:
    table.put(there)
    world.engine.running = {OWNER, "another", "a third"}
    assert world.sweep() == Swept(alive=1)
    assert (table.only(), world.heard(), world.engine.asked) == (there, [], [])


def test_an_execution_that_the_list_of_running_ones_does_not_have_yet_is_asked_for_by_name(
    table: Table, world: World
) -> None:
    there = table.put(running_record())

    class Behind(set[str]):
        def __iter__(self) -> Any:
            return iter(())

    world.engine.running = Behind({OWNER})
    assert world.sweep() == Swept(alive=1)
    assert (table.only(), world.engine.asked) == (there, [OWNER])


@pytest.mark.parametrize("age_s", [0.0, sweep.GRACE_S - 1])
def test_what_has_only_just_ended_is_left_to_reconcile(table: Table, world: World, age_s: float) -> None:
    there = table.put(running_record())
    world.engine.ended[OWNER] = ("ABORTED", LATER - age_s)
    assert world.sweep() == Swept(alive=1)
    assert (table.only(), world.heard()) == (there, [])


def test_what_was_only_just_accepted_is_left_to_its_start(table: Table, topic: Topic) -> None:
    table.put(record())
    world = World(table, topic, now=NOW + sweep.GRACE_S - 1)
    assert world.sweep() == Swept()
    world.clock.advance(2)
    assert world.sweep() == Swept(ended=1)


def test_what_is_notified_costs_the_sweep_nothing(table: Table, world: World) -> None:
    world.notifier.conclude(table.put(running_record()), {"status": Status.FAILED, "finished_at": iso(NOW)})
    assert world.sweep() == Swept()
    assert world.engine.asked == []


def test_a_record_from_before_the_index_enters_it_with_its_verdict(table: Table, topic: Topic) -> None:
    table.put(running_record(unfinished=None))
    down = Failing(topic.sns, {"publish": client_error("InternalError", 500)})
    world = World(table, topic, sns=down)
    with pytest.raises(Exception, match="InternalError"):
        world.notifier.conclude(table.only(), verdict(Status.FAILED))
    world.engine.ended[OWNER] = ("FAILED", NOW)
    down.faults.clear()
    assert world.sweep() == Swept(ended=1)
    assert world.heard() == [(ID, "FAILED")]


def test_a_record_that_an_older_version_notified_leaves_the_index(table: Table, world: World) -> None:
    table.put(running_record(**verdict(), notified_at=iso(NOW + 61), unfinished="0"))
    world.sweep()
    assert (table.only().unfinished, world.heard(), world.engine.asked) == (None, [], [])


def test_a_topic_that_is_down_for_good_is_tried_again_by_each_sweep_with_the_same_event(
    table: Table, topic: Topic
) -> None:
    down = Failing(topic.sns, {"publish": client_error("InternalError", 500)})
    world = World(table, topic, sns=down)
    table.put(running_record())
    world.engine.ended[OWNER] = ("FAILED", NOW)
    for _ in range(2):
        assert world.sweep() == Swept(failed=1)
    safe = table.only()
    assert (safe.status, safe.notified_at) == (Status.ERROR, None)
    assert world.troubled == [ID, ID]
    down.faults.clear()
    world.clock.advance(900)
    assert world.sweep() == Swept(ended=1)
    assert topic.messages() == [envelope.event(safe, SOURCE)]


def test_one_record_in_trouble_never_stops_the_others(table: Table, world: World) -> None:
    for digit in "0123":
        table.put(owned(digit))
    table.set("1" * 32, status="NONSENSE")
    world.engine.faults[OWNER + "2"] = client_error("AccessDeniedException")
    assert world.sweep() == Swept(ended=2, failed=2)
    assert world.heard() == [("0" * 32, "ERROR"), ("3" * 32, "ERROR")]
    assert world.troubled == ["1" * 32, "2" * 32]


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException"])
def test_a_throttle_ends_the_sweep_and_the_next_one_begins_elsewhere(
    table: Table, world: World, code: str
) -> None:
    for digit in "0123":
        table.put(owned(digit))
    # A moment at which the first shard is the first.
    world.clock.now = LATER - LATER % (16 * sweep.TURN_S) + 16 * sweep.TURN_S
    world.engine.faults[OWNER + "1"] = client_error(code)
    assert world.sweep() == Swept(ended=1, left=3)
    assert world.heard() == [("0" * 32, "ERROR")]
    world.clock.advance(2 * sweep.TURN_S)
    assert world.sweep() == Swept(ended=2, left=1)
    assert world.heard() == [("2" * 32, "ERROR"), ("3" * 32, "ERROR")]


def test_a_sweep_stops_while_there_is_time_for_one_more_and_says_how_many_are_left(
    table: Table, world: World
) -> None:
    for digit in SHARDS:
        table.put(owned(digit))
    left_s = iter([300.0, 200.0, sweep.RESERVE_S, sweep.RESERVE_S - 0.001])
    assert world.sweep(lambda: next(left_s)) == Swept(ended=3, left=13)
    assert len(world.heard()) == 3
    assert world.sweep() == Swept(ended=13)


def test_more_records_than_fit_on_a_page_are_all_found(table: Table, topic: Topic) -> None:
    class Pages:
        def __getattr__(self, name: str) -> Any:
            method = getattr(table.client, name)
            return lambda **asked: method(**asked, **({"Limit": 2} if name == "query" else {}))

    for index in range(7):
        table.put(running_record(execution_id=f"a{index:031x}", unfinished="a"))
    client: Any = Pages()
    found = Unfinished(table.name, client).before(iso(LATER) or "", first_shard=3)
    assert len({execution_id for execution_id, _ in found}) == 7


def test_the_oldest_of_a_shard_comes_first(table: Table) -> None:
    for index, age_s in enumerate([5, 20, 10]):
        created_at = iso(NOW - age_s)
        table.put(running_record(execution_id=f"a{index:031x}", unfinished="a", created_at=created_at))
    found = Unfinished(table.name, table.client).before(iso(NOW) or "", first_shard=0)
    assert [execution_id[-1] for execution_id, _ in found] == ["1", "2", "0"]


# The function


def test_the_function_sweeps_what_its_machine_no_longer_runs(
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
    with Server([reply(200, {"cancelled": True})]) as server:
        answer = invoke(app, {"sweep": {}}, WATERFLAI_BASE_URL=server.url)
    # It ended a moment ago, which is reconcile's.
    assert answer == {"ended": 1, "alive": 2, "failed": 0, "left": 0}
    (event,) = [json.loads(text) for text in topic.messages()]
    assert (event["subject"], event["data"]["error"]["code"]) == ("c" * 32, "never_started")
    assert {table.get("a" * 32).status, table.get("b" * 32).status} == {Status.RUNNING}


def test_the_log_of_a_sweep_counts_and_names_and_holds_none_of_the_data(
    invoke: Invoke, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    table.put(record(metadata_json='{"order":"0815"}', expires_at=9_000_000_000))
    table.put(owned("b", expires_at=9_000_000_000))
    table.set("b" * 32, status="card 4711")
    with log_of(app) as log:
        assert invoke(app, {"sweep": request_dict()})["failed"] == 1
    trouble, line = map(json.loads, log.getvalue().splitlines())
    assert (trouble["message"], trouble["execution_id"], trouble["fault"]) == (
        "not swept",
        "b" * 32,
        "ValueError",
    )
    counts = {name: line[name] for name in ("swept", "swept_alive", "swept_failed", "swept_left")}
    assert counts == {"swept": 1, "swept_alive": 0, "swept_failed": 1, "swept_left": 0}
    figures = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(one["Reconciled"], one["NotSwept"]) for one in figures] == [([1.0], [1.0])]
    for secret in ("4711", "0815", "why?"):
        assert secret not in log.getvalue()


def test_a_sweep_that_finds_nothing_measures_nothing(
    invoke: Invoke, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(app, {"sweep": {}}) == {"ended": 0, "alive": 0, "failed": 0, "left": 0}
    assert capsys.readouterr().out == ""
