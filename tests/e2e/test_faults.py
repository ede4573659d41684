"""Every fault of the upstream, on the deployed stack: the outcome, published once, and what it cost."""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.local_aws.stack_client import StackClient
from local.simulator.fault_rules import FAULT_TYPES, Operation
from tests.e2e.fault_table import ANOTHER_HOST, START, Row
from tests.e2e.fault_table_of_jobs import CANCEL, STATUS, STREAM
from tests.fakes.scripted_server import ScriptedServer, reply

pytestmark = pytest.mark.e2e

TABLE = {"start": START, "status": STATUS, "cancel": CANCEL, "stream": STREAM}
# The local AWS runs a few functions at once, and refuses more: a row that is followed holds one.
AT_ONCE = {"start": 2, "status": 4, "stream": 5}
# Without following a row that waits holds none, but of each chatbot only three jobs run at a time.
POLLED_AT_ONCE = {"status": 6, "cancel": 6}
CHATBOTS = {"status": ("support-chat", "instant"), "cancel": ("endless", "always-fails")}
JOB = {"seconds": 1, "queue_seconds": 0}
SIMULATORS_LOG = Path("log") / "waterflai.log"
# Longer than a test of the deployed stack should take, so they are proved where a clock can be set.
ELSEWHERE = {
    "starts refused until the start deadline": (
        "workflow/test_start.py",
        "test_a_start_that_never_succeeds_is_rejected_at_the_start_deadline",
    ),
    # Here all tests share the key: on a stack of its own.
    "a key that is rotated while a job runs": (
        "e2e/test_secrecy.py",
        "test_a_key_rotated_while_jobs_run_ends_none_of_them",
    ),
    "a start after the key was rotated": (
        "unit/upstream/test_client.py",
        "test_a_rotated_key_is_worth_one_more_attempt",
    ),
}


@pytest.fixture
def another_host() -> Iterator[ScriptedServer]:
    """Serve what the upstream names as another host, which must receive no request."""
    with ScriptedServer([reply()]) as server:
        httpx.get(f"{server.url}/is-it-served", trust_env=False)
        assert [request.target for request in server.requests] == ["/is-it-served"]
        server.requests.clear()
        yield server


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one execution, from every side."""

    run: Mapping[str, Any]
    ending: dict[str, Any]
    notifications: list[dict[str, Any]]
    item: dict[str, Any]
    starts: list[dict[str, Any]]
    statuses: int | None
    states: list[str]


def run(stack: StackClient, row: Row, door: str, another_host: str, chatbot: str = "support-chat") -> Seen:
    """What became of the row's execution. One whose deadline a busy machine let pass unstarted is run again."""
    seen = once(stack, row, door, another_host, chatbot)
    for _ in range(2):
        if seen.starts:
            break
        seen = once(stack, row, door, another_host, chatbot)
    return seen


def once(stack: StackClient, row: Row, door: str, another_host: str, chatbot: str) -> Seen:
    """Run one row's execution to its end, through the API or by the state machine itself."""
    marker = uuid.uuid4().hex
    faults = json.loads(json.dumps([row.fault, *row.more]).replace(ANOTHER_HOST, another_host))
    given = {"marker": marker, "simulate": {**JOB, **row.simulate, "faults": faults}}
    if door == "api":
        arn = stack.execution_arn(stack.submit(chatbot, given, **row.request))
        assert arn is not None
    else:
        arn = stack.start_execution({"chatbot_id": chatbot, "input_data": given, **row.request})
    ended = stack.wait_for_end(arn)
    ending = json.loads(ended["output"] if ended["status"] == "SUCCEEDED" else ended["cause"])
    execution_id = ending["execution_id"]
    stack.wait_for_notification(execution_id)
    item = stack.item(execution_id)
    assert item is not None
    upstream = stack.waterflai("executions")["executions"]
    asked = {job["execution_id"]: job["received"]["status"] for job in upstream}
    starts = stack.waterflai("requests")["starts"]
    return Seen(
        ended,
        ending,
        stack.peek(execution_id),
        item,
        [start for start in starts if (start["input_data"] or {}).get("marker") == marker],
        asked.get(item.get("waterflai_execution_id")),
        stack.states(arn),
    )


def check(row: Row, seen: Seen) -> None:
    """The outcome is told once and is the same everywhere, and it cost no more than it may."""
    [event] = seen.notifications
    assert re.fullmatch(rf"{seen.ending['execution_id']}/\d{{13}}/{row.outcome}", event["id"])
    assert event["data"]["status"] == seen.item["status"] == seen.ending["status"] == row.outcome
    assert (event["data"]["error"] or {}).get("code") == row.code
    assert event["data"].get("output_error") == row.output_error
    has_output = row.outcome == "COMPLETED" and row.output_error is None
    assert (event["data"]["final_output"] is not None) == has_output
    succeeded = row.outcome == "COMPLETED"
    assert seen.run["status"] == ("SUCCEEDED" if succeeded else "FAILED")
    error = None if succeeded else f"Waterhook.{row.outcome.title().replace('_', '')}"
    assert seen.run.get("error") == error
    assert "Report the fault" not in seen.states
    assert seen.item["notified_at"]
    assert len(seen.starts) in (row.posts if isinstance(row.posts, tuple) else (row.posts,))
    assert sum(start["execution_id"] is not None for start in seen.starts) == row.jobs
    # What is no fault of a row's is no fault: the simulator has no other reason for a 5xx.
    assert all(start["fault"] for start in seen.starts if (start["status_code"] or 0) >= 500)
    if row.statuses is not None and seen.statuses is not None:
        assert seen.statuses <= row.statuses


# More than one test should take, but its rows are waiting most of the time: all of them at once, here.
@pytest.mark.timeout(900)
def test_each_fault_of_the_upstream_ends_as_the_table_says(
    stack: StackClient, another_host: ScriptedServer, subtests: pytest.Subtests
) -> None:
    began = time.monotonic()
    with ExitStack() as pools:
        seen = []
        for operation, at_once in AT_ONCE.items():
            pool, rows = pools.enter_context(ThreadPoolExecutor(at_once)), TABLE[operation]
            for door, row in zip(cycle(("api", "states")), sorted(rows, key=by_time), strict=False):
                seen.append((operation, row, pool.submit(run, stack, row, door, another_host.url)))
        for operation, row, future in seen:
            with subtests.test(f"{operation}: {row.name}"):
                check(row, future.result())
    print(f"\n{len(seen)} faults in {time.monotonic() - began:.0f} s")
    assert another_host.requests == []
    log = Path(os.environ["WATERHOOK_TEST_STACK"]) / SIMULATORS_LOG
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.timeout(900)
def test_each_fault_ends_as_the_table_says_where_nothing_is_followed(
    polling_stack: StackClient, another_host: ScriptedServer, subtests: pytest.Subtests
) -> None:
    """The Wait state spaces the polls here. Jobs are cancelled from it, so the rows of cancel are run here only."""
    began = time.monotonic()
    with ExitStack() as pools:
        seen = []
        for operation, at_once in POLLED_AT_ONCE.items():
            pool = pools.enter_context(ThreadPoolExecutor(at_once))
            rows, ways = (
                sorted(TABLE[operation], key=by_time),
                product(CHATBOTS[operation], ("api", "states")),
            )
            for (chatbot, door), row in zip(cycle(ways), rows, strict=False):
                seen.append(
                    (
                        operation,
                        row,
                        pool.submit(run, polling_stack, row, door, another_host.url, chatbot),
                    )
                )
        for operation, row, future in seen:
            with subtests.test(f"{operation}: {row.name}"):
                found = future.result()
                check(row, found)
                assert "Follow" not in found.states
    print(f"\n{len(seen)} faults without following in {time.monotonic() - began:.0f} s")
    assert another_host.requests == []


def by_time(row: Row) -> float:
    """The slow ones first."""
    return -row.least_s


def test_the_table_has_every_fault_that_the_simulator_knows() -> None:
    for operation in Operation:
        rows = TABLE[operation]
        assert {row.fault["kind"] for row in rows} == set(FAULT_TYPES[operation])
        assert {row.fault["on"] for row in rows} == {operation}
        assert len({row.name for row in rows}) == len(rows)


def test_what_takes_too_long_here_is_proved_where_a_clock_can_be_set() -> None:
    tests = Path(__file__).parents[1]
    for what, (file, test) in ELSEWHERE.items():
        assert f"def {test}(" in (tests / file).read_text(encoding="utf-8"), what
