"""A start that is cut off after its POST: nobody posts again, and whoever cancels meanwhile is heard."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import physical
from tests.e2e.conftest import home_of
from tests.e2e.test_outcomes import starts_of
from tests.e2e.test_triggers import upstream_status
from tests.support.waiting import until

pytestmark = pytest.mark.e2e


def held_up(seconds: float) -> dict[str, Any]:
    """A job that begins at once, and whose start is answered so much later."""
    stall = {"on": "start", "kind": "stall", "seconds": seconds, "processed": True}
    return {"seconds": 30, "queue_seconds": 0, "faults": [stall]}


def kill(function: str, home: Path) -> int:
    """Kill the processes of this stack in which the local Lambda runs that function; how many there were."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:  # it ended while we were looking
            continue
        if function in command and str(home) in command:
            os.kill(int(process.name), signal.SIGKILL)
            killed += 1
    return killed


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the processes in /proc")
def test_a_start_killed_between_its_post_and_its_save_is_uncertain_and_not_repeated(
    strict: StackClient, marker: str
) -> None:
    execution_id = strict.submit("support-chat", {"marker": marker, "simulate": held_up(20)})
    until(lambda: starts_of(strict, marker))
    assert kill(physical(strict, "StartFunction"), home_of("-strict")) >= 1
    event = strict.wait_for_notification(execution_id)
    assert event["data"]["status"] == "UNCERTAIN"
    assert event["data"]["error"]["code"] == "start_uncertain"
    arn = strict.execution_arn(execution_id)
    assert arn is not None
    assert strict.wait_for_end(arn)["error"] == "Waterhook.Uncertain"
    # Step Functions has called the function again, and that has found the start under way.
    failed = [
        entry for entry in strict.history(arn) if entry["type"] in {"TaskFailed", "LambdaFunctionFailed"}
    ]
    assert failed
    assert starts_of(strict, marker) == 1


def test_a_cancel_while_the_start_is_under_way_ends_the_job_as_soon_as_it_has_an_id(
    stack: StackClient, marker: str
) -> None:
    execution_id = stack.submit("support-chat", {"marker": marker, "simulate": held_up(8)})
    until(lambda: starts_of(stack, marker))
    answer = stack.delete(execution_id)
    assert (answer.status_code, answer.json()["previous_status"]) == (202, "STARTING")
    assert stack.wait_for_notification(execution_id)["data"]["status"] == "CANCELLED"
    assert upstream_status(stack, execution_id) == "CANCELLED"
    time.sleep(1)
    assert len(stack.peek(execution_id)) == 1
    assert starts_of(stack, marker) == 1
