"""Triggers and callers' operations on the deployed stack: API, events, schedule, cancel, list, progress."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from urllib.parse import unquote

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.conftest import MAX_RUNNING_PER_CHATBOT
from tests.e2e.executions import (
    LONG_JOB,
    finish_job,
    is_running,
    is_started,
    job_status,
    owner_arn,
    published_one_event,
    put_event,
    starts_of,
)
from tests.support.waiting import until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("chatbot_id", ["instant", "\N{DUCK}", "%F0%9F%A6%86"])
def test_the_status_url_of_a_202_returns_the_execution(stack: StackClient, chatbot_id: str) -> None:
    answer = stack.post(chatbot_id, {"input_data": {}})
    url = answer.json()["status_url"]
    assert answer.status_code == 202
    assert answer.headers["Location"] == url
    assert url == f"{stack.outputs.api_url}/v1/executions/{answer.json()['execution_id']}"
    document = stack.http.get(url, headers={"x-api-key": stack.outputs.api_key}).json()
    assert document["chatbot_id"] == unquote(chatbot_id)


def test_a_compact_body_of_many_numbers_is_accepted(stack: StackClient) -> None:
    body = '{"input_data":{"n":[' + ",".join(["12345"] * 40_900) + "]}}"
    answer = stack.post("instant", body)
    assert answer.status_code == 202
    assert stack.wait_for_notification(answer.json()["execution_id"])["data"]["status"] == "COMPLETED"


def test_a_running_job_is_cancelled_immediately_and_its_state_machine_fails_later(stack: StackClient) -> None:
    execution_id = stack.submit("support-chat", {"simulate": LONG_JOB})
    until(lambda: is_running(stack, execution_id))
    answer = stack.delete(execution_id)
    assert answer.status_code == 200
    assert answer.json() == {
        "execution_id": execution_id,
        "cancelled": True,
        "message": "cancelled",
        "previous_status": "RUNNING",
    }
    # DELETE publishes the outcome before it returns, whatever state the machine is in.
    assert stack.wait_for_notification(execution_id, 10)["data"]["status"] == "CANCELLED"
    assert job_status(stack, execution_id) == "CANCELLED"
    assert stack.wait_for_end(owner_arn(stack, execution_id))["error"] == "Waterhook.Cancelled"
    assert published_one_event(stack, execution_id)


def test_a_cancel_after_the_end_returns_the_real_outcome(stack: StackClient) -> None:
    execution_id = stack.submit("instant")
    stack.wait_for_notification(execution_id)
    answer = stack.delete(execution_id).json()
    assert answer["cancelled"] is False
    assert answer["previous_status"] == "COMPLETED"
    assert published_one_event(stack, execution_id)


def test_a_cancel_that_races_with_completion_ends_in_one_outcome(stack: StackClient) -> None:
    def race(position: int) -> str:
        execution_id = stack.submit("support-chat", {"simulate": {"seconds": 1.0, "queue_seconds": 0}})
        until(partial(is_started, stack, execution_id))
        time.sleep(0.2 * position)
        stack.delete(execution_id)
        return execution_id

    with ThreadPoolExecutor(3) as pool:
        ids = list(pool.map(race, range(6)))
    for execution_id in ids:
        status = stack.wait_for_notification(execution_id)["data"]["status"]
        assert status in {"COMPLETED", "CANCELLED"}
        assert job_status(stack, execution_id) == status
        assert stack.get(execution_id).json()["status"] == status
        assert published_one_event(stack, execution_id)


def test_a_cancel_that_fails_upstream_is_a_502_and_changes_nothing(stack: StackClient) -> None:
    faults = [{"on": "cancel", "kind": "status_code", "code": 500, "times": 1}]
    execution_id = stack.submit("support-chat", {"simulate": {**LONG_JOB, "faults": faults}})
    until(lambda: is_running(stack, execution_id))
    answer = stack.delete(execution_id)
    assert answer.status_code == 502
    assert is_running(stack, execution_id)
    assert stack.peek(execution_id) == []
    assert stack.delete(execution_id).json()["cancelled"] is True


def test_stopping_the_state_machine_execution_cancels_the_job_and_closes_the_record(
    stack: StackClient,
) -> None:
    execution_id = stack.submit("support-chat", {"simulate": LONG_JOB})
    until(lambda: is_running(stack, execution_id))
    stack.stepfunctions.stop_execution(executionArn=owner_arn(stack, execution_id))
    event = stack.wait_for_notification(execution_id)
    assert event["data"]["status"] == "CANCELLED"
    assert event["data"]["error"]["code"] == "aborted"
    assert job_status(stack, execution_id) == "CANCELLED"
    assert stack.get(execution_id).json()["status"] == "CANCELLED"


def test_progress_events_are_published_on_request_in_order_and_never_after_the_end(
    stack: StackClient,
) -> None:
    simulate = {"seconds": 8, "nodes": 5}
    with_progress = stack.submit("report-flow", {"simulate": simulate}, progress_events=True)
    without_progress = stack.submit("report-flow", {"simulate": simulate})
    until(lambda: (stack.item(with_progress) or {}).get("progress_sequence"))
    assert stack.get(with_progress).json()["progress"] is not None
    until(lambda: [event for event in stack.peek(with_progress) if event["data"]["status"] == "COMPLETED"])
    *progress, last = stack.peek(with_progress)
    assert last["data"]["status"] == "COMPLETED"
    assert len(progress) >= 3
    assert {event["type"] for event in progress} == {"waterhook.execution.progress"}
    assert [event["data"]["sequence"] for event in progress] == list(range(1, len(progress) + 1))
    assert len({event["id"] for event in [*progress, last]}) == len(progress) + 1
    times = [datetime.fromisoformat(event["time"]).timestamp() for event in progress]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(times))
    stack.wait_for_notification(without_progress)
    assert len(stack.peek(without_progress)) == 1


def test_the_status_document_shows_the_live_progress_of_a_running_job(stack: StackClient) -> None:
    execution_id = stack.submit("report-flow", {"simulate": LONG_JOB})
    until(lambda: is_running(stack, execution_id))
    first = until(lambda: stack.get(execution_id).json().get("progress"))
    # Each container of the API function caches a document for two seconds, so one may still show QUEUED.
    document = until(lambda: (read := stack.get(execution_id).json()).get("current_node") and read)
    assert document["total_nodes"] == LONG_JOB["nodes"]
    until(lambda: (stack.get(execution_id).json()["progress"] or 0) > first, pause_s=0.5)
    stack.delete(execution_id)


def test_a_caller_lists_its_own_executions_newest_first_page_by_page(stack: StackClient) -> None:
    ids = [stack.submit("instant") for _ in range(3)]
    for execution_id in ids:
        stack.wait_for_status(execution_id, "COMPLETED")
    listed: list[str] = []
    cursor = None
    while not set(ids) <= set(listed):
        page = stack.list_executions(limit=2, status="COMPLETED", next=cursor).json()
        listed += [entry["execution_id"] for entry in page["executions"]]
        assert all(entry["status"] == "COMPLETED" for entry in page["executions"])
        cursor = page["next"]
        assert cursor or set(ids) <= set(listed)
    positions = [listed.index(execution_id) for execution_id in ids]
    assert positions == sorted(positions, reverse=True)
    assert stack.list_executions(limit="0").status_code == 400
    assert stack.list_executions(status="NONSENSE").status_code == 400
    assert stack.list_executions(next="nonsense").status_code == 400


def test_an_event_on_the_bus_starts_one_execution_and_other_detail_types_none(
    stack: StackClient, marker: str
) -> None:
    detail = {"chatbot_id": "instant", "input_data": {"marker": marker, "quote": 'a "b" \\ c'}}
    put_event(stack, "Something Else", detail)
    put_event(stack, "Waterflai Execution Requested", detail)
    until(lambda: starts_of(stack, marker))
    time.sleep(1)
    assert starts_of(stack, marker) == 1


def test_a_schedule_starts_an_execution(polling_stack: StackClient) -> None:
    until(lambda: starts_of(polling_stack, "scheduled"))
    time.sleep(1)
    assert starts_of(polling_stack, "scheduled") == 1


def test_a_request_beyond_the_cap_waits_as_accepted_and_runs_when_a_slot_is_free(
    polling_stack: StackClient, marker: str
) -> None:
    # With a timeout of two minutes, a waiting request looks for a free slot every two or three seconds.
    simulate = {**LONG_JOB, "queue_seconds": 0}
    with ThreadPoolExecutor(4) as pool:
        submit = partial(
            polling_stack.submit,
            "report-flow",
            {"marker": marker, "simulate": simulate},
            timeout_seconds=120,
        )
        ids = list(pool.map(lambda _: submit(), range(MAX_RUNNING_PER_CHATBOT + 2)))

    def with_status(*statuses: str) -> list[str]:
        records = [(execution_id, polling_stack.item(execution_id) or {}) for execution_id in ids]
        return [execution_id for execution_id, record in records if record.get("status") in statuses]

    until(lambda: len(with_status("RUNNING")) == MAX_RUNNING_PER_CHATBOT)
    time.sleep(4)
    first = with_status("STARTING", "RUNNING")
    assert len(first) == MAX_RUNNING_PER_CHATBOT
    waiting = with_status("ACCEPTED")
    assert len(waiting) == 2
    assert {polling_stack.get(execution_id).json()["status"] for execution_id in waiting} == {"ACCEPTED"}
    assert starts_of(polling_stack, marker) == MAX_RUNNING_PER_CHATBOT

    for execution_id in first:
        finish_job(polling_stack, execution_id)
    for execution_id in waiting:
        polling_stack.wait_for_status(execution_id, "RUNNING")
        finish_job(polling_stack, execution_id)
    for execution_id in ids:
        polling_stack.wait_for_status(execution_id, "COMPLETED")
    assert starts_of(polling_stack, marker) == len(ids)


def test_a_followed_execution_is_notified_within_seconds_of_completion(stack: StackClient) -> None:
    def lag_s(_: int) -> float:
        execution_id = stack.submit("support-chat", {"simulate": {"seconds": 2, "queue_seconds": 0}})
        event = stack.wait_for_notification(execution_id)
        completed = datetime.fromisoformat(event["data"]["timing"]["completed_at"])
        return (datetime.now(UTC) - completed).total_seconds()

    with ThreadPoolExecutor(2) as pool:
        lags_s = sorted(pool.map(lag_s, range(4)))
    print(f"\nfrom completion to notification: {lags_s[0]:.2f} to {lags_s[-1]:.2f} s")
    # A loaded machine delays some. A poll from the Wait state would take longer than this each time.
    assert lags_s[0] < 5
