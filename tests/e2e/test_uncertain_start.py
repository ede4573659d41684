"""A start function that ends after its POST: no second POST, and a cancel meanwhile still cancels the job."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient
from local.local_aws.temporary_folder import create_temporary_folder
from tests.e2e.account import physical_id
from tests.e2e.conftest import home_of
from tests.e2e.executions import job_status, owner_arn, starts_of
from tests.support.waiting import until

pytestmark = pytest.mark.e2e


def late_response(seconds: float) -> dict[str, Any]:
    """A job that begins immediately. The response to its start arrives so many seconds later."""
    stall = {"on": "start", "kind": "stall", "seconds": seconds, "processed": True}
    return {"seconds": 30, "queue_seconds": 0, "faults": [stall]}


def kill_containers(function_name: str, temporary: Path) -> int:
    """Kill the processes that run the function below this temporary folder. Return their number."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:  # the process ended meanwhile
            continue
        if function_name in command and str(temporary) in command:
            os.kill(int(process.name), signal.SIGKILL)
            killed += 1
    return killed


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the processes in /proc")
def test_a_start_killed_between_its_post_and_its_save_is_uncertain_and_not_repeated(
    strict: StackClient, marker: str
) -> None:
    execution_id = strict.submit("support-chat", {"marker": marker, "simulate": late_response(20)})
    until(lambda: starts_of(strict, marker))
    temporary = create_temporary_folder(home_of("-strict"))
    assert kill_containers(physical_id(strict, "StartFunction"), temporary) >= 1
    event = strict.wait_for_notification(execution_id)
    assert event["data"]["status"] == "UNCERTAIN"
    assert event["data"]["error"]["code"] == "start_uncertain"
    arn = owner_arn(strict, execution_id)
    assert strict.wait_for_end(arn)["error"] == "Waterhook.Uncertain"
    # Step Functions called the function a second time, and that call found the start in progress.
    failed = [
        entry for entry in strict.history(arn) if entry["type"] in {"TaskFailed", "LambdaFunctionFailed"}
    ]
    assert failed
    assert starts_of(strict, marker) == 1


def test_a_cancel_while_the_start_is_in_progress_cancels_the_job_once_it_has_an_id(
    stack: StackClient, marker: str
) -> None:
    execution_id = stack.submit("support-chat", {"marker": marker, "simulate": late_response(8)})
    until(lambda: starts_of(stack, marker))
    answer = stack.delete(execution_id)
    assert (answer.status_code, answer.json()["previous_status"]) == (202, "STARTING")
    assert stack.wait_for_notification(execution_id)["data"]["status"] == "CANCELLED"
    assert job_status(stack, execution_id) == "CANCELLED"
    time.sleep(1)
    assert len(stack.peek(execution_id)) == 1
    assert starts_of(stack, marker) == 1
