"""Start against a table that evaluates conditions: every edge between the states, with the POSTs counted."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from functions.start import app
from tests.support.aws import Failing, Killed, Stuttering, Table, Tape, Taped, client_error
from tests.support.builders import (
    ID,
    KEY,
    OTHER,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    record,
    request_dict,
    running_record,
    settings,
    verdict,
)
from tests.support.clock import NOW, Clock
from tests.support.fakes import Answer, FakeUpstream
from tests.support.invoke import Invoke, log_of
from tests.support.server import Server, reply
from waterhook.capacity import Capacity, Caps
from waterhook.errors import (
    InvalidRequest,
    PerhapsAccepted,
    RecordConflict,
    RecordUnavailable,
    Refused,
    Unavailable,
)
from waterhook.models import Job, Next, Status, iso
from waterhook.record import Record
from waterhook.records import Records

FINAL = [status for status in Status if status.is_final]
DOWN = Unavailable("unreachable", "no connection: refused")
BUSY = Unavailable("unavailable", "HTTP 429", status=429, retry_after_s=45.0)
MAINTENANCE = Unavailable("unavailable", "HTTP 503", status=503)
REFUSED = Refused("refused", "HTTP 404: no such chatbot", status=404)
LOST = PerhapsAccepted("no_answer", "no answer: ReadTimeoutError")
KEYED = request_dict(idempotency_key="order-7")


class World:
    """One table, one upstream, one clock; `start` is the function as the state machine calls it."""

    def __init__(
        self,
        table: Table,
        *starts: Answer[str],
        client: Any = None,
        records: Records | None = None,
        **changes: Any,
    ) -> None:
        self.table = table
        self.clock = Clock()
        self.upstream = FakeUpstream(starts=list(starts))
        self.settings = settings(**changes)
        self.records = records or table.records_over(client or table.client)

    def start(self, given: object = None, *, owner: str = OWNER) -> dict[str, Any]:
        starter = app.Starter(self.records, self.upstream, self.settings, self.clock)
        given = request_dict() if given is None else given
        state = starter.start(given, owner=owner, started_at=STARTED_AT)
        # What a function answers is JSON, and small.
        assert json.loads(json.dumps(state)) == state
        assert len(json.dumps(state)) < 8 * 1024
        return state

    @property
    def posts(self) -> int:
        return len(self.upstream.posted)

    @property
    def record(self) -> Record:
        return self.table.only()


def accepted_record(table: Table, **changes: Any) -> dict[str, Any]:
    """Put the record of a request that came in by the API, and return the input of its execution."""
    table.put(record(**({"source": "api", "caller": "ada"} | changes)))
    return {"execution_id": ID, "request": request_dict()}


# ACCEPTED → STARTING → RUNNING


def test_a_start_posts_once_and_saves_the_upstreams_id(table: Table) -> None:
    world = World(table)
    state = world.start(request_dict(input_data={"q": 1}))
    assert world.upstream.posted == [("support-chat", {"q": 1})]
    assert (state["outcome"], state["next"], state["wait_seconds"]) == ("RUNNING", "wait", 4)
    assert state["waterflai_execution_id"] == UPSTREAM_ID
    got = world.record
    assert (got.status, got.waterflai_execution_id, got.start_attempts) == (Status.RUNNING, UPSTREAM_ID, 1)
    assert (got.execution_id, got.deadline) == (state["execution_id"], state["deadline"])


def test_the_record_says_starting_while_the_post_is_under_way(table: Table) -> None:
    seen: list[Status] = []

    def answer() -> str:
        seen.append(table.only().status)
        return UPSTREAM_ID

    World(table, answer).start()
    assert seen == [Status.STARTING]


def test_what_a_start_sends_never_travels_with_the_state(table: Table) -> None:
    state = World(table).start(request_dict(input_data={"card": "4711"}, metadata={"order": "0815"}))
    assert "4711" not in json.dumps(state)
    assert "0815" not in json.dumps(state)


def test_called_again_after_it_answered_it_posts_no_more(table: Table) -> None:
    world = World(table)
    first = world.start()
    world.clock.advance(5)
    again = world.start()
    assert world.posts == 1
    assert (again["next"], again["waterflai_execution_id"]) == ("wait", first["waterflai_execution_id"])


def test_the_loop_it_begins_can_be_read_by_the_other_functions(table: Table) -> None:
    got = Job.from_dict(World(table).start())
    assert (got.outcome, got.history.status_requests, got.unsaved) == (Status.RUNNING, 0, False)


# STARTING → ACCEPTED: surely not carried out


@pytest.mark.parametrize("fault", [DOWN, BUSY, MAINTENANCE], ids=["no connection", "429", "503"])
def test_a_start_that_surely_failed_is_tried_again_after_a_wait(table: Table, fault: Unavailable) -> None:
    world = World(table, fault, UPSTREAM_ID)
    state = world.start()
    assert (state["outcome"], state["next"]) == ("RUNNING", "start")
    assert state["wait_seconds"] >= (fault.retry_after_s or 1)
    assert (world.record.status, world.record.start_attempts) == (Status.ACCEPTED, 1)
    world.clock.advance(state["wait_seconds"])
    assert world.start()["next"] == "wait"
    assert (world.posts, world.record.status, world.record.start_attempts) == (2, Status.RUNNING, 2)


def test_the_waits_between_starts_grow(table: Table) -> None:
    world = World(table, DOWN)
    waits = []
    for _ in range(6):
        waits.append(world.start()["wait_seconds"])
        world.clock.advance(waits[-1])
    # Up to 8 s, or half of the wait, differ between executions.
    for wait_s, least_s in zip(waits, [4, 8, 16, 32, 60, 60], strict=True):
        assert least_s <= wait_s <= least_s + max(8, least_s / 2)


def _until_settled(world: World) -> dict[str, Any]:
    state = world.start()
    while state["next"] == "start":
        world.clock.advance(state["wait_seconds"])
        state = world.start()
    return state


@pytest.mark.parametrize("at_least_once", [False, True])
def test_at_the_start_deadline_it_is_given_up(table: Table, *, at_least_once: bool) -> None:
    world = World(table, DOWN, at_least_once=at_least_once, start_deadline_s=100)
    state = _until_settled(world)
    assert world.clock.now - NOW == 100
    # A start posted again after a lost answer may have been carried out the first time.
    assert state["outcome"] == ("UNCERTAIN" if at_least_once else "REJECTED")
    assert (state["next"], state["error"]["code"]) == ("notify", "start_deadline")
    assert "refused" in state["error"]["message"]


def test_the_deadline_of_the_job_ends_the_starts_too(table: Table) -> None:
    world = World(table, DOWN)
    state = world.start(request_dict(timeout_seconds=10))
    while state["next"] == "start":
        world.clock.advance(state["wait_seconds"])
        state = world.start(request_dict(timeout_seconds=10))
    assert world.clock.now - NOW == 10
    assert state["next"] == "notify"


def test_a_503_is_uncertain_where_the_deployment_says_so(table: Table) -> None:
    world = World(table, MAINTENANCE, uncertain_on_503=True)
    assert world.start()["outcome"] == "UNCERTAIN"
    assert world.start()["outcome"] == "UNCERTAIN"
    assert world.posts == 1


@pytest.mark.parametrize("fault", [DOWN, BUSY])
def test_only_a_503_is_uncertain_then(table: Table, fault: Unavailable) -> None:
    assert World(table, fault, uncertain_on_503=True).start()["next"] == "start"


# STARTING → final: refused, or nobody knows


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 302])
def test_a_refused_start_is_rejected_and_not_repeated(table: Table, status: int) -> None:
    world = World(table, Refused("refused", f"HTTP {status}: no", status=status))
    state = world.start()
    assert (state["outcome"], state["next"]) == ("REJECTED", "notify")
    assert f"HTTP {status}: no" in state["error"]["message"]
    assert world.posts == 1


def test_a_refused_start_that_is_called_again_does_not_post_again(table: Table) -> None:
    world = World(table, REFUSED)
    world.start()
    assert world.start()["outcome"] in {"REJECTED", "UNCERTAIN"}
    assert world.posts == 1


@pytest.mark.parametrize("code", ["no_answer", "server_error", "unusable_answer"])
def test_a_start_whose_answer_was_lost_is_uncertain_and_never_repeated(table: Table, code: str) -> None:
    world = World(table, PerhapsAccepted(code, "HTTP 504", status=504))
    for _ in range(3):
        state = world.start()
        assert (state["outcome"], state["next"], state["error"]["code"]) == (
            "UNCERTAIN",
            "notify",
            "start_uncertain",
        )
        world.clock.advance(100)
    assert world.posts == 1


def test_at_least_once_repeats_a_start_whose_answer_was_lost(table: Table) -> None:
    world = World(table, LOST, UPSTREAM_ID, at_least_once=True)
    state = _until_settled(world)
    assert (state["next"], world.posts) == ("wait", 2)


def test_at_least_once_a_refusal_after_a_lost_answer_leaves_open_whether_a_job_runs(table: Table) -> None:
    world = World(table, LOST, REFUSED, at_least_once=True)
    state = _until_settled(world)
    assert (state["outcome"], state["error"]["code"], world.posts) == ("UNCERTAIN", "refused", 2)


def test_at_least_once_a_refusal_of_the_first_attempt_is_a_refusal(table: Table) -> None:
    world = World(table, REFUSED, at_least_once=True)
    assert (world.start()["outcome"], world.posts) == ("REJECTED", 1)


# Re-entry


def test_a_re_entry_that_finds_starting_does_not_post(table: Table) -> None:
    given = accepted_record(table, status=Status.STARTING, start_attempts=1)
    world = World(table)
    assert world.start(given)["outcome"] == "UNCERTAIN"
    assert world.posts == 0
    assert world.record.status is Status.STARTING


def test_at_least_once_a_re_entry_that_finds_starting_posts_again(table: Table) -> None:
    given = accepted_record(table, status=Status.STARTING, start_attempts=1)
    world = World(table, at_least_once=True)
    state = world.start(given)
    assert (state["next"], world.posts) == ("start", 0)
    assert world.start(given)["next"] == "wait"
    assert world.posts == 1


def test_a_re_entry_that_finds_running_goes_on_from_there(table: Table) -> None:
    table.put(running_record())
    world = World(table)
    state = world.start({"execution_id": ID, "request": request_dict()})
    assert (state["next"], state["waterflai_execution_id"], world.posts) == ("wait", UPSTREAM_ID, 0)


@pytest.mark.parametrize("status", FINAL)
def test_a_re_entry_that_finds_an_end_stays_with_it(table: Table, status: Status) -> None:
    there = table.put(running_record(**verdict(status)))
    world = World(table)
    state = world.start({"execution_id": ID, "request": request_dict()})
    assert (state["outcome"], state["next"], world.posts) == (status, "notify", 0)
    assert table.get(ID) == there


def test_a_start_after_the_deadline_posts_nothing(table: Table) -> None:
    world = World(table)
    given = accepted_record(table)
    world.clock.advance(3600)
    state = world.start(given)
    # TIMED_OUT would say that a job ran.
    assert (state["outcome"], state["next"], world.posts) == ("REJECTED", "notify", 0)


@pytest.mark.parametrize(("attempts", "outcome"), [(0, "REJECTED"), (1, "UNCERTAIN")])
def test_at_least_once_a_deadline_after_an_attempt_leaves_open_whether_a_job_ran(
    table: Table, attempts: int, outcome: str
) -> None:
    world = World(table, at_least_once=True)
    given = accepted_record(table, start_attempts=attempts)
    world.clock.advance(3600)
    assert (world.start(given)["outcome"], world.posts) == (outcome, 0)


# Cancelled before, during, after


def test_a_cancel_before_the_start_means_no_post(table: Table) -> None:
    given = accepted_record(table, cancel_requested=iso(NOW))
    world = World(table)
    state = world.start(given)
    assert (state["outcome"], state["next"], world.posts) == ("CANCELLED", "notify", 0)


def test_a_cancel_between_two_starts_means_no_second_post(table: Table) -> None:
    world = World(table, DOWN)
    world.start()
    table.set(world.record.execution_id, cancel_requested=iso(NOW) or "")
    assert world.start()["outcome"] == "CANCELLED"
    assert world.posts == 1


def test_a_cancel_between_the_look_and_the_write_means_no_post(table: Table) -> None:
    class CancelledMeanwhile(Records):
        def begin_start(self, record: Record) -> Record:
            table.set(record.execution_id, cancel_requested=iso(NOW) or "")
            return super().begin_start(record)

    world = World(table, records=CancelledMeanwhile(table.name, table.client))
    state = world.start()
    assert (state["outcome"], state["next"], world.posts) == ("CANCELLED", "notify", 0)


def test_a_verdict_between_the_look_and_the_write_means_no_post(table: Table) -> None:
    class ConcludedMeanwhile(Records):
        def begin_start(self, record: Record) -> Record:
            super().conclude(record, verdict(Status.ERROR))
            return super().begin_start(record)

    world = World(table, records=ConcludedMeanwhile(table.name, table.client))
    state = world.start()
    assert (state["outcome"], state["next"], world.posts) == ("ERROR", "notify", 0)


@pytest.mark.parametrize("status", FINAL)
def test_a_verdict_during_the_post_cancels_the_job_nobody_waits_for(table: Table, status: Status) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), verdict(status))
        return UPSTREAM_ID

    world = World(table, answer)
    state = world.start()
    assert (state["outcome"], state["next"]) == (status, "notify")
    assert (world.posts, world.upstream.cancelled) == (1, [UPSTREAM_ID])


def test_a_cancel_that_fails_then_is_nobodys_business(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), verdict(Status.CANCELLED))
        return UPSTREAM_ID

    world = World(table, answer)
    world.upstream = FakeUpstream(starts=[answer], cancels=[PerhapsAccepted("server_error", "HTTP 500")])
    assert world.start()["outcome"] == "CANCELLED"


def test_a_verdict_during_a_post_that_failed_is_what_counts(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), verdict(Status.CANCELLED))
        raise DOWN

    world = World(table, answer)
    state = world.start()
    assert (state["outcome"], state["next"], world.upstream.cancelled) == ("CANCELLED", "notify", [])


def test_a_cancel_request_during_the_post_is_heard_as_soon_as_the_job_has_an_id(
    table: Table,
) -> None:
    def answer() -> str:
        table.set(table.only().execution_id, cancel_requested=iso(NOW) or "")
        return UPSTREAM_ID

    world = World(table, answer)
    state = world.start()
    assert (state["next"], state["cancel_requested"]) == ("cancel", True)
    assert world.record.status is Status.RUNNING


# The table in trouble


def test_a_table_that_takes_no_record_means_no_post(table: Table) -> None:
    world = World(table, client=Failing(table.client, {"put_item": client_error("ThrottlingException")}))
    with pytest.raises(RecordUnavailable):
        world.start()
    assert world.posts == 0


@pytest.mark.parametrize("written", [False, True])
def test_a_table_that_does_not_say_whether_it_took_starting_means_no_post(
    table: Table, *, written: bool
) -> None:
    fault = {"update_item": client_error("InternalServerError", 500)}
    world = World(table, client=Failing(table.client, fault, after=written))
    with pytest.raises(RecordUnavailable):
        world.start()
    assert world.posts == 0
    # Called again: nobody can tell a POST from none where the write went through.
    again = World(table)
    assert again.start()["outcome"] == ("UNCERTAIN" if written else "RUNNING")
    assert again.posts == (0 if written else 1)


class Unsaving(Records):
    """Takes everything but the upstream's id."""

    def save_start(self, record: Record, waterflai_execution_id: str, now: float) -> Record:
        raise RecordUnavailable(record.execution_id)


def test_an_id_that_could_not_be_saved_travels_with_the_state(table: Table) -> None:
    world = World(table, records=Unsaving(table.name, table.client))
    state = world.start()
    assert (state["next"], state["unsaved"], state["waterflai_execution_id"]) == ("wait", True, UPSTREAM_ID)
    assert world.record.status is Status.STARTING
    assert (world.posts, world.upstream.cancelled) == (1, [])


def test_writes_that_botocore_repeats_after_lost_answers_neither_post_twice_nor_cancel(table: Table) -> None:
    """Each write goes through, and its repetition meets its own condition: a race lost against oneself."""
    world = World(table, client=Stuttering(table.client))
    state = world.start()
    assert (state["outcome"], state["waterflai_execution_id"]) == ("RUNNING", UPSTREAM_ID)
    assert (world.posts, world.upstream.cancelled) == (1, [])


def test_an_id_saved_by_a_write_that_looked_lost_is_kept_and_its_job_not_cancelled(table: Table) -> None:
    class SavedAfterAll(Records):
        def save_start(self, record: Record, waterflai_execution_id: str, now: float) -> Record:
            super().save_start(record, waterflai_execution_id, now)
            return super().save_start(record, waterflai_execution_id, now)

    world = World(table, records=SavedAfterAll(table.name, table.client))
    state = world.start()
    assert (state["outcome"], state["next"], state["waterflai_execution_id"]) == (
        "RUNNING",
        "wait",
        UPSTREAM_ID,
    )
    assert world.upstream.cancelled == []


# Killed between any two steps


class Posting(FakeUpstream):
    """An upstream whose POST is two steps of a tape: about to be sent, and carried out."""

    def __init__(self, tape: Tape, answer: Answer[str]) -> None:
        super().__init__(starts=[answer])
        self.tape = tape

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        self.tape.step("before POST")
        answer = super().start(chatbot_id, input_data)
        self.tape.step("after POST")
        return answer


def _attempt(table: Table, upstream: Posting, tape: Tape, given: object, **changes: Any) -> dict[str, Any]:
    upstream.tape = tape
    records = table.records_over(Taped(table.client, tape))
    starter = app.Starter(records, upstream, settings(**changes), Clock())
    return starter.start(given, owner=OWNER, started_at=STARTED_AT)


def _rehearsed(table: Table, answer: Answer[str], given: object, **changes: Any) -> list[str]:
    tape = Tape()
    _attempt(table, Posting(tape, answer), tape, given, **changes)
    return tape.steps


ANSWERS: dict[str, tuple[Answer[str], set[str]]] = {
    "started": (UPSTREAM_ID, {"RUNNING", "UNCERTAIN"}),
    "unavailable": (DOWN, {"RUNNING", "UNCERTAIN"}),
    "refused": (REFUSED, {"REJECTED", "UNCERTAIN"}),
    "lost": (LOST, {"UNCERTAIN"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_killed_at_any_step_and_called_again_it_never_posts_a_job_twice(table: Table, name: str) -> None:
    answer, outcomes = ANSWERS[name]
    steps = _rehearsed(table, answer, KEYED | {"idempotency_key": "rehearsal"})
    assert steps.count("before POST") == 1
    for at, step in enumerate(steps):
        given = KEYED | {"idempotency_key": f"{name}-{at}"}
        upstream = Posting(Tape(), answer)
        with pytest.raises(Killed):
            _attempt(table, upstream, Tape(kill_at=at), given)
        state: dict[str, Any] = {}
        for _ in range(3):
            state = _attempt(table, upstream, Tape(), given)
        assert state["outcome"] in outcomes, step
        if name == "unavailable":
            # Refused connections may be tried again; what must not happen is another POST after an answer lost.
            assert state["outcome"] == "UNCERTAIN" or state["next"] == "start", step
        else:
            assert len(upstream.posted) <= 1, step
        if state["outcome"] == "RUNNING" and name == "started":
            assert len(upstream.posted) == 1, step
            assert state["waterflai_execution_id"] == UPSTREAM_ID


@pytest.mark.parametrize("name", ANSWERS)
def test_killed_at_any_step_at_least_once_always_gets_its_post_through(table: Table, name: str) -> None:
    answer, _ = ANSWERS[name]
    changes = {"at_least_once": True}
    steps = _rehearsed(table, answer, KEYED | {"idempotency_key": "rehearsal"}, **changes)
    for at, step in enumerate(steps):
        given = KEYED | {"idempotency_key": f"{name}-{at}"}
        with pytest.raises(Killed):
            _attempt(table, Posting(Tape(), answer), Tape(kill_at=at), given, **changes)
        healthy = Posting(Tape(), UPSTREAM_ID)
        state = _attempt(table, healthy, Tape(), given, **changes)
        for _ in range(2):
            if state["next"] == "start":
                state = _attempt(table, healthy, Tape(), given, **changes)
        assert (state["outcome"], state["next"]) == ("RUNNING", "wait"), step


def test_a_bug_in_the_client_leaves_the_start_uncertain_and_not_repeated(table: Table) -> None:
    world = World(table, InvalidRequest("id: expected 1 to 200 printable characters"))
    with pytest.raises(InvalidRequest):
        world.start()
    assert world.start()["outcome"] == "UNCERTAIN"
    assert world.posts == 1


# Whose request is it?


def test_a_duplicate_neither_posts_nor_waits_and_names_the_owner(table: Table) -> None:
    world = World(table)
    world.start(KEYED)
    state = world.start(KEYED, owner=OTHER)
    assert (state["error_name"], state["next"], state["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert world.posts == 1


@pytest.mark.parametrize("status", FINAL)
def test_a_duplicate_of_a_finished_execution_ends_as_that_did(table: Table, status: Status) -> None:
    world = World(table)
    world.start(KEYED)
    table.records.conclude(world.record, verdict(status))
    state = world.start(KEYED, owner=OTHER)
    assert (state["outcome"], state["next"]) == (status, "done")
    assert state.get("error_name") == (None if status is Status.COMPLETED else status.error_name)
    assert world.posts == 1


def test_a_duplicate_comes_out_the_same_however_the_first_one_stands(table: Table) -> None:
    world = World(table, LOST)
    world.start(KEYED)
    assert world.start(KEYED, owner=OTHER)["error_name"] == "Waterhook.Duplicate"
    assert world.posts == 1
    assert world.record.owner_execution_arn == OWNER


def test_another_request_under_the_same_key_is_a_conflict(table: Table) -> None:
    world = World(table)
    world.start(KEYED | {"input_data": {"card": "4711"}})
    state = world.start(KEYED, owner=OTHER)
    assert (state["error_name"], state["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert "4711" not in json.dumps(state)
    assert world.posts == 1


def test_a_key_is_free_again_when_its_record_has_expired(table: Table) -> None:
    world = World(table)
    world.start(KEYED)
    table.records.conclude(world.record, verdict(expires_at=int(NOW) + 100))
    world.clock.advance(200)
    state = world.start(KEYED | {"input_data": {"n": 2}}, owner=OTHER)
    assert (state["next"], world.posts) == ("wait", 2)
    assert world.record.owner_execution_arn == OTHER


def test_a_forged_accepted_id_gets_its_own_record_and_leaves_the_victims_alone(table: Table) -> None:
    given = accepted_record(table)
    victim = table.get(ID)
    world = World(table)
    state = world.start(given, owner=OTHER)
    assert state["execution_id"] != ID
    assert table.get(ID) == victim
    assert world.posts == 1


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING, Status.RUNNING, Status.COMPLETED])
def test_a_forged_accepted_id_learns_nothing_of_the_victim(table: Table, status: Status) -> None:
    given = accepted_record(
        table, status=status, final_output_json='{"card":"4711"}', waterflai_execution_id="upstream-of-ada"
    )
    state = World(table).start(given, owner=OTHER)
    assert "4711" not in json.dumps(state)
    assert "upstream-of-ada" not in json.dumps(state)


# Invalid requests


@pytest.mark.parametrize("given", [[], 5, "x", {}, {"request": None}, request_dict(input_data=[])])
def test_an_invalid_request_is_rejected_with_the_reason_and_without_a_post(
    table: Table, given: object
) -> None:
    world = World(table)
    state = world.start(given)
    assert (state["outcome"], state["next"], state["error"]["code"]) == (
        "REJECTED",
        "notify",
        "invalid_request",
    )
    assert state["error"]["message"].count("expected") >= 1
    assert world.posts == 0
    # Its record is there for notify to conclude.
    assert world.record.status is Status.ACCEPTED


# The handler


def event(given: dict[str, Any]) -> dict[str, Any]:
    return {"input": given, "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def test_the_function_starts_a_job_over_http(table: Table, invoke: Invoke) -> None:
    with Server([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        state = invoke(app, event(request_dict(input_data={"ß": [1.5, None]})), WATERFLAI_BASE_URL=server.url)
    (got,) = server.received
    assert (got.method, got.target) == ("POST", "/v1/executions/support-chat/async")
    assert (got.json, got.headers["x-api-key"]) == ({"input_data": {"ß": [1.5, None]}}, KEY)
    assert (state["next"], table.only().status) == (Next.WAIT, Status.RUNNING)


def test_the_log_of_a_start_holds_neither_the_key_nor_the_customers_data(
    table: Table, invoke: Invoke
) -> None:
    given = request_dict(input_data={"card": "4711"}, metadata={"order": "0815"})
    with log_of(app) as log:
        for step in (reply(202, {"execution_id": UPSTREAM_ID}), reply(500, {"detail": f"bad key {KEY}"})):
            with Server([step]) as server:
                invoke(app, event(given | {"idempotency_key": server.url}), WATERFLAI_BASE_URL=server.url)
    assert log.getvalue().count('"message":"start"') == 2
    for secret in (KEY, "4711", "0815"):
        assert secret not in log.getvalue()


# A cap on running jobs


def starter(world: World, table: Table, **caps: int) -> app.Starter:
    capacity = Capacity(table.name, Caps(**caps), table.client)
    return app.Starter(world.records, world.upstream, world.settings, world.clock, capacity)


def test_a_request_beyond_the_cap_waits_as_accepted_and_starts_when_there_is_room(table: Table) -> None:
    world = World(table)
    capped = starter(world, table, stack=1)
    slots = Capacity(table.name, Caps(stack=1), table.client)
    slots.take("f" * 32, "other")
    state = capped.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], world.posts) == ("RUNNING", "start", 0)
    assert state["wait_seconds"] >= 1
    record = table.get(state["execution_id"])
    assert (record.status, record.start_attempts) == (Status.ACCEPTED, 0)
    slots.give_back("f" * 32, "other")
    state = capped.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], world.posts) == ("wait", 1)


def test_a_request_that_waits_for_room_past_its_deadline_is_rejected(table: Table) -> None:
    world = World(table)
    Capacity(table.name, Caps(stack=1), table.client).take("f" * 32, "other")
    state: dict[str, Any] = {"next": "start"}
    turns = 0
    while state["next"] == "start":
        state = starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
        world.clock.advance(state["wait_seconds"])
        turns += 1
    assert (state["outcome"], state["next"], world.posts) == ("REJECTED", "notify", 0)
    assert world.clock.now - NOW == 3600
    assert turns < 200


def test_a_request_cancelled_while_it_waits_for_room_ends_there(table: Table) -> None:
    world = World(table)
    slots = Capacity(table.name, Caps(stack=1), table.client)
    slots.take("f" * 32, "other")
    queued = starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    table.records.request_cancel(table.get(queued["execution_id"]), NOW)
    state = starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], world.posts) == ("CANCELLED", "notify", 0)


def test_a_start_overtaken_by_a_verdict_leaves_no_slot_behind(table: Table) -> None:
    """Its machine was stopped: nobody will notify for it any more, and so give the slot back."""

    class Late(Capacity):
        def take(self, execution_id: str, chatbot_id: str, waiting: Mapping[str, Any] | None = None) -> bool:
            table.records.conclude(table.get(execution_id), verdict(Status.CANCELLED))
            self.give_back(execution_id, chatbot_id)
            return super().take(execution_id, chatbot_id, waiting)

    world = World(table)
    late = Late(table.name, Caps(stack=1), table.client)
    overtaken = app.Starter(world.records, world.upstream, world.settings, world.clock, late)
    state = overtaken.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], world.posts) == ("start", 0)
    assert Capacity(table.name, Caps(stack=1), table.client).take("f" * 32, "other")
    state = starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"]) == ("CANCELLED", "notify")


def test_a_second_call_that_comes_too_late_leaves_the_first_one_its_slot(table: Table) -> None:
    """Step Functions called again while the first call was still under way: the slot is in use."""
    world = World(table)

    class Racing(Records):
        def begin_start(self, record: Record) -> Record:
            starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
            return super().begin_start(record)

    late = World(table, records=Racing(table.name, table.client))
    with pytest.raises(RecordConflict):
        starter(late, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (world.posts, late.posts) == (1, 0)
    assert not Capacity(table.name, Caps(stack=1), table.client).take("f" * 32, "other")


def test_called_again_after_a_crash_it_takes_the_slot_it_had(table: Table) -> None:
    class Crashing(Records):
        def begin_start(self, record: Record) -> Record:
            raise RecordUnavailable(record.execution_id)

    crashed = World(table, records=Crashing(table.name, table.client))
    with pytest.raises(RecordUnavailable):
        starter(crashed, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    world = World(table)
    state = starter(world, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], world.posts) == ("wait", 1)


def test_the_record_that_is_no_execution_cannot_be_claimed(table: Table) -> None:
    Capacity(table.name, Caps(stack=1), table.client).take("f" * 32, "other")
    world = World(table)
    state = world.start({"execution_id": "capacity", "request": request_dict()})
    assert (state["outcome"], world.posts) == ("RUNNING", 1)


# Following


def test_a_job_is_followed_from_its_start_where_that_is_on(table: Table) -> None:
    assert World(table, follow_concurrency=50).start()["next"] == "follow"


def test_a_job_whose_id_was_not_saved_is_polled_first_since_a_poll_saves_it(table: Table) -> None:
    state = World(table, records=Unsaving(table.name, table.client), follow_concurrency=50).start()
    assert (state["next"], state["unsaved"]) == ("wait", True)
