"""Every way in and every way out: cancel, stop, events, schedules, nested workflows, lists, progress."""

import json
import statistics
import time
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest

from local.local_aws import aws_resources
from local.local_aws.aws_resources import FOLLOW_CONCURRENCY
from local.local_aws.stack_client import StackClient
from tests.e2e.test_outcomes import starts_of
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

# Whatever the machine has else to do: it runs until it is cancelled, or let finish.
SLOW = {"seconds": 120, "nodes": 12}


def running(stack: StackClient, execution_id: str) -> bool:
    return bool(stack.get(execution_id).json().get("status") == "RUNNING")


def started(stack: StackClient, execution_id: str) -> bool:
    return stack.get(execution_id).json().get("status") not in {None, "ACCEPTED", "STARTING"}


def upstream(stack: StackClient, execution_id: str) -> Any:
    """The status document of its job, with the requests `received` for it, as the simulator shows it to tests."""
    upstream_id = until(lambda: (stack.item(execution_id) or {}).get("waterflai_execution_id"))
    executions = stack.waterflai("executions")["executions"]
    [found] = [job for job in executions if job["execution_id"] == upstream_id]
    return found


def finish(stack: StackClient, execution_id: str) -> None:
    """Let its job end now, as it would have."""
    job = upstream(stack, execution_id)["execution_id"]
    assert stack.waterflai("finish", {"execution_id": job}) == {"finished": True}


def upstream_status(stack: StackClient, execution_id: str) -> str:
    return str(upstream(stack, execution_id)["status"])


def told_once(stack: StackClient, execution_id: str) -> bool:
    """Whether subscribers heard of one event, however often: a DELETE and the loop may publish it at one moment."""
    return len({json.dumps(event, sort_keys=True) for event in stack.peek(execution_id)}) == 1


def put_event(stack: StackClient, detail_type: str, detail: Any) -> str:
    """The id that the bus has given the event."""
    events = aws_resources.session().client("events", endpoint_url=stack.outputs.endpoint_url)
    entry: Any = {
        "Source": "shop",
        "DetailType": detail_type,
        "Detail": json.dumps(detail, ensure_ascii=False),
    }
    answer = events.put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0
    return answer["Entries"][0]["EventId"]


def start(stack: StackClient, machine: str, given: Any) -> str:
    return stack.stepfunctions.start_execution(stateMachineArn=machine, input=json.dumps(given))[
        "executionArn"
    ]


@pytest.mark.parametrize("chatbot_id", ["instant", "\N{DUCK}", "%F0%9F%A6%86"])
def test_the_url_in_an_answer_is_the_one_to_read_the_execution_at(
    stack: StackClient, chatbot_id: str
) -> None:
    answer = stack.post(chatbot_id, {"input_data": {}})
    url = answer.json()["status_url"]
    assert answer.status_code == 202
    assert answer.headers["Location"] == url
    assert url == f"{stack.outputs.api_url}/v1/executions/{answer.json()['execution_id']}"
    document = stack.http.get(url, headers={"x-api-key": stack.outputs.api_key}).json()
    assert document["chatbot_id"] == unquote(chatbot_id)


def test_a_compact_body_of_many_numbers_runs_as_it_was_sent(stack: StackClient) -> None:
    body = '{"input_data":{"n":[' + ",".join(["12345"] * 40_900) + "]}}"
    answer = stack.post("instant", body)
    assert answer.status_code == 202
    assert stack.wait_for_notification(answer.json()["execution_id"])["data"]["status"] == "COMPLETED"


def test_a_running_job_is_cancelled_at_once_and_its_machine_fails_so_later(stack: StackClient) -> None:
    execution_id = stack.submit("support-chat", {"simulate": SLOW})
    until(lambda: running(stack, execution_id))
    answer = stack.delete(execution_id)
    assert answer.status_code == 200
    assert answer.json() == {
        "execution_id": execution_id,
        "cancelled": True,
        "message": "cancelled",
        "previous_status": "RUNNING",
    }
    # The outcome was published before the answer came, whatever the machine is waiting for.
    assert stack.wait_for_notification(execution_id, 10)["data"]["status"] == "CANCELLED"
    assert upstream_status(stack, execution_id) == "CANCELLED"
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    assert stack.wait_for_end(arn)["error"] == "Waterhook.Cancelled"
    assert told_once(stack, execution_id)


def test_a_cancel_that_is_too_late_tells_the_real_outcome(stack: StackClient) -> None:
    execution_id = stack.submit("instant")
    stack.wait_for_notification(execution_id)
    answer = stack.delete(execution_id).json()
    assert answer["cancelled"] is False
    assert answer["previous_status"] == "COMPLETED"
    assert told_once(stack, execution_id)


def test_a_cancel_racing_with_completion_ends_in_one_outcome(stack: StackClient) -> None:
    ids = [stack.submit("support-chat", {"simulate": {"seconds": 1.0, "queue_seconds": 0}}) for _ in range(6)]
    for position, execution_id in enumerate(ids):
        until(partial(started, stack, execution_id))
        time.sleep(0.1 * position)
        stack.delete(execution_id)
    for execution_id in ids:
        status = stack.wait_for_notification(execution_id)["data"]["status"]
        assert status in {"COMPLETED", "CANCELLED"}
        assert upstream_status(stack, execution_id) == status
        assert stack.get(execution_id).json()["status"] == status
        assert told_once(stack, execution_id)


def test_an_upstream_that_fails_to_cancel_changes_nothing(stack: StackClient) -> None:
    faults = [{"on": "cancel", "kind": "status_code", "code": 500, "times": 1}]
    execution_id = stack.submit("support-chat", {"simulate": {**SLOW, "faults": faults}})
    until(lambda: running(stack, execution_id))
    answer = stack.delete(execution_id)
    assert answer.status_code == 502
    assert running(stack, execution_id)
    assert stack.peek(execution_id) == []
    assert stack.delete(execution_id).json()["cancelled"] is True


def test_stopping_the_machine_cancels_the_job_and_closes_the_record(stack: StackClient) -> None:
    execution_id = stack.submit("support-chat", {"simulate": SLOW})
    until(lambda: running(stack, execution_id))
    arn = stack.execution_arn(execution_id)
    assert arn is not None
    stack.stepfunctions.stop_execution(executionArn=arn)
    event = stack.wait_for_notification(execution_id)
    assert event["data"]["status"] == "CANCELLED"
    assert event["data"]["error"]["code"] == "aborted"
    assert upstream_status(stack, execution_id) == "CANCELLED"
    assert stack.get(execution_id).json()["status"] == "CANCELLED"


def test_progress_is_relayed_to_those_who_ask_in_order_and_never_after_the_end(stack: StackClient) -> None:
    simulate = {"seconds": 10, "nodes": 5}
    asked = stack.submit("report-flow", {"simulate": simulate}, progress_events=True)
    silent = stack.submit("report-flow", {"simulate": simulate})
    until(lambda: (stack.item(asked) or {}).get("progress_sequence"))
    assert stack.get(asked).json()["progress"] is not None
    events = until(
        lambda: (found := stack.peek(asked)) and found[-1]["data"]["status"] == "COMPLETED" and found
    )
    progress = events[:-1]
    assert len(progress) >= 3
    assert {event["type"] for event in progress} == {"waterhook.execution.progress"}
    assert [event["data"]["sequence"] for event in progress] == list(range(1, len(progress) + 1))
    assert len({event["id"] for event in events}) == len(events)
    moments = [datetime.fromisoformat(event["time"]).timestamp() for event in progress]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(moments))
    stack.wait_for_notification(silent)
    assert len(stack.peek(silent)) == 1


def test_the_progress_of_a_running_job_is_live(stack: StackClient) -> None:
    execution_id = stack.submit("report-flow", {"simulate": SLOW})
    until(lambda: running(stack, execution_id))
    first = until(lambda: stack.get(execution_id).json().get("progress"))
    # Each container of the function keeps its own answer for two seconds: one of them may still say QUEUED.
    document = until(lambda: said if (said := stack.get(execution_id).json()).get("current_node") else None)
    assert document["total_nodes"] == SLOW["nodes"]
    time.sleep(2.5)
    assert stack.get(execution_id).json()["progress"] > first
    stack.delete(execution_id)


def test_a_caller_lists_its_own_executions_newest_first_page_by_page(stack: StackClient) -> None:
    ids = [stack.submit("instant") for _ in range(3)]
    for execution_id in ids:
        stack.wait_for_notification(execution_id)
    seen: list[str] = []
    cursor = None
    while not set(ids) <= set(seen):
        page = stack.list_executions(limit=2, status="COMPLETED", next=cursor).json()
        seen += [entry["execution_id"] for entry in page["executions"]]
        assert all(entry["status"] == "COMPLETED" for entry in page["executions"])
        cursor = page["next"]
        assert cursor or set(ids) <= set(seen)
    positions = [seen.index(execution_id) for execution_id in ids]
    assert positions == sorted(positions, reverse=True)
    assert stack.list_executions(limit="0").status_code == 400
    assert stack.list_executions(status="NONSENSE").status_code == 400
    assert stack.list_executions(next="nonsense").status_code == 400


def test_an_event_on_the_bus_starts_an_execution_and_its_duplicate_none(
    stack: StackClient, marker: str
) -> None:
    detail = {"chatbot_id": "instant", "input_data": {"marker": marker, "quote": 'a "b" \\ c'}}
    put_event(stack, "Waterflai Execution Requested", detail)
    put_event(stack, "Something Else", detail)
    until(lambda: starts_of(stack, marker))
    time.sleep(1)
    assert starts_of(stack, marker) == 1


def test_a_schedule_starts_an_execution(polling_stack: StackClient) -> None:
    until(lambda: starts_of(polling_stack, "scheduled"))
    time.sleep(1)
    assert starts_of(polling_stack, "scheduled") == 1


def test_beyond_the_cap_a_request_waits_visibly_and_runs_when_a_slot_is_free(
    polling_stack: StackClient, marker: str
) -> None:
    # Whoever has two minutes looks for room every two or three seconds.
    ids = [
        polling_stack.submit("report-flow", {"marker": marker, "simulate": SLOW}, timeout_seconds=120)
        for _ in range(5)
    ]

    def with_status(*statuses: str) -> list[str]:
        shown = [(execution_id, polling_stack.get(execution_id).json().get("status")) for execution_id in ids]
        return [execution_id for execution_id, status in shown if status in statuses]

    until(lambda: len(with_status("RUNNING")) == 3)
    time.sleep(4)
    first = with_status("STARTING", "RUNNING")
    assert len(first) == 3
    assert len(with_status("ACCEPTED")) == 2
    assert starts_of(polling_stack, marker) == 3

    for execution_id in first:
        finish(polling_stack, execution_id)
    for execution_id in set(ids) - set(first):
        polling_stack.wait_for_status(execution_id, "RUNNING")
        finish(polling_stack, execution_id)
    for execution_id in ids:
        polling_stack.wait_for_status(execution_id, "COMPLETED")
    assert starts_of(polling_stack, marker) == 5


def test_whoever_finds_no_listener_free_polls(stack: StackClient) -> None:
    ids = [stack.submit("support-chat", {"simulate": SLOW}) for _ in range(FOLLOW_CONCURRENCY + 2)]
    arns = [arn for execution_id in ids if (arn := stack.execution_arn(execution_id))]
    until(lambda: any("Poll" in stack.states(arn) for arn in arns))
    for execution_id in ids:
        stack.delete(execution_id)
    paths = [stack.states(arn) for arn in arns if stack.wait_for_end(arn)["status"] == "FAILED"]
    polled = [path for path in paths if "Poll" in path]
    # All were cancelled, some before they came so far; whoever polls has tried to follow first.
    assert {path[-1] for path in paths} == {"Fail with the outcome"}
    assert all("Follow" in path[: path.index("Poll")] for path in polled)
    assert any("Follow" in path and "Poll" not in path for path in paths)


def test_the_lag_from_completion_to_message_is_short(stack: StackClient) -> None:
    lags = []
    for _ in range(8):
        execution_id = stack.submit("support-chat", {"simulate": {"seconds": 2, "queue_seconds": 0}})
        event = stack.wait_for_notification(execution_id)
        completed = datetime.fromisoformat(event["data"]["timing"]["completed_at"])
        lags.append((datetime.now(UTC) - completed).total_seconds())
    print(
        f"\nlag, completed upstream to received: median {statistics.median(lags):.2f} s, worst {max(lags):.2f} s"
    )
    # What varies is printed, not asserted; but a listener that isn't one would take a poll's wait.
    assert min(lags) < 5
