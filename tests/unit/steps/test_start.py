"""The start step: transitions of the record, and how often a job is posted."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from functions.start import app
from tests.fakes.aws import FailingClient, RepeatingClient, Secret, Table, cancelled_transaction, client_error
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
    SUCCESS_AND_FAILURE,
    UPSTREAM_ID,
    final_attributes,
    record,
    request_dict,
    running_record,
)
from tests.support.invoke import Invoke
from waterhook.domain.loop_state import NextStep
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

DOWN = UpstreamUnavailableError("unreachable", "no connection: refused")
BUSY = UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=45.0)
MAINTENANCE = UpstreamUnavailableError("unavailable", "HTTP 503", status=503)
REFUSED = UpstreamRefusedError("refused", "HTTP 404: no such chatbot", status=404)
LOST = PerhapsAcceptedError("no_answer", "no answer: ReadTimeoutError")
KEYED = request_dict(idempotency_key="order-7")


class StartScenario:
    """A start step with its table and upstream, on one clock. `start` is what the state machine calls."""

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

    def start(
        self, execution_input: object = None, *, owner: str = OWNER, stack: int = 0, chatbot: int = 0
    ) -> dict[str, Any]:
        """Call the step. `stack` and `chatbot` limit the running jobs."""
        execution_input = request_dict() if execution_input is None else execution_input
        limiter = build_limiter(self.table, stack=stack, chatbot=chatbot) if stack or chatbot else None
        state = self.step(limiter=limiter).start(execution_input, owner=owner, started_at=STARTED_AT)
        # The state machine carries the result as JSON.
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
    """Store the record of a request that the API accepted, and return the input of its execution."""
    table.put(record(**({"source": "api", "caller": "ada"} | changes)))
    return {"execution_id": ID, "request": request_dict()}


# ACCEPTED → STARTING → RUNNING


def test_a_start_posts_once_and_saves_the_upstreams_id(table: Table) -> None:
    scenario = StartScenario(table)
    state = scenario.start(request_dict(input_data={"q": 1}))
    assert scenario.upstream.posted == [("support-chat", {"q": 1})]
    assert (state["outcome"], state["next"], state["wait_seconds"]) == ("RUNNING", "wait", 4)
    assert state["waterflai_execution_id"] == UPSTREAM_ID
    stored = scenario.record
    assert (stored.status, stored.waterflai_execution_id, stored.start_attempts) == (
        Status.RUNNING,
        UPSTREAM_ID,
        1,
    )
    assert (stored.execution_id, stored.deadline) == (state["execution_id"], state["deadline"])


def test_the_record_is_starting_while_the_post_is_under_way(table: Table) -> None:
    statuses: list[Status] = []

    def answer() -> str:
        statuses.append(table.only().status)
        return UPSTREAM_ID

    StartScenario(table, answer).start()
    assert statuses == [Status.STARTING]


def test_the_state_contains_neither_the_input_nor_the_metadata(table: Table) -> None:
    state = StartScenario(table).start(
        request_dict(input_data={"card": "k4711"}, metadata={"order": "k0815"})
    )
    assert "k4711" not in json.dumps(state)
    assert "k0815" not in json.dumps(state)


def test_a_repeated_call_after_a_successful_start_posts_nothing(table: Table) -> None:
    scenario = StartScenario(table)
    first = scenario.start()
    scenario.clock.advance(5)
    again = scenario.start()
    assert scenario.posts == 1
    assert (again["next"], again["waterflai_execution_id"]) == ("wait", first["waterflai_execution_id"])


# STARTING → ACCEPTED: the start certainly failed


@pytest.mark.parametrize("fault", [DOWN, BUSY], ids=["no connection", "429 with Retry-After"])
def test_a_start_that_certainly_failed_is_repeated_after_a_wait(
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
def test_at_the_start_deadline_the_request_is_rejected(table: Table, *, at_least_once: bool) -> None:
    scenario = StartScenario(table, DOWN, at_least_once=at_least_once, start_deadline_s=100)
    state = _until_settled(scenario)
    assert scenario.clock.now - NOW == 100
    # Waterflai accepted none of the attempts.
    assert state["outcome"] == "REJECTED"
    assert (state["next"], state["error"]["code"]) == ("notify", "start_deadline")
    assert "refused" in state["error"]["message"]


def test_the_deadline_of_the_job_also_ends_the_attempts_to_start_it(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    state = scenario.start(request_dict(timeout_seconds=10))
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(request_dict(timeout_seconds=10))
    # A job started at the deadline itself would be cancelled immediately.
    assert 9 <= scenario.clock.now - NOW < 10
    assert (state["outcome"], state["next"]) == ("REJECTED", "notify")
    assert "last failure: no connection: refused" in state["error"]["message"]


def test_with_uncertain_on_503_a_503_at_the_start_is_uncertain(table: Table) -> None:
    scenario = StartScenario(table, MAINTENANCE, uncertain_on_503=True)
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.posts == 1


# STARTING → a final status


def test_a_refused_start_is_rejected_and_not_repeated(table: Table) -> None:
    scenario = StartScenario(table, REFUSED)
    state = scenario.start()
    assert (state["outcome"], state["next"]) == ("REJECTED", "notify")
    assert "HTTP 404: no such chatbot" in state["error"]["message"]
    assert scenario.posts == 1


def test_a_refused_start_that_is_called_again_does_not_post_again(table: Table) -> None:
    scenario = StartScenario(table, REFUSED)
    scenario.start()
    assert scenario.start()["outcome"] in {"REJECTED", "UNCERTAIN"}
    assert scenario.posts == 1


def test_a_start_whose_answer_was_lost_is_uncertain_and_never_repeated(table: Table) -> None:
    scenario = StartScenario(table, LOST)
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


def test_at_least_once_a_refusal_after_a_lost_answer_is_uncertain(table: Table) -> None:
    scenario = StartScenario(table, LOST, REFUSED, at_least_once=True)
    state = _until_settled(scenario)
    assert (state["outcome"], state["error"]["code"], scenario.posts) == ("UNCERTAIN", "refused", 2)


def test_at_least_once_a_refused_first_attempt_is_rejected(table: Table) -> None:
    scenario = StartScenario(table, REFUSED, at_least_once=True)
    assert (scenario.start()["outcome"], scenario.posts) == ("REJECTED", 1)


# Repeated calls


def test_a_repeated_call_for_a_starting_record_posts_nothing(table: Table) -> None:
    execution_input = accepted_record(table, status=Status.STARTING, start_attempts=1)
    scenario = StartScenario(table)
    assert scenario.start(execution_input)["outcome"] == "UNCERTAIN"
    assert scenario.posts == 0
    assert scenario.record.status is Status.STARTING


def test_at_least_once_a_repeated_call_for_a_starting_record_posts_again(table: Table) -> None:
    execution_input = accepted_record(table, status=Status.STARTING, start_attempts=1)
    scenario = StartScenario(table, at_least_once=True)
    state = scenario.start(execution_input)
    assert (state["next"], scenario.posts) == ("start", 0)
    assert scenario.start(execution_input)["next"] == "wait"
    assert scenario.posts == 1


def test_a_repeated_call_for_a_running_record_continues_with_its_job(table: Table) -> None:
    table.put(running_record())
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": ID, "request": request_dict()})
    assert (state["next"], state["waterflai_execution_id"], scenario.posts) == ("wait", UPSTREAM_ID, 0)


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_a_repeated_call_for_a_final_record_keeps_its_outcome(table: Table, status: Status) -> None:
    stored = table.put(running_record(**final_attributes(status)))
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": ID, "request": request_dict()})
    assert (state["outcome"], state["next"], scenario.posts) == (status, "notify", 0)
    assert table.get(ID) == stored


def test_a_start_after_the_deadline_posts_nothing(table: Table) -> None:
    scenario = StartScenario(table)
    execution_input = accepted_record(table)
    scenario.clock.advance(3600)
    state = scenario.start(execution_input)
    # The outcome TIMED_OUT would mean that a job ran.
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)


@pytest.mark.parametrize(("perhaps_started", "outcome"), [(False, "REJECTED"), (True, "UNCERTAIN")])
def test_a_request_past_its_deadline_is_uncertain_only_after_a_lost_answer(
    table: Table, outcome: str, *, perhaps_started: bool
) -> None:
    scenario = StartScenario(table)
    execution_input = accepted_record(table, start_attempts=1, perhaps_started=perhaps_started)
    scenario.clock.advance(3600)
    assert (scenario.start(execution_input)["outcome"], scenario.posts) == (outcome, 0)


# A cancel before, during and after the post


def test_a_request_cancelled_before_its_start_is_not_posted(table: Table) -> None:
    execution_input = accepted_record(table, cancel_requested=to_rfc3339(NOW))
    scenario = StartScenario(table)
    state = scenario.start(execution_input)
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_a_request_cancelled_between_two_attempts_is_not_posted_again(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    scenario.start()
    table.set(scenario.record.execution_id, cancel_requested=to_rfc3339(NOW) or "")
    assert scenario.start()["outcome"] == "CANCELLED"
    assert scenario.posts == 1


def test_a_cancel_between_the_read_and_the_write_prevents_the_post(table: Table) -> None:
    class CancelledMeanwhile(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            table.set(record.execution_id, cancel_requested=to_rfc3339(NOW) or "")
            return super().begin_start(record)

    scenario = StartScenario(table, records=CancelledMeanwhile(table.name, table.client))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_an_outcome_between_the_read_and_the_write_prevents_the_post(table: Table) -> None:
    class ConcludedMeanwhile(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            super().conclude(record, final_attributes(Status.ERROR))
            return super().begin_start(record)

    scenario = StartScenario(table, records=ConcludedMeanwhile(table.name, table.client))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("ERROR", "notify", 0)


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_an_outcome_during_the_post_cancels_the_new_job(table: Table, status: Status) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(status))
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["outcome"], state["next"]) == (status, "notify")
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [UPSTREAM_ID])


def test_a_failed_cancel_of_the_new_job_is_ignored(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(Status.CANCELLED))
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    scenario.upstream = FakeUpstream(
        starts=[answer], cancels=[PerhapsAcceptedError("server_error", "HTTP 500")]
    )
    assert scenario.start()["outcome"] == "CANCELLED"


def test_an_outcome_during_a_failed_post_is_kept(table: Table) -> None:
    def answer() -> str:
        table.records.conclude(table.only(), final_attributes(Status.CANCELLED))
        raise DOWN

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.upstream.cancelled) == ("CANCELLED", "notify", [])


def test_a_cancel_request_during_the_post_leads_to_a_cancel_of_the_job(
    table: Table,
) -> None:
    def answer() -> str:
        table.set(table.only().execution_id, cancel_requested=to_rfc3339(NOW) or "")
        return UPSTREAM_ID

    scenario = StartScenario(table, answer)
    state = scenario.start()
    assert (state["next"], state["cancel_requested"]) == ("cancel", True)
    assert scenario.record.status is Status.RUNNING


# Faults of the table


def test_without_a_record_nothing_is_posted(table: Table) -> None:
    scenario = StartScenario(
        table, client=FailingClient(table.client, {"put_item": client_error("ThrottlingException")})
    )
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)


def test_while_starting_cannot_be_written_nothing_is_posted(table: Table) -> None:
    fault = {"update_item": client_error("InternalServerError", 500)}
    scenario = StartScenario(table, client=FailingClient(table.client, fault))
    state = scenario.start()
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    # Called again when the table works.
    again = StartScenario(table)
    assert (again.start()["next"], again.posts) == ("wait", 1)


def test_an_error_after_starting_was_written_does_not_prevent_the_post(
    table: Table,
) -> None:
    fault = {"update_item": client_error("InternalServerError", 500)}
    scenario = StartScenario(table, client=FailingClient(table.client, fault, after=True))
    state = scenario.start()
    assert (state["next"], state["waterflai_execution_id"], scenario.posts) == ("wait", UPSTREAM_ID, 1)


class Unsaving(ExecutionsTable):
    """A table that cannot save the upstream's id."""

    def save_start(self, record: ExecutionRecord, waterflai_execution_id: str, now: float) -> ExecutionRecord:
        raise RecordUnavailableError(record.execution_id)


def test_an_id_that_could_not_be_saved_is_kept_in_the_state(table: Table) -> None:
    scenario = StartScenario(table, records=Unsaving(table.name, table.client))
    state = scenario.start()
    assert (state["next"], state["unsaved"], state["waterflai_execution_id"]) == ("wait", True, UPSTREAM_ID)
    assert scenario.record.status is Status.STARTING
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [])


def test_writes_that_botocore_repeats_after_lost_answers_neither_post_twice_nor_cancel(table: Table) -> None:
    """Each write succeeds, its answer is lost, and its repetition fails at the condition of the first."""
    scenario = StartScenario(table, client=RepeatingClient(table.client))
    state = scenario.start()
    assert (state["outcome"], state["waterflai_execution_id"]) == ("RUNNING", UPSTREAM_ID)
    assert (scenario.posts, scenario.upstream.cancelled) == (1, [])


def test_an_id_saved_by_a_write_that_seemed_to_fail_is_kept_and_its_job_not_cancelled(table: Table) -> None:
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


# Crashes between any two steps


def _attempt(
    table: Table, upstream: FakeUpstream, counter: StepCounter, execution_input: object, **changes: Any
) -> dict[str, Any]:
    upstream.counter = counter
    records = table.records_over(CountedClient(table.client, counter))
    step = build_start_step(records, upstream, Clock(), **changes)
    return step.start(execution_input, owner=OWNER, started_at=STARTED_AT)


def _rehearsed(table: Table, answer: Answer[str], execution_input: object, **changes: Any) -> list[str]:
    counter = StepCounter()
    _attempt(table, FakeUpstream(starts=[answer]), counter, execution_input, **changes)
    return counter.steps


ANSWERS: dict[str, tuple[Answer[str], set[str]]] = {
    "started": (UPSTREAM_ID, {"RUNNING", "UNCERTAIN"}),
    "unavailable": (DOWN, {"RUNNING", "UNCERTAIN"}),
    "refused": (REFUSED, {"REJECTED", "UNCERTAIN"}),
    "lost": (LOST, {"UNCERTAIN"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_start_that_is_killed_at_any_step_and_repeated_never_posts_twice(table: Table, name: str) -> None:
    answer, outcomes = ANSWERS[name]
    steps = _rehearsed(table, answer, KEYED | {"idempotency_key": "rehearsal"})
    assert steps.count("before POST") == 1
    for at, step in enumerate(steps):
        execution_input = KEYED | {"idempotency_key": f"{name}-{at}"}
        upstream = FakeUpstream(starts=[answer])
        with pytest.raises(Killed):
            _attempt(table, upstream, StepCounter(kill_at=at), execution_input)
        state: dict[str, Any] = {}
        for _ in range(3):
            state = _attempt(table, upstream, StepCounter(), execution_input)
        assert state["outcome"] in outcomes, step
        if name == "unavailable":
            # A refused connection may be repeated. A POST whose answer was lost may not.
            assert state["outcome"] == "UNCERTAIN" or state["next"] == "start", step
        else:
            assert len(upstream.posted) <= 1, step
        if state["outcome"] == "RUNNING" and name == "started":
            assert len(upstream.posted) == 1, step
            assert state["waterflai_execution_id"] == UPSTREAM_ID


@pytest.mark.parametrize("name", ANSWERS)
def test_at_least_once_a_start_that_is_killed_at_any_step_and_repeated_posts_the_job(
    table: Table, name: str
) -> None:
    answer, _ = ANSWERS[name]
    changes = {"at_least_once": True}
    steps = _rehearsed(table, answer, KEYED | {"idempotency_key": "rehearsal"}, **changes)
    for at, step in enumerate(steps):
        execution_input = KEYED | {"idempotency_key": f"{name}-{at}"}
        with pytest.raises(Killed):
            _attempt(
                table, FakeUpstream(starts=[answer]), StepCounter(kill_at=at), execution_input, **changes
            )
        healthy = FakeUpstream(starts=[UPSTREAM_ID])
        state = _attempt(table, healthy, StepCounter(), execution_input, **changes)
        for _ in range(2):
            if state["next"] == "start":
                state = _attempt(table, healthy, StepCounter(), execution_input, **changes)
        assert (state["outcome"], state["next"]) == ("RUNNING", "wait"), step


def test_a_start_that_raised_during_its_post_is_uncertain_and_not_repeated(table: Table) -> None:
    scenario = StartScenario(table, InvalidRequestError("id: expected 1 to 200 printable characters"))
    with pytest.raises(InvalidRequestError):
        scenario.start()
    assert scenario.start()["outcome"] == "UNCERTAIN"
    assert scenario.posts == 1


# Duplicates, conflicts and forged ids


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


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_a_duplicate_of_a_finished_execution_has_the_same_outcome(table: Table, status: Status) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED)
    table.records.conclude(scenario.record, final_attributes(status))
    state = scenario.start(KEYED, owner=OTHER)
    assert (state["outcome"], state["next"]) == (status, "done")
    assert state.get("error_name") == (None if status is Status.COMPLETED else status.error_name)
    assert scenario.posts == 1


def test_a_different_request_with_the_same_key_is_a_conflict(table: Table) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED | {"input_data": {"card": "k4711"}})
    state = scenario.start(KEYED, owner=OTHER)
    assert (state["error_name"], state["next"]) == ("Waterhook.IdempotencyConflict", "done")
    assert "k4711" not in json.dumps(state)
    assert scenario.posts == 1


def test_a_key_can_be_used_again_once_its_record_has_expired(table: Table) -> None:
    scenario = StartScenario(table)
    scenario.start(KEYED)
    table.records.conclude(scenario.record, final_attributes(expires_at=int(NOW) + 100))
    scenario.clock.advance(200)
    state = scenario.start(KEYED | {"input_data": {"n": 2}}, owner=OTHER)
    assert (state["next"], scenario.posts) == ("wait", 2)
    assert scenario.record.owner_execution_arn == OTHER


def test_an_execution_with_a_forged_id_gets_a_record_of_its_own(table: Table) -> None:
    execution_input = accepted_record(table)
    victim = table.get(ID)
    scenario = StartScenario(table)
    state = scenario.start(execution_input, owner=OTHER)
    assert state["execution_id"] != ID
    assert table.get(ID) == victim
    assert scenario.posts == 1


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.STARTING, Status.RUNNING, Status.COMPLETED])
def test_an_execution_with_a_forged_id_gets_no_data_of_the_record(table: Table, status: Status) -> None:
    execution_input = accepted_record(
        table, status=status, final_output_json='{"card":"k4711"}', waterflai_execution_id="upstream-of-ada"
    )
    state = StartScenario(table).start(execution_input, owner=OTHER)
    assert "k4711" not in json.dumps(state)
    assert "upstream-of-ada" not in json.dumps(state)


# Invalid requests


@pytest.mark.parametrize("execution_input", [[], request_dict(input_data=[])])
def test_an_invalid_request_is_rejected_with_the_reason_and_without_a_post(
    table: Table, execution_input: object
) -> None:
    scenario = StartScenario(table)
    state = scenario.start(execution_input)
    assert (state["outcome"], state["next"], state["error"]["code"]) == (
        "REJECTED",
        "notify",
        "invalid_request",
    )
    assert state["error"]["message"].count("expected") >= 1
    assert scenario.posts == 0
    # Notify writes the outcome into this record.
    assert scenario.record.status is Status.ACCEPTED


# The handler


def event(execution_input: dict[str, Any]) -> dict[str, Any]:
    return {"input": execution_input, "execution": {"arn": OWNER, "started_at": STARTED_AT}}


def test_the_function_starts_a_job_over_http(table: Table, invoke: Invoke) -> None:
    with ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        state = invoke(app, event(request_dict(input_data={"ß": [1.5, None]})), WATERFLAI_BASE_URL=server.url)
    (posted,) = server.requests
    assert (posted.method, posted.target) == ("POST", "/v1/executions/support-chat/async")
    assert (posted.json, posted.headers["x-api-key"]) == ({"input_data": {"ß": [1.5, None]}}, KEY)
    assert (state["next"], table.only().status) == (NextStep.WAIT, Status.RUNNING)


# Limits of running jobs


def test_a_request_beyond_the_limit_stays_accepted_and_starts_when_a_slot_is_free(table: Table) -> None:
    scenario = StartScenario(table)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    state = scenario.start(stack=1)
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    assert state["wait_seconds"] >= 1
    record = table.get(state["execution_id"])
    assert (record.status, record.start_attempts) == (Status.ACCEPTED, 0)
    slots.release("f" * 32, ConcurrencyLimiter.slots_of("other"))
    state = scenario.start(stack=1)
    assert (state["next"], scenario.posts) == ("wait", 1)


def test_a_request_that_waits_for_a_slot_until_its_deadline_is_rejected_and_names_the_limit(
    table: Table,
) -> None:
    scenario = StartScenario(table, shortest_wait_s=60)
    build_limiter(table, stack=1).acquire("f" * 32, "other")
    state: dict[str, Any] = {"next": "start"}
    while state["next"] == "start":
        state = scenario.start(stack=1)
        scenario.clock.advance(state["wait_seconds"])
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)
    assert state["error"] == {
        "code": "no_capacity",
        "message": "waited 3,600 s for a free slot (MaxRunning 1); the job was not started",
    }
    assert scenario.clock.now - NOW == 3600


def test_a_request_cancelled_while_it_waits_for_a_slot_is_not_posted(table: Table) -> None:
    scenario = StartScenario(table)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    queued = scenario.start(stack=1)
    table.records.request_cancel(table.get(queued["execution_id"]), NOW)
    state = scenario.start(stack=1)
    assert (state["outcome"], state["next"], scenario.posts) == ("CANCELLED", "notify", 0)


def test_a_start_overtaken_by_an_outcome_releases_its_slot(table: Table) -> None:
    """Its state machine execution was stopped, so no later step releases the slot."""

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


def test_a_second_call_during_the_first_does_not_release_its_slot(table: Table) -> None:
    """Step Functions repeats the call while the first one is running: the slot is in use."""
    scenario = StartScenario(table)

    class Racing(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            scenario.start(stack=1)
            return super().begin_start(record)

    late = StartScenario(table, records=Racing(table.name, table.client))
    with pytest.raises(RecordConflictError):
        late.start(stack=1)
    assert (scenario.posts, late.posts) == (1, 0)
    assert not build_limiter(table, stack=1).acquire("f" * 32, "other")


def test_a_start_repeated_after_a_crash_uses_the_slot_that_it_has(table: Table) -> None:
    class Crashing(ExecutionsTable):
        def begin_start(self, record: ExecutionRecord) -> ExecutionRecord:
            raise RecordUnavailableError(record.execution_id)

    crashed = StartScenario(table, records=Crashing(table.name, table.client))
    state = crashed.start(stack=1)
    assert (state["next"], crashed.posts) == ("start", 0)
    scenario = StartScenario(table)
    state = scenario.start(stack=1)
    assert (state["next"], scenario.posts) == ("wait", 1)


def test_the_item_that_lists_slots_cannot_be_claimed_as_an_execution(table: Table) -> None:
    build_limiter(table, stack=1).acquire("f" * 32, "other")
    scenario = StartScenario(table)
    state = scenario.start({"execution_id": "capacity", "request": request_dict()})
    assert (state["outcome"], scenario.posts) == ("RUNNING", 1)


def test_a_request_without_a_slot_until_its_deadline_is_uncertain_after_a_lost_answer(
    table: Table,
) -> None:
    waiting = {"reason": "queued", "since": to_rfc3339(NOW), "detail": "MaxRunning 1"}
    execution_input = accepted_record(table, waiting=waiting, perhaps_started=True)
    scenario = StartScenario(table)
    scenario.clock.advance(3600)
    state = scenario.start(execution_input)
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
def test_a_transaction_conflict_over_a_slot_is_retried_within_seconds(table: Table, timeout_s: int) -> None:
    scenario, execution_input = StartScenario(table), request_dict(timeout_seconds=timeout_s)
    client: Any = Contended(table.client, times=100)
    slots = build_limiter(table, stack=1000, client=client)
    capped = scenario.step(limiter=slots)
    state = capped.start(execution_input, owner=OWNER, started_at=STARTED_AT)
    assert (state["next"], scenario.posts) == ("start", 0)
    assert state["wait_seconds"] <= 2
    client.times = 3
    assert capped.start(execution_input, owner=OWNER, started_at=STARTED_AT)["next"] == "wait"


def test_the_record_lists_the_slots_that_its_execution_holds_until_its_start_succeeds(table: Table) -> None:
    scenario = StartScenario(table, DOWN, UPSTREAM_ID)
    for status in (Status.ACCEPTED, Status.RUNNING):
        scenario.start(stack=1, chatbot=1)
        stored = table.only()
        assert (stored.status, stored.slots) == (status, ("capacity", "capacity/support-chat"))


def test_a_limit_that_is_added_while_a_request_waits_adds_a_slot_to_its_record(table: Table) -> None:
    scenario = StartScenario(table, DOWN)
    scenario.start(stack=1)
    assert table.only().slots == ("capacity",)
    scenario.start(chatbot=1)
    assert table.only().slots == ("capacity", "capacity/support-chat")


# The reason why a request waits


def test_while_a_request_waits_for_another_attempt_its_record_has_the_reason_and_the_time(
    table: Table,
) -> None:
    scenario = StartScenario(table, BUSY, BUSY, UPSTREAM_ID)
    state = scenario.start()
    first = scenario.record.waiting
    assert first is not None
    next_at = to_rfc3339(NOW + state["wait_seconds"])
    assert (first["reason"], first["since"]) == ("upstream_busy", to_rfc3339(NOW))
    assert (first["next_attempt_at"], first["detail"]) == (next_at, BUSY.message)
    scenario.clock.advance(state["wait_seconds"])
    again = scenario.start()
    second = scenario.record.waiting
    assert second is not None
    assert second["since"] == to_rfc3339(NOW)
    assert second["next_attempt_at"] == to_rfc3339(scenario.clock.now + again["wait_seconds"])
    scenario.start()
    assert (scenario.record.status, scenario.record.waiting) == (Status.RUNNING, None)


def test_the_record_of_a_queued_request_has_the_limit_that_it_waits_for(table: Table) -> None:
    scenario = StartScenario(table)
    build_limiter(table, chatbot=1).acquire("f" * 32, "support-chat")
    for _ in range(2):
        state = scenario.start(chatbot=1)
        waiting = table.only().waiting
        assert waiting is not None
        assert waiting["next_attempt_at"] == to_rfc3339(scenario.clock.now + state["wait_seconds"])
        assert (waiting["reason"], waiting["since"]) == ("queued", to_rfc3339(NOW))
        assert waiting["detail"] == "MaxRunningPerChatbot 1"
        scenario.clock.advance(state["wait_seconds"])


@pytest.mark.parametrize("timeout_s", [600, 7200])
def test_at_the_deadline_the_error_names_the_last_fault_the_time_and_the_attempts(
    table: Table, timeout_s: int
) -> None:
    scenario, execution_input = StartScenario(table, BUSY), request_dict(timeout_seconds=timeout_s)
    state = scenario.start(execution_input)
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(execution_input)
    duration = "10 min" if timeout_s == 600 else "15 min"
    message = f"the job could not be started in {duration} ({scenario.posts} attempts); last failure: {BUSY.message}"
    assert state["error"] == {"code": "start_deadline", "message": message}
    assert scenario.posts > 2


def test_a_request_past_its_deadline_at_the_second_attempt_names_the_last_fault(table: Table) -> None:
    scenario, execution_input = StartScenario(table, BUSY), request_dict(timeout_seconds=60)
    scenario.start(execution_input)
    # Lambda was throttled meanwhile.
    scenario.clock.advance(100)
    state = scenario.start(execution_input)
    assert (state["outcome"], state["error"]["code"], scenario.posts) == ("REJECTED", "start_deadline", 1)
    assert (
        state["error"]["message"]
        == "the job could not be started in 100 s (1 attempt); last failure: HTTP 429"
    )


def test_a_request_past_its_deadline_at_the_first_attempt_names_that_as_its_error(table: Table) -> None:
    scenario, execution_input = StartScenario(table), accepted_record(table)
    scenario.clock.advance(3600)
    assert scenario.start(execution_input)["error"] == {
        "code": "start_deadline",
        "message": "the deadline passed 60 min after the request was accepted, before the first attempt to start the"
        " job; see the history of the state machine execution",
    }


@pytest.mark.parametrize("timeout_s", [60, 3600])
def test_with_retry_after_beyond_the_deadline_one_last_attempt_is_made(table: Table, timeout_s: int) -> None:
    slow = UpstreamUnavailableError("unavailable", "HTTP 429: slow down", status=429, retry_after_s=7200.0)
    scenario, execution_input = (
        StartScenario(table, slow, UPSTREAM_ID),
        request_dict(timeout_seconds=timeout_s),
    )
    state = scenario.start(execution_input)
    scenario.clock.advance(state["wait_seconds"])
    assert state["wait_seconds"] == min(900, timeout_s - 1)
    assert (scenario.start(execution_input)["waterflai_execution_id"], scenario.posts) == (UPSTREAM_ID, 2)


def test_the_start_deadline_counts_from_the_first_attempt_and_not_from_acceptance(table: Table) -> None:
    scenario, execution_input = StartScenario(table, BUSY), request_dict(timeout_seconds=7200)
    slots = build_limiter(table, stack=1)
    slots.acquire("f" * 32, "other")
    scenario.start(execution_input, stack=1)
    scenario.clock.advance(3600)
    slots.release("f" * 32, ConcurrencyLimiter.slots_of("other"))
    state = scenario.start(execution_input, stack=1)
    assert (state["next"], scenario.posts) == ("start", 1)
    assert table.only().first_attempt_at == to_rfc3339(NOW + 3600)
    while state["next"] == "start":
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(execution_input, stack=1)
    assert (state["outcome"], scenario.clock.now - NOW) == ("REJECTED", 3600 + 900)
    assert table.only().first_attempt_at == to_rfc3339(NOW + 3600)


# A cancel after a lost answer


def test_at_least_once_a_cancel_after_a_lost_answer_is_uncertain(table: Table) -> None:
    scenario = StartScenario(table, LOST, at_least_once=True)
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


def test_a_lost_answer_counts_after_later_faults_and_a_change_of_the_start_semantics(table: Table) -> None:
    lost = StartScenario(table, LOST, DOWN, at_least_once=True)
    state = lost.start()
    lost.clock.advance(state["wait_seconds"])
    lost.start()
    later = StartScenario(table, DOWN)
    later.clock.advance(3600 - 1)
    assert later.start()["outcome"] == "UNCERTAIN"


# Faults of Waterhook before the start


NO_SECRET = KeyUnavailableError("arn:secret: expected the API key as plain text")


def keyless(scenario: StartScenario, key: Callable[[], object]) -> dict[str, Any]:
    return scenario.step(read_key=key).start(KEYED, owner=OWNER, started_at=STARTED_AT)


def no_key() -> None:
    raise NO_SECRET


def test_while_the_api_key_cannot_be_read_the_request_waits_and_is_not_posted(table: Table) -> None:
    scenario = StartScenario(table)
    state = keyless(scenario, no_key)
    assert (state["outcome"], state["next"], scenario.posts) == ("RUNNING", "start", 0)
    assert 5 <= state["wait_seconds"] <= 8
    stored = scenario.record
    assert (stored.status, stored.start_attempts, stored.first_attempt_at) == (Status.ACCEPTED, 0, None)
    assert stored.waiting is not None
    assert (stored.waiting["reason"], stored.waiting["detail"]) == ("retrying", str(NO_SECRET))
    scenario.clock.advance(3000)
    assert keyless(scenario, lambda: KEY)["next"] == "wait"
    assert scenario.posts == 1


def test_an_api_key_that_becomes_unreadable_at_the_post_undoes_the_start(table: Table) -> None:
    def gone() -> str:
        raise NO_SECRET

    scenario = StartScenario(table, gone, UPSTREAM_ID)
    assert scenario.start()["next"] == "start"
    assert scenario.record.status is Status.ACCEPTED
    assert scenario.start()["next"] == "wait"


@pytest.mark.parametrize(("timeout_s", "given_up_s"), [(3600, 3600), (30 * 24 * 3600, 6 * 3600)])
def test_a_request_whose_api_key_stays_unreadable_is_rejected_with_the_reason(
    table: Table, timeout_s: int, given_up_s: int
) -> None:
    scenario, attempts = StartScenario(table), 0
    state: dict[str, Any] = {"next": "start"}
    while state["next"] == "start":
        execution_input = request_dict(timeout_seconds=timeout_s)
        state = scenario.step(read_key=no_key).start(execution_input, owner=OWNER, started_at=STARTED_AT)
        scenario.clock.advance(state["wait_seconds"])
        attempts += 1
    assert (state["outcome"], state["next"], scenario.posts) == ("REJECTED", "notify", 0)
    assert str(NO_SECRET) in state["error"]["message"]
    assert scenario.clock.now - NOW == given_up_s
    assert attempts < 120


THROTTLED = client_error("ProvisionedThroughputExceededException")
WRITES_AND_READS = ("put_item", "get_item", "update_item", "transact_write_items")


@pytest.mark.parametrize("operations", [WRITES_AND_READS, ("update_item", "transact_write_items")])
def test_while_the_table_fails_the_request_waits_and_is_not_posted(
    table: Table, operations: tuple[str, ...]
) -> None:
    scenario = StartScenario(table)
    failing = FailingClient(table.client, dict.fromkeys(operations, THROTTLED))
    scenario.records = table.records_over(failing)
    waits = []
    for _ in range(12):
        state = scenario.start(KEYED)
        assert (state["outcome"], state["next"]) == ("RUNNING", "start")
        waits.append(state["wait_seconds"])
        scenario.clock.advance(state["wait_seconds"])
    # The wait grows with the age of the request.
    assert 5 <= waits[0] <= 8
    assert waits[-1] > waits[0]
    failing.faults.clear()
    assert (scenario.start(KEYED)["next"], scenario.posts) == ("wait", 1)


def test_a_table_that_fails_for_six_hours_is_a_fault_that_notify_can_report(table: Table) -> None:
    scenario, execution_input = StartScenario(table), request_dict(timeout_seconds=30 * 24 * 3600)
    scenario.records = table.records_over(
        FailingClient(table.client, dict.fromkeys(WRITES_AND_READS, THROTTLED))
    )
    state = scenario.start(execution_input)
    while state["next"] == "start":
        assert state.keys() == {"v", "outcome", "next", "wait_seconds"}
        scenario.clock.advance(state["wait_seconds"])
        state = scenario.start(execution_input)
    assert scenario.clock.now - NOW == 6 * 3600
    assert (state["outcome"], state["next"], state["input"]) == ("ERROR", "notify", execution_input)
    assert "ProvisionedThroughputExceededException" in state["fault"]
    assert state["fault"].endswith("for 6 h")
    reporter = FaultReporter(table.records, DEFAULTS, scenario.clock)
    job = reporter.loop_state(state, owner=OWNER, started_at=STARTED_AT)
    assert (job.outcome, (job.error or {})["code"]) == ("ERROR", "fault")


def test_a_request_whose_start_cannot_be_undone_is_rejected_with_the_answer_of_waterflai(
    table: Table,
) -> None:
    failing = FailingClient(table.client, {})

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


def test_an_undo_that_succeeds_at_the_second_attempt_leads_to_another_start(table: Table) -> None:
    failing = FailingClient(table.client, {})

    def answer() -> str:
        failing.faults["update_item"] = THROTTLED
        raise BUSY

    scenario = StartScenario(table, answer, client=failing)
    scenario.sleep = lambda _seconds: failing.faults.clear()
    assert scenario.step().start(KEYED, owner=OWNER, started_at=STARTED_AT)["next"] == "start"
    assert scenario.record.status is Status.ACCEPTED


def test_an_id_whose_save_lost_a_race_is_kept_in_the_state_if_the_table_then_fails(table: Table) -> None:
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


def test_a_secret_that_is_malformed_at_first_is_read_again_by_the_next_start(
    table: Table, secret: Secret, invoke: Invoke
) -> None:
    secret.rotate('{"apiKey": "of another spelling"}')
    execution_input = event(request_dict(idempotency_key="rotation"))
    with ScriptedServer([reply(202, {"execution_id": UPSTREAM_ID})]) as server:
        state = invoke(app, execution_input, WATERFLAI_BASE_URL=server.url)
        assert (state["next"], server.requests) == ("start", [])
        secret.rotate(KEY)
        assert app.handler(execution_input, CONTEXT)["next"] == "wait"
    assert table.only().status is Status.RUNNING


# Following


def test_with_following_enabled_a_new_job_is_followed(table: Table) -> None:
    assert StartScenario(table, follow_concurrency=50).start()["next"] == "follow"


def test_a_job_whose_id_was_not_saved_is_polled_first_because_a_poll_saves_it(table: Table) -> None:
    state = StartScenario(table, records=Unsaving(table.name, table.client), follow_concurrency=50).start()
    assert (state["next"], state["unsaved"]) == ("wait", True)
