"""Each scenario of `make demo` on the deployed stack."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.demo import run as demo
from local.demo.scenarios import SCENARIOS
from local.local_aws.files import locked
from local.local_aws.stack_client import StackClient
from local.local_aws.stack_outputs import StackOutputs
from local.terminal import WIDTH, Terminal
from tests.e2e.conftest import home_of

EXPECTED = {
    "success": ("waterhook.execution.completed", "SUCCEEDED"),
    "failure": ("waterhook.execution.failed", "FAILED Waterhook.Failed"),
    "timeout": ("waterhook.execution.timed_out", "FAILED Waterhook.TimedOut"),
    "cancel": ("waterhook.execution.cancelled", "FAILED Waterhook.Cancelled"),
    "flaky": ("waterhook.execution.completed", "SUCCEEDED"),
}


class StackOfTheTests:
    """The stack of the tests, as one that the demo has started. It keeps running."""

    started_here = True

    def __init__(self, stack: StackClient) -> None:
        self._outputs = stack.outputs

    def up(self) -> StackOutputs:
        return self._outputs

    def down(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def one_at_a_time(stack: StackClient) -> Iterator[None]:
    """Run one demo at a time: it makes the notifications of other executions invisible while it waits for its own."""
    with locked(home_of() / "demo.lock"):
        yield


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_of_the_demo_shows_its_outcome_and_ends_with_the_notification(
    stack: StackClient, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    deployment: Any = StackOfTheTests(stack)
    demo.run(deployment, Terminal(), SCENARIOS[name])
    shown = capsys.readouterr().out
    for text in EXPECTED[name]:
        assert text in shown
    if SCENARIOS[name].has_webhook and stack.outputs.has_webhooks:
        assert shown.count("signature verified with standardwebhooks") == 2  # in the timeline and at the end
    assert "\x1b" not in shown
    assert [line for line in shown.splitlines() if len(line) > WIDTH] == []
    # The notification and the next steps come last and fit on a screen.
    headings = ["The record", "Stop the local AWS", "The notification", "What to do next"]
    places = [shown.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    assert len(shown[places[2] :].splitlines()) < 50


def test_the_demo_finds_its_notification_among_others_and_leaves_these_in_the_queue(
    stack: StackClient, marker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = stack.outputs.results_queue_url
    for _ in range(25):
        stack.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"data": {"execution_id": marker}}))
    shown = demo.show_execution(stack.outputs, Terminal(), SCENARIOS["failure"])
    assert shown.event["type"] == "waterhook.execution.failed"
    assert "waterhook.execution.failed" in capsys.readouterr().out
    assert len(stack.peek(marker)) == 25
