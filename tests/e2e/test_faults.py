"""Each fault of the upstream on the deployed stack: the outcome, published once, and the requests that it causes."""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from threading import Semaphore
from typing import Any

import httpx
import pytest

from local.local_aws.stack_client import StackClient, execution_id_of, notification
from local.simulator.fault_rules import FAULT_TYPES, Operation
from tests.e2e.executions import owner_arn, starts_of
from tests.e2e.fault_table import ANOTHER_HOST, START, Row
from tests.e2e.fault_table_of_jobs import CANCEL, STATUS, STREAM
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

TABLE = {"start": START, "status": STATUS, "cancel": CANCEL, "stream": STREAM}
# Rows that run at the same time. All of them together must leave follow concurrency for other tests: a row whose
# execution is polled instead causes more status requests than the table allows.
CONCURRENT_ROWS = {"start": 4, "status": 6, "stream": 5}
# An execution that is polled holds no function while it waits. The stack runs this many jobs of each chatbot.
POLLED_CHATBOTS = {"status": ("support-chat", "instant"), "cancel": ("endless", "always-fails")}
POLLED_ROWS_PER_CHATBOT = 4
# Each concurrent start needs a container of its own, and containers that start together delay each other.
CONCURRENT_STARTS = 4
JOB = {"seconds": 1, "queue_seconds": 0}
PAUSE_S = 1.0  # Each poll of a test costs MiniStack, one process, as much as a poll of the stack.
ROW_S = 300  # The slowest row takes a minute on an idle machine.


@pytest.fixture
def another_host() -> Iterator[ScriptedServer]:
    """Serve what the upstream names as another host. It must receive no request."""
    with ScriptedServer([reply()]) as server:
        httpx.get(f"{server.url}/is-it-served", trust_env=False)
        assert [request.target for request in server.requests] == ["/is-it-served"]
        server.requests.clear()
        yield server


@dataclass(frozen=True, slots=True)
class Ended:
    """A state machine execution that has ended, and the output or cause that it ended with."""

    marker: str
    description: Mapping[str, Any]
    result: Mapping[str, Any]
    states: list[str]


class RowRunner:
    """Runs rows on one stack. Thread-safe."""

    def __init__(self, stack: StackClient, another_host: str) -> None:
        self._stack = stack
        self._another_host = another_host
        self._starting = Semaphore(CONCURRENT_STARTS)

    def run(self, row: Row, trigger: str, chatbot: str = "support-chat") -> Ended:
        """Run a row's execution. It is repeated if a loaded machine let its deadline pass before the first POST."""
        ended = self._run_once(row, trigger, chatbot)
        for _ in range(2):
            if ended.result["status"] != "REJECTED" or starts_of(self._stack, ended.marker):
                break
            ended = self._run_once(row, trigger, chatbot)
        return ended

    def _run_once(self, row: Row, trigger: str, chatbot: str) -> Ended:
        stack, marker = self._stack, uuid.uuid4().hex
        faults = [row.fault, *row.other_faults]
        simulate = {**JOB, **row.simulate, "faults": faults}
        simulate = json.loads(json.dumps(simulate).replace(ANOTHER_HOST, self._another_host))
        input_data = {"marker": marker, "simulate": simulate}
        with self._starting:
            if trigger == "API":
                body = {"input_data": input_data, **row.request}
                arn = owner_arn(stack, until(lambda: self._accepted_id(chatbot, body, marker)))
            else:
                request = {"chatbot_id": chatbot, "input_data": input_data, **row.request}
                arn = stack.start_execution(request)
            if row.fault["on"] != "start":
                until(lambda: stack.states(arn)[1:], ROW_S, pause_s=PAUSE_S)
        description = until(lambda: self._description_of_ended(arn), ROW_S, pause_s=PAUSE_S)
        text = description["output"] if description["status"] == "SUCCEEDED" else description["cause"]
        return Ended(marker, description, json.loads(text), stack.states(arn))

    def _accepted_id(self, chatbot: str, body: Mapping[str, Any], key: str) -> str | None:
        """Submit through the API. On a loaded machine it may return 503. With the key, the request can be repeated."""
        answer = self._stack.post(chatbot, body, idempotency_key=key)
        assert answer.status_code in {202, 503}, answer.text
        return str(answer.json()["execution_id"]) if answer.status_code == httpx.codes.ACCEPTED else None

    def _description_of_ended(self, arn: str) -> Mapping[str, Any] | None:
        description = self._stack.stepfunctions.describe_execution(executionArn=arn)
        return None if description["status"] == "RUNNING" else description


class Observations:
    """Notifications, records and upstream requests of the stack, read once for all rows."""

    def __init__(self, stack: StackClient) -> None:
        self._stack = stack
        self._events = [notification(message["Body"]) for message in stack.messages()]
        self._starts = stack.waterflai("requests")["starts"]
        jobs = stack.waterflai("executions")["executions"]
        self._status_requests = {job["execution_id"]: job["received"]["status"] for job in jobs}

    def check(self, row: Row, ended: Ended) -> None:
        """Compare with the row: equal notifications, the same outcome everywhere, no more requests than allowed."""
        execution_id = ended.result["execution_id"]
        # Delivery is at least once: a function that is retried on a loaded machine publishes the same event again.
        event, *duplicates = [event for event in self._events if execution_id_of(event) == execution_id]
        assert all(duplicate == event for duplicate in duplicates)
        record = self._stack.item(execution_id)
        assert record is not None
        assert re.fullmatch(rf"{execution_id}/\d{{13}}/{row.outcome}", event["id"])
        assert event["data"]["status"] == record["status"] == ended.result["status"] == row.outcome
        assert (event["data"]["error"] or {}).get("code") == row.error_code
        assert event["data"].get("output_error") == row.output_error
        succeeded = row.outcome == "COMPLETED"
        has_output = succeeded and row.output_error is None
        assert (event["data"]["final_output"] is not None) == has_output
        error = None if succeeded else f"Waterhook.{row.outcome.title().replace('_', '')}"
        assert ended.description["status"] == ("SUCCEEDED" if succeeded else "FAILED")
        assert ended.description.get("error") == error
        assert "Report the fault" not in ended.states
        assert record["notified_at"]

        starts = [
            start for start in self._starts if (start["input_data"] or {}).get("marker") == ended.marker
        ]
        assert len(starts) in (row.posts if isinstance(row.posts, tuple) else (row.posts,))
        assert sum(start["execution_id"] is not None for start in starts) == row.jobs
        # The simulator sends a 5xx only as a fault of the row. Any other one is a bug of the simulator.
        assert all(start["fault"] for start in starts if (start["status_code"] or 0) >= 500)
        status_requests = self._status_requests.get(record.get("waterflai_execution_id"))
        if row.max_status_requests is not None and status_requests is not None:
            assert status_requests <= row.max_status_requests


type Running = list[tuple[str, Row, Future[Ended]]]


def check_all(stack: StackClient, running: Running, subtests: pytest.Subtests) -> None:
    """Wait for all rows, then check each in a subtest."""
    began = time.monotonic()
    for _, _, future in running:
        future.exception()
    print(f"\n{len(running)} faults in {time.monotonic() - began:.0f} s")
    observations = Observations(stack)
    for operation, row, future in running:
        with subtests.test(f"{operation}: {row.name}"):
            observations.check(row, future.result())


def slowest_first(operation: str) -> list[Row]:
    return sorted(TABLE[operation], key=lambda row: -row.shortest_s)


# Longer than a test should take, but most rows wait most of the time, so they run at the same time here.
@pytest.mark.timeout(900, func_only=True)
def test_each_fault_has_the_outcome_of_the_table_where_jobs_are_followed(
    stack: StackClient, another_host: ScriptedServer, subtests: pytest.Subtests
) -> None:
    running: Running = []
    runner = RowRunner(stack, another_host.url)
    with ExitStack() as pools:
        for operation, workers in CONCURRENT_ROWS.items():
            pool = pools.enter_context(ThreadPoolExecutor(workers))
            for row, trigger in zip(slowest_first(operation), cycle(("API", "state machine")), strict=False):
                running.append((operation, row, pool.submit(runner.run, row, trigger)))
        check_all(stack, running, subtests)
    assert another_host.requests == []
    simulator_log = Path(os.environ["WATERHOOK_TEST_STACK"]) / "log" / "waterflai.log"
    assert "Traceback" not in simulator_log.read_text(encoding="utf-8")


@pytest.mark.timeout(900, func_only=True)
def test_each_fault_has_the_outcome_of_the_table_where_jobs_are_polled(
    polling_stack: StackClient, another_host: ScriptedServer, subtests: pytest.Subtests
) -> None:
    """The Wait state separates the polls. Rows of cancels run here only, as overdue jobs are cancelled from there."""
    running: Running = []
    runner = RowRunner(polling_stack, another_host.url)
    with ExitStack() as pools:
        for operation, chatbots in POLLED_CHATBOTS.items():
            workers = {
                chatbot: pools.enter_context(ThreadPoolExecutor(POLLED_ROWS_PER_CHATBOT))
                for chatbot in chatbots
            }
            targets = cycle(product(chatbots, ("API", "state machine")))
            for row, (chatbot, trigger) in zip(slowest_first(operation), targets, strict=False):
                future = workers[chatbot].submit(runner.run, row, trigger, chatbot)
                running.append((operation, row, future))
        check_all(polling_stack, running, subtests)
        for _, _, future in running:
            assert "Follow" not in future.result().states
    assert another_host.requests == []


def test_the_table_has_every_fault_of_the_simulator() -> None:
    for operation in Operation:
        rows = TABLE[operation]
        assert {row.fault["kind"] for row in rows} == set(FAULT_TYPES[operation])
        assert {row.fault["on"] for row in rows} == {operation}
        assert len({row.name for row in rows}) == len(rows)
