"""Start against a table that evaluates conditions: every edge between the states, with the POSTs counted."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from functions.start import app
from tests.fakes.aws import Failing, Secret, Stuttering, Table, cancelled_transaction, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.fakes.lambda_context import CONTEXT
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.build import build_limiter, build_start_step
from tests.support.builders import (
    DEFAULTS,
    ID,
    KEY,
    OTHER,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    final_attributes,
    record,
    request_dict,
    running_record,
)
from tests.support.invoke import Invoke, log_of
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.errors import (
    InvalidRequestError,
    KeyUnavailableError,
    PerhapsAcceptedError,
    RecordConflictError,
    RecordUnavailableError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.settings import ConcurrencyLimits
from waterhook.steps.notify import FaultReporter
from waterhook.steps.start import StartStep
from waterhook.storage.concurrency_limiter import Acquisition, ConcurrencyLimiter
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339

FINAL = [status for status in Status if status.is_final]
DOWN = UpstreamUnavailableError("unreachable", "no connection: refused")
BUSY = UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=45.0)
MAINTENANCE = UpstreamUnavailableError("unavailable", "HTTP 503", status=503)
REFUSED = UpstreamRefusedError("refused", "HTTP 404: no such chatbot", status=404)
LOST = PerhapsAcceptedError("no_answer", "no answer: ReadTimeoutError")
KEYED = request_dict(idempotency_key="order-7")


class StartScenario:
    """A start step with its table and upstream, on one clock. `start` is the call that the state machine makes."""

    def __init__(
        self,
        table: Table,
        *starts: Answer[str],
        client: Any = None,
        records: ExecutionsTable | None = None,
        **changes: Any,
    ) -> None:
        self.table = table
        self.clock = Clock()
        self.upstream = FakeUpstream(starts=list(starts))
        self.changes = changes
        self.sleep: Callable[[float], None] = lambda _seconds: None
        self.records = records or table.records_over(client or table.client)

    def step(
        self, *, limiter: ConcurrencyLimiter | None = None, read_key: Callable[[], object] = lambda: None
    ) -> StartStep:
        return build_start_step(
            self.records,
            self.upstream,
            self.clock,
            limiter=limiter,
            read_key=read_key,
            sleep=self.sleep,
            **self.changes,
        )

    def start(self, given: object = None, *, owner: str = OWNER) -> dict[str, Any]:
        given = request_dict() if given is None else given
        state = self.step().start(given, owner=owner, started_at=STARTED_AT)
        # The result of a function is JSON, and small.
        assert json.loads(json.dumps(state)) == state
        assert len(json.dumps(state)) < 8 * 1024
        return state

    @property
    def posts(self) -> int:
        return len(self.upstream.posted)

    @property
    def record(self) -> ExecutionRecord:
        return self.table.only()


def accepted_record(table: Table, **changes: Any) -> dict[str, Any]:
    """Put the record of a request that came in by the API, and return the input of its execution."""
    table.put(record(**({"source": "api", "caller": "ada"} | changes)))
    return {"execution_id": ID, "request": request_dict()}


# ACCEPTED → STARTING → RUNNING


def test_a_start_posts_once_and_saves_the_upstreams_id(table: Table) -> None:
    scenario = StartScenario(table)
    state = scenario.start(request_dict(input_data={"q": 1}))
    assert scenario.upstream.posted == [("support-chat", {"q": 1})]
    assert (state["outcome"], state["next"], state["wait_seconds"]) == ("RUNNING", "wait", 4)
    assert state["waterflai_execution_id"] == UPSTREAM_ID
    got = scenario.record
    assert (got.status, got.waterflai_execution_id, got.start_attempts) == (Status.RUNNING, UPSTREAM_ID, 1)
    assert (got.execution_id, got.deadline) == (state["execution_id"], state["deadline"])


def test_the_record_is_starting_while_the_post_is_under_way(table: Table) -> None:
    seen: list[Status] = []

    def answer() -> str:
        seen.append(table.only().status)
        return UPSTREAM_ID

    StartScenario(table, answer).start()
    assert seen == [Status.STARTING]


def test_what_a_start_sends_never_travels_with_the_state(table: Table) -> None:
    state = StartScenario(table).start(
        request_dict(input_data={"card": "k4711"}, metadata={"order": "k0815"})
    )
    assert "k4711" not in json.dumps(state)
    assert "k0815" not in json.dumps(state)


def test_called_again_after_it_answered_it_posts_no_more(table: Table) -> None:
    scenario = StartScenario(table)
    first = scenario.start()
    scenario.clock.advance(5)
    again = scenario.start()
    assert scenario.posts == 1
    assert (again["next"], again["waterflai_execution_id"]) == ("wait", first["waterflai_execution_id"])


def test_the_loop_it_begins_can_be_read_by_the_other_functions(table: Table) -> None:
    got = LoopState.from_dict(StartScenario(table).start())
    assert (got.outcome, got.history.status_requests, got.unsaved) == (Status.RUNNING, 0, False)


# STARTING → ACCEPTED: surely not carried out


@pytest.mark.parametrize("fault", [DOWN, BUSY, MAINTENANCE], ids=["no connection", "429", "503"])
def test_a_start_that_surely_failed_is_tried_again_after_a_wait(
    table: Table, fault: UpstreamUnavailableError
) -> None:
    scenario = StartScenario(table, fault, UPSTREAM_ID)
    state = scenario.start()
    assert (state["outcome"], state["next"]) == ("RUNNING", "start")
    assert state["wait_seconds"] >= (fault.retry_after_s or 1)
    assert (scenario.record.status, scenario.record.start_attempts) == (Status.ACCEPTED, 1)
    scenario.clock.advance(state["wait_seconds"])
    assert scenario.start()["next"] == "wait"
    assert (scenario.posts, scenario.record.status, scenario.record.start_attempts) == (2, Status.RUNNING, 2)


def test_the_waits_between_starts_grow(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    waits = []
    for _ in range(6):
        waits.append(scenario.start()["wait_seconds"])
        scenario.clock.advance(waits[-1])
    # Up to 8 s, or half of the wait, differ between executions.
    for wait_s, least_s in zip(waits, [4, 8, 16, 32, 60, 60], strict=True):
        assert least_s <= wait_s <= least_s + max(8, least_s / 2)


def _until_settled(scenario: StartScenario) -> dict[str, Any]:
    state = scenario.start()
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start()
    return state


@pytest.mark.parametrize("at_least_once", [False, True])
def test_at_the_start_deadline_it_is_given_up(table: Table, *, at_least_once: bool) -> None:
    scenario = StartScenario(table, DOWN, at_least_once=at_least_once, start_deadline_s=100)
    state = _until_settled(scenario)
    assert scenario.clock.now - NOW == 100
    # Each attempt surely was not accepted.
    assert state["outcome"] == "REJECTED"
    assert (state["next"], state["error"]["code"]) == ("notify", "start_deadline")
    assert "refused" in state["error"]["message"]


def test_the_deadline_of_the_job_ends_the_starts_too(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    state = scenario.start(request_dict(timeout_seconds=10))
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(request_dict(timeout_seconds=10))
    # A job started at the deadline itself would be cancelled immediately.
    assert 9 <= scenario.clock.now - NOW < 10
    assert (state["outcome"], state["next"]) == ("REJECTED", "notify")
    assert "last failure: no connection: refused" in state["error"]["message"]


def test_a_503_is_uncertain_where_the_deployment_is_configured_so(table: Table) -> None:
    scenario = StartScenario(table, MAINTENANCE, uncertain_on_503=True)
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.posts == 1


@pytest.mark.parametrize("fault", [DOWN, BUSY])
def test_only_a_503_is_uncertain_then(table: Table, fault: UpstreamUnavailableError) -> None:
    assert StartScenario(table, fault, uncertain_on_503=True).start()["next"] == "start"


# STARTING → final: refused or uncertain


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 302])
def test_a_refused_start_is_rejected_and_not_repeated(table: Table, status: int) -> None:
    scenario = StartScenario(table, UpstreamRefusedError("refused", f"HTTP {status}: no", status=status))
    state = scenario.start()
    assert (state["outcome"], state["next"]) == ("REJECTED", "notify")
    assert f"HTTP {status}: no" in state["error"]["message"]
    assert scenario.posts == 1


def test_a_refused_start_that_is_called_again_does_not_post_again(table: Table) -> None:
    scenario = StartScenario(table, REFUSED)
    scenario.start()
    assert scenario.start()["outcome"] in {"REJECTED", "UNCERTAIN"}
    assert scenario.posts == 1


@pytest.mark.parametrize("code", ["no_answer", "server_error", "unusable_answer"])
def test_a_start_whose_answer_was_lost_is_uncertain_and_never_repeated(table: Table, code: str) -> None:
    scenario = StartScenario(table, PerhapsAcceptedError(code, "HTTP 504", status=504))
    for _ in range(3):
        state = scenario.start()
        assert (state["outcome"], state["next"], state["error"]["code"]) == (
            "UNCERTAIN",
            "notify",
            "start_uncertain",
        )
        scenario.clock.advance(100)
    assert scenario.posts == 1


def test_at_least_once_repeats_a_start_whose_answer_was_lost(table: Table) -> None:
    scenario = StartScenario(table, LOST, UPSTREAM_ID, at_least_once=True)
    state = _until_settled(scenario)
    assert (state["next"], scenario.posts) == ("wait", 2)


def test_at_least_once_a_refusal_after_a_lost_answer_leaves_open_whether_a_job_runs(table: Table) -> None:
    scenario = StartScenario(table, LOST, REFUSED, at_least_once=True)
    state = _until_settled(scenario)
    assert (state["outcome"], state["error"]["code"], scenario.posts) == ("UNCERTAIN", "refused", 2)


def test_at_least_once_a_refusal_of_the_first_attempt_is_a_refusal(table: Table) -> None:
    scenario = StartScenario(table, REFUSED, at_least_once=True)
    assert (scenario.start()["outcome"], scenario.posts) == ("REJECTED", 1)


# Re-entry


def test_a_re_entry_that_finds_starting_does_not_post(table: Table) -> None:
    given = accepted_record(table, status=Status.STARTING, start_attempts=1)
    scenario = StartScenario(table)
    assert scenario.start(given)["outcome"] == "UNCERTAIN"
    assert scenario.posts == 0
    assert scenario.record.status is Status.STARTING


def test_at_least_once_a_re_entry_that_finds_starting_posts_again(table: Table) -> None:
    given = accepted_record(table, status=Status.STARTING, start_attempts=1)
    scenario = StartScenario(table, at_least_once=True)
    state = scenario.start(given)
    assert (state["next"], scenario.posts) == ("start", 0)
    assert scenario.start(given)["next"] == "wait"
    assert scenario.posts == 1


def test_a_re_entry_that_finds_running_goes_on_from_there(table: Table) -> None:
    table.put(running_record())
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": ID, "request": request_dict()})
    assert (state["next"], state["waterflai_execution_id"], scenario.posts) == ("wait", UPSTREAM_ID, 0)


@pytest.mark.parametrize("status", FINAL)
def test_a_re_entry_that_finds_an_end_stays_with_it(table: Table, status: Status) -> None:
    there = table.put(running_record(**final_attributes(status)))
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": ID, "request": request_dict()})
    assert (state["outcome"], state["next"], scenario.posts) == (status, "notify", 0)
    assert table.get(ID) == there


def test_a_start_after_the_deadline_posts_nothing(table: Table) -> None:
    scenario = StartScenario(table)
    given = accepted_record(table)
    scenario.clock.advance(3600)
    state = scenario.start(given)
    # TIMED_OUT would mean that a job ran.
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)


@pytest.mark.parametrize(("perhaps_started", "outcome"), [(False, "REJECTED"), (True, "UNCERTAIN")])
def test_a_deadline_after_a_lost_answer_leaves_open_whether_a_job_ran(
    table: Table, outcome: str, *, perhaps_started: bool
) -> None:
    scenario = StartScenario(table)
    given = accepted_record(table, start_attempts=1, perhaps_started=perhaps_started)
    scenario.clock.advance(3600)
    assert (scenario.start(given)["outcome"], scenario.posts) == (outcome, 0)


# Cancelled before, during, after


def test_a_cancel_before_the_start_means_no_post(table: Table) -> None:
    given = accepted_record(table, cancel_requested=to_rfc3339(NOW))
    scenario = StartScenario(table)
    state = scenario.start(given)
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_a_cancel_between_two_starts_means_no_second_post(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    scenario.start()
    table.set(scenario.record.execution_id, cancel_requested=to_rfc3339(NOW) or "")
    assert scenario.start()["outcome"] == "CANCELLED"
    assert scenario.posts == 1


def test_a_cancel_between_the_look_and_the_write_means_no_post(table: Table) -> None:
    class CancelledMeanwhile(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            table.set(record.execution_id, cancel_requested=to_rfc3339(NOW) or "")
            return super().begin_start(record)

    scenario = StartScenario(table, records=CancelledMeanwhile(table.name, table.client))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_an_outcome_between_the_read_and_the_write_means_no_post(table: Table) -> None:
    class ConcludedMeanwhile(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            super().conclude(record, final_attributes(Status.ERROR))
            return super().begin_start(record)

    scenario = StartScenario(table, records=ConcludedMeanwhile(table.name, table.client))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("ERROR", "notify", 0)


@pytest.mark.parametrize("status", FINAL)
def test_an_outcome_during_the_post_cancels_the_job_that_is_no_longer_needed(
    table: Table, status: Status
) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(status))
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["outcome"], state["next"]) == (status, "notify")
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [UPSTREAM_ID])


def test_a_cancel_that_fails_then_is_ignored(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(Status.CANCELLED))
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    scenario.upstream = FakeUpstream(
        starts=[answer], cancels=[PerhapsAcceptedError("server_error", "HTTP 500")]
    )
    assert scenario.start()["outcome"] == "CANCELLED"


def test_an_outcome_during_a_post_that_failed_is_what_counts(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(Status.CANCELLED))
        raise DOWN

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.upstream.cancelled) == ("CANCELLED", "notify", [])


def test_a_cancel_request_during_the_post_is_read_as_soon_as_the_job_has_an_id(
    table: Table,
) -> None:
    def answer() -> str:
        table.set(table.only().execution_id, cancel_requested=to_rfc3339(NOW) or "")
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["next"], state["cancel_requested"]) == ("cancel", True)
    assert scenario.record.status is Status.RUNNING


# The table in trouble


def test_a_table_that_takes_no_record_means_no_post(table: Table) -> None:
    scenario = StartScenario(
        table, client=Failing(table.client, {"put_item": client_error("ThrottlingException")})
    )
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)


def test_a_table_that_did_not_take_starting_means_no_post(table: Table) -> None:
    fault = {"update_item": client_error("InternalServerError", 500)}
    scenario = StartScenario(table, client=Failing(table.client, fault))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    # Called again when the table works.
    again = StartScenario(table)
    assert (again.start()["next"], again.posts) == ("wait", 1)


def test_starting_that_was_written_though_the_table_answered_with_an_error_is_this_attempts_own(
    table: Table,
) -> None:
    fault = {"update_item": client_error("InternalServerError", 500)}
    scenario = StartScenario(table, client=Failing(table.client, fault, after=True))
    state = scenario.start()
    assert (state["next"], state["waterflai_execution_id"], scenario.posts) == ("wait", UPSTREAM_ID, 1)


class Unsaving(ExecutionsTable):
    """Takes everything but the upstream's id."""

    def save_start(self, record: ExecutionRecord, waterflai_execution_id: str, now: float) -> ExecutionRecord:
        raise RecordUnavailableError(record.execution_id)


def test_an_id_that_could_not_be_saved_travels_with_the_state(table: Table) -> None:
    scenario = StartScenario(table, records=Unsaving(table.name, table.client))
    state = scenario.start()
    assert (state["next"], state["unsaved"], state["waterflai_execution_id"]) == ("wait", True, UPSTREAM_ID)
    assert scenario.record.status is Status.STARTING
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [])


def test_writes_that_botocore_repeats_after_lost_answers_neither_post_twice_nor_cancel(table: Table) -> None:
    """Each write goes through, and its repetition meets its own condition: a race lost against oneself."""
    scenario = StartScenario(table, client=Stuttering(table.client))
    state = scenario.start()
    assert (state["outcome"], state["waterflai_execution_id"]) == ("RUNNING", UPSTREAM_ID)
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [])


def test_an_id_saved_by_a_write_that_looked_lost_is_kept_and_its_job_not_cancelled(table: Table) -> None:
    class SavedAfterAll(ExecutionsTable):
        def save_start(
            self, record: ExecutionRecord, waterflai_execution_id: str, now: float
        ) -> ExecutionRecord:
            super().save_start(record, waterflai_execution_id, now)
            return super().save_start(record, waterflai_execution_id, now)

    scenario = StartScenario(table, records=SavedAfterAll(table.name, table.client))
    state = scenario.start()
    assert (state["outcome"], state["next"], state["waterflai_execution_id"]) == (
        "RUNNING",
        "wait",
        UPSTREAM_ID,
    )
    assert scenario.upstream.cancelled == []


# Killed between any two steps


def _attempt(
    table: Table, upstream: FakeUpstream, counter: StepCounter, given: object, **changes: Any
) -> dict[str, Any]:
    upstream.counter = counter
    records = table.records_over(CountedClient(table.client, counter))
    step = build_start_step(records, upstream, Clock(), **changes)
    return step.start(given, owner=OWNER, started_at=STARTED_AT)


def _rehearsed(table: Table, answer: Answer[str], given: object, **changes: Any) -> list[str]:
    counter = StepCounter()
    _attempt(table, FakeUpstream(starts=[answer]), counter, given, **changes)
    return counter.steps


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
        upstream = FakeUpstream(starts=[answer])
        with pytest.raises(Killed):
            _attempt(table, upstream, StepCounter(kill_at=at), given)
        state: dict[str, Any] = {}
        for _ in range(3):
            state = _attempt(table, upstream, StepCounter(), given)
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
            _attempt(table, FakeUpstream(starts=[answer]), StepCounter(kill_at=at), given, **changes)
        healthy = FakeUpstream(starts=[UPSTREAM_ID])
        state = _attempt(table, healthy, StepCounter(), given, **changes)
        for _ in range(2):
            if state["next"] == "start":
                state = _attempt(table, healthy, StepCounter(), given, **changes)
        assert (state["outcome"], state["next"]) == ("RUNNING", "wait"), step


def test_a_bug_in_the_client_leaves_the_start_uncertain_and_not_repeated(table: Table) -> None:
    scenario = StartScenario(table, InvalidRequestError("id: expected 1 to 200 printable characters"))
    with pytest.raises(InvalidRequestError):
        scenario.start()
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.posts == 1


# Whose request is it?


def test_a_duplicate_neither_posts_nor_waits_and_names_the_owner(table: Table) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED)
    state = scenario.start(KEYED, owner=OTHER)
    assert (state["error_name"], state["next"], state["owner_execution_arn"]) == (
        "Waterhook.Duplicate",
        "done",
        OWNER,
    )
    assert scenario.posts == 1


@pytest.mark.parametrize("status", FINAL)
def test_a_duplicate_of_a_finished_execution_ends_as_that_did(table: Table, status: Status) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED)
    table.records.conclude(scenario.record, final_attributes(status))
    state = scenario.start(KEYED, owner=OTHER)
    assert (state["outcome"], state["next"]) == (status, "done")
    assert state.get("error_name") == (None if status is Status.COMPLETED else status.error_name)
    assert scenario.posts == 1


def test_a_duplicate_comes_out_the_same_however_the_first_one_stands(table: Table) -> None:
    scenario = StartScenario(table, LOST)
    scenario.start(KEYED)
    assert scenario.start(KEYED, owner=OTHER)["error_name"] == "Waterhook.Duplicate"
    assert scenario.posts == 1
    assert scenario.record.owner_execution_arn == OWNER


def test_another_request_under_the_same_key_is_a_conflict(table: Table) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED | {"input_data": {"card": "k4711"}})
    state = scenario.start(KEYED, owner=OTHER)
    assert (state["error_name"], state["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert "k4711" not in json.dumps(state)
    assert scenario.posts == 1


def test_a_key_is_free_again_when_its_record_has_expired(table: Table) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED)
    table.records.conclude(scenario.record, final_attributes(expires_at=int(NOW) + 100))
    scenario.clock.advance(200)
    state = scenario.start(KEYED | {"input_data": {"n": 2}}, owner=OTHER)
    assert (state["next"], scenario.posts) == ("wait", 2)
    assert scenario.record.owner_execution_arn == OTHER


def test_a_forged_accepted_id_gets_its_own_record_and_leaves_the_victims_alone(table: Table) -> None:
    given = accepted_record(table)
    victim = table.get(ID)
    scenario = StartScenario(table)
    state = scenario.start(given, owner=OTHER)
    assert state["execution_id"] != ID
    assert table.get(ID) == victim
    assert scenario.posts == 1


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING, Status.RUNNING, Status.COMPLETED])
def test_a_forged_accepted_id_learns_nothing_of_the_victim(table: Table, status: Status) -> None:
    given = accepted_record(
        table, status=status, final_output_json='{"card":"k4711"}', waterflai_execution_id="upstream-of-ada"
    )
    state = StartScenario(table).start(given, owner=OTHER)
    assert "k4711" not in json.dumps(state)
    assert "upstream-of-ada" not in json.dumps(state)


# Invalid requests


@pytest.mark.parametrize("given", [[], 5, "x", {}, {"request": None}, request_dict(input_data=[])])
def test_an_invalid_request_is_rejected_with_the_reason_and_without_a_post(
    table: Table, given: object
) -> None:
    scenario = StartScenario(table)
    state = scenario.start(given)
    assert (state["outcome"], state["next"], state["error"]["code"]) == (
        "REJECTED",
        "notify",
        "invalid_request",
    )
    assert state["error"]["message"].count("expected") >= 1
    assert scenario.posts == 0
    # Its record is there for notify to conclude.
    assert scenario.record.status is Status.ACCEPTED


# The handler


def event(given: dict[str, Any]) -> dict[str, Any]:
    return {"input": given, "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def test_the_function_starts_a_job_over_http(table: Table, invoke: Invoke) -> None:
    with ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        state = invoke(app, event(request_dict(input_data={"ß": [1.5, None]})), WATERFLAI_BASE_URL=server.url)
    (got,) = server.requests
    assert (got.method, got.target) == ("POST", "/v1/executions/support-chat/async")
    assert (got.json, got.headers["x-api-key"]) == ({"input_data": {"ß": [1.5, None]}}, KEY)
    assert (state["next"], table.only().status) == (NextStep.WAIT, Status.RUNNING)


def test_the_log_of_a_start_holds_neither_the_key_nor_the_customers_data(
    table: Table, invoke: Invoke
) -> None:
    given = request_dict(input_data={"card": "k4711"}, metadata={"order": "k0815"})
    with log_of(app) as log:
        for step in (reply(202, {"execution_id": UPSTREAM_ID}), reply(500, {"detail": f"bad key {KEY}"})):
            with ScriptedServer([step]) as server:
                invoke(app, event(given | {"idempotency_key": server.url}), WATERFLAI_BASE_URL=server.url)
    assert log.getvalue().count('"message":"start"') == 2
    for secret in (KEY, "k4711", "k0815"):
        assert secret not in log.getvalue()


# A cap on running jobs


def start_step(scenario: StartScenario, table: Table, *, stack: int = 0, chatbot: int = 0) -> StartStep:
    return scenario.step(limiter=build_limiter(table, stack=stack, chatbot=chatbot))


def test_a_request_beyond_the_cap_waits_as_accepted_and_starts_when_there_is_room(table: Table) -> None:
    scenario = StartScenario(table)
    capped = start_step(scenario, table, stack=1)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    state = capped.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    assert state["wait_seconds"] >= 1
    record = table.get(state["execution_id"])
    assert (record.status, record.start_attempts) == (Status.ACCEPTED, 0)
    slots.release("f" * 32, ConcurrencyLimiter.slots_of("other"))
    state = capped.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], scenario.posts) == ("wait", 1)


def test_a_request_that_waits_for_room_past_its_deadline_is_rejected_with_the_cap_that_it_waited_for(
    table: Table,
) -> None:
    scenario = StartScenario(table, shortest_wait_s=60)
    build_limiter(table, stack=1).acquire("f" * 32, "other")
    state: dict[str, Any] = {"next": "start"}
    while state["next"] == "start":
        state = start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
        scenario.clock.advance(state["wait_seconds"])
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)
    assert state["error"] == {
        "code": "no_capacity",
        "message": "waited 3,600 s for a free slot (MaxRunning 1); the job was not started",
    }
    assert scenario.clock.now - NOW == 3600


def test_a_request_cancelled_while_it_waits_for_room_ends_there(table: Table) -> None:
    scenario = StartScenario(table)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    queued = start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    table.records.request_cancel(table.get(queued["execution_id"]), NOW)
    state = start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_a_start_overtaken_by_an_outcome_leaves_no_slot_behind(table: Table) -> None:
    """Its state machine execution was stopped, so no later step gives the slot back."""

    class Late(ConcurrencyLimiter):
        def acquire(
            self,
            execution_id: str,
            chatbot_id: str,
            held: Iterable[str] = (),
            mark: Callable[[list[str]], Any] | None = None,
        ) -> Acquisition:
            concluded = table.records.conclude(table.get(execution_id), final_attributes(Status.CANCELLED))
            self.release(execution_id, concluded.slots or ())
            return super().acquire(execution_id, chatbot_id, held, mark)

    scenario = StartScenario(table)
    late = Late(table.name, ConcurrencyLimits(stack=1), table.client)
    overtaken = scenario.step(limiter=late)
    state = overtaken.start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)
    assert build_limiter(table, stack=1).acquire("f" * 32, "other")


def test_a_second_call_that_comes_too_late_leaves_the_first_one_its_slot(table: Table) -> None:
    """Step Functions called again while the first call was still under way: the slot is in use."""
    scenario = StartScenario(table)

    class Racing(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
            return super().begin_start(record)

    late = StartScenario(table, records=Racing(table.name, table.client))
    with pytest.raises(RecordConflictError):
        start_step(late, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (scenario.posts, late.posts) == (1, 0)
    assert not build_limiter(table, stack=1).acquire("f" * 32, "other")


def test_called_again_after_a_crash_it_takes_the_slot_it_had(table: Table) -> None:
    class Crashing(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            raise RecordUnavailableError(record.execution_id)

    crashed = StartScenario(table, records=Crashing(table.name, table.client))
    state = start_step(crashed, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], crashed.posts) == ("start", 0)
    scenario = StartScenario(table)
    state = start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], scenario.posts) == ("wait", 1)


def test_the_record_that_is_no_execution_cannot_be_claimed(table: Table) -> None:
    build_limiter(table, stack=1).acquire("f" * 32, "other")
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": "capacity", "request": request_dict()})
    assert (state["outcome"], scenario.posts) == ("RUNNING", 1)


def test_a_request_with_a_lost_answer_is_uncertain_when_there_is_no_room_until_its_deadline(
    table: Table,
) -> None:
    waiting = {"reason": "queued", "since": to_rfc3339(NOW), "detail": "MaxRunning 1"}
    given = accepted_record(table, waiting=waiting, perhaps_started=True)
    scenario = StartScenario(table)
    scenario.clock.advance(3600)
    state = scenario.start(given)
    assert (state["outcome"], state["error"]["code"]) == ("UNCERTAIN", "no_capacity")
    assert "waited 3,600 s" in state["error"]["message"]
    assert "may be running this job" in state["error"]["message"]


class Contended:
    """A client whose transactions are cancelled by a conflict, `times` times."""

    def __init__(self, real: Any, times: int) -> None:
        self._real, self.times = real, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def transact_write_items(self, **arguments: Any) -> Any:
        if self.times:
            self.times -= 1
            raise cancelled_transaction("TransactionConflict", "None")
        return self._real.transact_write_items(**arguments)


@pytest.mark.parametrize("timeout_s", [3600, 30 * 24 * 3600])
def test_a_conflict_over_a_slot_is_no_queue_and_the_next_look_comes_within_seconds(
    table: Table, timeout_s: int
) -> None:
    scenario, given = StartScenario(table), request_dict(timeout_seconds=timeout_s)
    client: Any = Contended(table.client, times=100)
    slots = build_limiter(table, stack=1000, client=client)
    capped = scenario.step(limiter=slots)
    state = capped.start(given, owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], scenario.posts) == ("start", 0)
    assert state["wait_seconds"] <= 2
    client.times = 3
    assert capped.start(given, owner=OWNER, started_at=STARTED_AT)["next"] == "wait"


def test_the_record_lists_the_slots_that_its_execution_holds_until_its_start_succeeds(table: Table) -> None:
    scenario = StartScenario(table, DOWN, UPSTREAM_ID)
    for status in (Status.ACCEPTED, Status.RUNNING):
        start_step(scenario, table, stack=1, chatbot=1).start(
            request_dict(), owner=OWNER, started_at=STARTED_AT
        )
        there = table.only_execution()
        assert (there.status, there.slots) == (status, ("capacity", "capacity/support-chat"))


def test_a_cap_that_is_added_while_a_request_waits_adds_its_slot_to_the_list(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    start_step(scenario, table, stack=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert table.only_execution().slots == ("capacity",)
    start_step(scenario, table, chatbot=1).start(request_dict(), owner=OWNER, started_at=STARTED_AT)
    assert table.only_execution().slots == ("capacity", "capacity/support-chat")


# Why a request waits, and what becomes of the reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(BUSY, "upstream_busy"), (MAINTENANCE, "upstream_busy"), (DOWN, "retrying")],
    ids=["429", "503", "no connection"],
)
def test_while_it_waits_for_another_start_the_record_has_the_reason_and_the_time(
    table: Table, fault: UpstreamUnavailableError, reason: str
) -> None:
    scenario = StartScenario(table, fault, fault, UPSTREAM_ID)
    state = scenario.start()
    first = scenario.record.waiting
    assert first is not None
    next_at = to_rfc3339(NOW + state["wait_seconds"])
    assert (first["reason"], first["since"], first["next_attempt_at"]) == (reason, to_rfc3339(NOW), next_at)
    assert first["detail"] == fault.message
    scenario.clock.advance(state["wait_seconds"])
    again = scenario.start()
    second = scenario.record.waiting
    assert second is not None
    # Since the first time, and until the next one.
    assert second["since"] == to_rfc3339(NOW)
    assert second["next_attempt_at"] == to_rfc3339(scenario.clock.now + again["wait_seconds"])
    scenario.start()
    assert (scenario.record.status, scenario.record.waiting) == (Status.RUNNING, None)


def test_the_record_of_a_queued_request_has_the_limit_that_it_waits_for(table: Table) -> None:
    scenario = StartScenario(table)
    build_limiter(table, chatbot=1).acquire("f" * 32, "support-chat")
    for _ in range(2):
        state = start_step(scenario, table, chatbot=1).start(
            request_dict(), owner=OWNER, started_at=STARTED_AT
        )
        waiting = table.only_execution().waiting
        assert waiting is not None
        assert waiting["next_attempt_at"] == to_rfc3339(scenario.clock.now + state["wait_seconds"])
        assert (waiting["reason"], waiting["since"]) == ("queued", to_rfc3339(NOW))
        assert waiting["detail"] == "MaxRunningPerChatbot 1"
        scenario.clock.advance(state["wait_seconds"])


@pytest.mark.parametrize("fault", [BUSY, MAINTENANCE, DOWN], ids=["429", "503", "no connection"])
@pytest.mark.parametrize("timeout_s", [600, 7200])
def test_at_the_deadline_the_error_names_the_condition_the_time_and_the_attempts(
    table: Table, fault: UpstreamUnavailableError, timeout_s: int
) -> None:
    scenario, given = StartScenario(table, fault), request_dict(timeout_seconds=timeout_s)
    state = scenario.start(given)
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(given)
    tried = "10 min" if timeout_s == 600 else "15 min"
    attempts = f"{tried} ({scenario.posts} attempts)"
    message = f"the job could not be started in {attempts}; last failure: {fault.message}"
    assert state["error"] == {"code": "start_deadline", "message": message}
    assert scenario.posts > 2


def test_a_request_that_is_overdue_when_it_looks_again_still_names_the_condition(table: Table) -> None:
    scenario, given = StartScenario(table, BUSY), request_dict(timeout_seconds=60)
    scenario.start(given)
    # Lambda was throttled meanwhile.
    scenario.clock.advance(100)
    state = scenario.start(given)
    assert (state["outcome"], state["error"]["code"], scenario.posts) == ("REJECTED", "start_deadline", 1)
    assert (
        state["error"]["message"]
        == "the job could not be started in 100 s (1 attempt); last failure: HTTP 429"
    )


def test_a_request_that_was_overdue_before_its_first_attempt_has_that_as_its_error(table: Table) -> None:
    scenario, given = StartScenario(table), accepted_record(table)
    scenario.clock.advance(3600)
    assert scenario.start(given)["error"] == {
        "code": "start_deadline",
        "message": "the deadline passed 60 min after the request was accepted, before the first attempt to start the"
        " job; see the history of the state machine execution",
    }


@pytest.mark.parametrize("timeout_s", [60, 3600])
def test_with_retry_after_beyond_the_deadline_there_is_one_last_attempt(table: Table, timeout_s: int) -> None:
    slow = UpstreamUnavailableError("unavailable", "HTTP 429: slow down", status=429, retry_after_s=7200.0)
    scenario, given = StartScenario(table, slow, UPSTREAM_ID), request_dict(timeout_seconds=timeout_s)
    state = scenario.start(given)
    scenario.clock.advance(state["wait_seconds"])
    assert state["wait_seconds"] == min(900, timeout_s - 1)
    assert (scenario.start(given)["waterflai_execution_id"], scenario.posts) == (UPSTREAM_ID, 2)


def test_the_start_deadline_counts_from_the_first_attempt_and_not_from_acceptance(table: Table) -> None:
    scenario, given = StartScenario(table, BUSY), request_dict(timeout_seconds=7200)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    start_step(scenario, table, stack=1).start(given, owner=OWNER, started_at=STARTED_AT)
    scenario.clock.advance(3600)
    slots.release("f" * 32, ConcurrencyLimiter.slots_of("other"))
    state = start_step(scenario, table, stack=1).start(given, owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], scenario.posts) == ("start", 1)
    assert table.only_execution().first_attempt_at == to_rfc3339(NOW + 3600)
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = start_step(scenario, table, stack=1).start(given, owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], scenario.clock.now - NOW) == ("REJECTED", 3600 + 900)
    assert table.only_execution().first_attempt_at == to_rfc3339(NOW + 3600)


# An answer that was lost, and a cancel after it


@pytest.mark.parametrize("fault", [LOST, PerhapsAcceptedError("server_error", "HTTP 504", status=504)])
def test_at_least_once_a_cancel_after_a_lost_answer_is_uncertain(
    table: Table, fault: PerhapsAcceptedError
) -> None:
    scenario = StartScenario(table, fault, at_least_once=True)
    assert scenario.start()["next"] == "start"
    assert scenario.record.perhaps_started
    table.set(scenario.record.execution_id, cancel_requested=to_rfc3339(NOW) or "")
    state = scenario.start()
    assert (state["outcome"], state["error"]["code"], scenario.posts) == ("UNCERTAIN", "start_uncertain", 1)
    assert "may be running this job" in state["error"]["message"]


def test_at_least_once_a_cancel_during_a_post_whose_answer_is_lost_is_uncertain(table: Table) -> None:
    def answer() -> str:
        table.set(table.only().execution_id, cancel_requested=to_rfc3339(NOW) or "")
        raise LOST

    scenario = StartScenario(table, answer, at_least_once=True)
    assert (scenario.start()["outcome"], scenario.posts) == ("UNCERTAIN", 1)


def test_at_least_once_a_cancel_during_a_refused_post_is_a_cancel(table: Table) -> None:
    def answer() -> str:
        table.set(table.only().execution_id, cancel_requested=to_rfc3339(NOW) or "")
        raise DOWN

    scenario = StartScenario(table, answer, at_least_once=True)
    assert (scenario.start()["outcome"], scenario.posts) == ("CANCELLED", 1)


def test_a_lost_answer_is_remembered_over_later_refusals_and_under_other_semantics(table: Table) -> None:
    lost = StartScenario(table, LOST, DOWN, at_least_once=True)
    state = lost.start()
    lost.clock.advance(state["wait_seconds"])
    lost.start()
    later = StartScenario(table, DOWN)
    later.clock.advance(3600 - 1)
    assert later.start()["outcome"] == "UNCERTAIN"


# Faults of our own before the start


NO_SECRET = KeyUnavailableError("arn:secret: expected the API key as plain text")


def keyless(scenario: StartScenario, key: Callable[[], object]) -> dict[str, Any]:
    return scenario.step(read_key=key).start(KEYED, owner=OWNER, started_at=STARTED_AT)


def no_key() -> None:
    raise NO_SECRET


def test_a_key_that_cannot_be_read_is_waited_for_and_nothing_is_sent(table: Table) -> None:
    scenario = StartScenario(table)
    state = keyless(scenario, no_key)
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    assert 5 <= state["wait_seconds"] <= 8
    there = scenario.record
    assert (there.status, there.start_attempts, there.first_attempt_at) == (Status.ACCEPTED, 0, None)
    assert there.waiting is not None
    assert (there.waiting["reason"], there.waiting["detail"]) == ("retrying", str(NO_SECRET))
    scenario.clock.advance(3000)
    assert keyless(scenario, lambda: KEY)["next"] == "wait"
    assert scenario.posts == 1


def test_a_key_that_can_no_longer_be_read_at_the_post_undoes_the_start(table: Table) -> None:
    def gone() -> str:
        raise NO_SECRET

    scenario = StartScenario(table, gone, UPSTREAM_ID)
    assert scenario.start()["next"] == "start"
    assert scenario.record.status is Status.ACCEPTED
    assert scenario.start()["next"] == "wait"


@pytest.mark.parametrize(("timeout_s", "given_up_s"), [(3600, 3600), (30 * 24 * 3600, 6 * 3600)])
def test_a_key_that_can_never_be_read_is_given_up_with_the_reason(
    table: Table, timeout_s: int, given_up_s: int
) -> None:
    scenario, looks = StartScenario(table), 0
    state: dict[str, Any] = {"next": "start"}
    while state["next"] == "start":
        given = request_dict(timeout_seconds=timeout_s)
        state = scenario.step(read_key=no_key).start(given, owner=OWNER, started_at=STARTED_AT)
        scenario.clock.advance(state["wait_seconds"])
        looks += 1
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)
    assert str(NO_SECRET) in state["error"]["message"]
    assert scenario.clock.now - NOW == given_up_s
    assert looks < 120


THROTTLED = client_error("ProvisionedThroughputExceededException")
WRITES_AND_READS = ("put_item", "get_item", "update_item", "transact_write_items")


@pytest.mark.parametrize("operations", [WRITES_AND_READS, ("update_item", "transact_write_items")])
def test_a_table_that_fails_before_the_post_is_waited_for_and_nothing_is_sent(
    table: Table, operations: tuple[str, ...]
) -> None:
    scenario = StartScenario(table)
    failing = Failing(table.client, dict.fromkeys(operations, THROTTLED))
    scenario.records = table.records_over(failing)
    waits = []
    for _ in range(12):
        state = scenario.start(KEYED)
        assert (state["outcome"], state["next"]) == ("RUNNING", "start")
        waits.append(state["wait_seconds"])
        scenario.clock.advance(state["wait_seconds"])
    # It grows with the age of the request.
    assert 5 <= waits[0] <= 8
    assert waits[-1] > waits[0]
    failing.faults.clear()
    assert (scenario.start(KEYED)["next"], scenario.posts) == ("wait", 1)


def test_a_table_that_fails_for_six_hours_ends_in_a_fault_that_notify_can_report(table: Table) -> None:
    scenario, given = StartScenario(table), request_dict(timeout_seconds=30 * 24 * 3600)
    scenario.records = table.records_over(Failing(table.client, dict.fromkeys(WRITES_AND_READS, THROTTLED)))
    state = scenario.start(given)
    while state["next"] == "start":
        assert state.keys() == {"v", "outcome", "next", "wait_seconds"}
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(given)
    assert scenario.clock.now - NOW == 6 * 3600
    assert (state["outcome"], state["next"], state["input"]) == ("ERROR", "notify", given)
    assert "ProvisionedThroughputExceededException" in state["fault"]
    assert state["fault"].endswith("for 6 h")
    reporter = FaultReporter(table.records, DEFAULTS, scenario.clock)
    job = reporter.loop_state(state, owner=OWNER, started_at=STARTED_AT)
    assert (job.outcome, (job.error or {})["code"]) == ("ERROR", "fault")


def test_a_table_that_fails_after_a_refused_post_ends_with_what_waterflai_answered(table: Table) -> None:
    failing = Failing(table.client, {})

    def answer() -> str:
        failing.faults["update_item"] = THROTTLED
        raise BUSY

    scenario, pauses = StartScenario(table, answer, client=failing), list[float]()
    scenario.sleep = pauses.append
    state = scenario.step().start(KEYED, owner=OWNER, started_at=STARTED_AT)
    assert (state["outcome"], state["next"], state["error"]["code"]) == ("REJECTED", "notify", "fault")
    assert state["error"]["message"].startswith("HTTP 429; the start can't be repeated: ")
    assert len(pauses) == 3
    # A later call posts nothing.
    failing.faults.clear()
    assert (scenario.start(KEYED)["outcome"], scenario.posts) == ("UNCERTAIN", 1)


def test_an_undo_that_succeeds_at_the_second_attempt_goes_on(table: Table) -> None:
    failing = Failing(table.client, {})

    def answer() -> str:
        failing.faults["update_item"] = THROTTLED
        raise BUSY

    scenario = StartScenario(table, answer, client=failing)
    scenario.sleep = lambda _seconds: failing.faults.clear()
    assert scenario.step().start(KEYED, owner=OWNER, started_at=STARTED_AT)["next"] == "start"
    assert scenario.record.status is Status.ACCEPTED


def test_a_job_whose_save_was_refused_by_a_table_that_then_fails_keeps_its_id(table: Table) -> None:
    class Overtaken(ExecutionsTable):
        def save_start(
            self, record: ExecutionRecord, waterflai_execution_id: str, now: float
        ) -> ExecutionRecord:
            raise RecordConflictError(record.execution_id)

        def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
            raise RecordUnavailableError(execution_id)

    scenario = StartScenario(table, records=Overtaken(table.name, table.client))
    state = scenario.start()
    assert (state["waterflai_execution_id"], state["unsaved"], scenario.posts) == (UPSTREAM_ID, True, 1)


def test_a_secret_that_is_malformed_when_the_container_starts_is_read_again_by_the_next_start(
    table: Table, secret: Secret, invoke: Invoke
) -> None:
    secret.rotate('{"apiKey": "of another spelling"}')
    given = event(request_dict(idempotency_key="rotation"))
    with ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        state = invoke(app, given, WATERFLAI_BASE_URL=server.url)
        assert (state["next"], server.requests) == ("start", [])
        secret.rotate(KEY)
        assert app.handler(given, CONTEXT)["next"] == "wait"
    assert table.only().status is Status.RUNNING


# Following


def test_a_job_is_followed_from_its_start_where_that_is_on(table: Table) -> None:
    assert StartScenario(table, follow_concurrency=50).start()["next"] == "follow"


def test_a_job_whose_id_was_not_saved_is_polled_first_since_a_poll_saves_it(table: Table) -> None:
    state = StartScenario(table, records=Unsaving(table.name, table.client), follow_concurrency=50).start()
    assert (state["next"], state["unsaved"]) == ("wait", True)
