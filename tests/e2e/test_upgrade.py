"""A stack that is updated while executions run: what one version began, the next one ends."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.runner import processes, sam
from local.runner.client import StackClient
from local.runner.files import locked
from tests.e2e.account import aws
from tests.e2e.conftest import home_of
from tests.e2e.test_doors import upstream
from tests.e2e.test_outcomes import starts_of
from tests.e2e.traces import function_logs
from tests.support.waiting import until
from waterhook.domain.loop_state import STATE_VERSION

pytestmark = pytest.mark.e2e

DEPLOY_S = 240
NEWS = "This is the next version."
LONG = {"seconds": 1000, "nodes": 4, "queue_seconds": 0}
# A status that fails while the job runs: after the third failure the job is polled from the Wait state.
DOWN = [
    {"on": "stream", "kind": "status_code", "code": 404},
    {"on": "status", "kind": "status_code", "code": 503, "when": "running"},
]


def changed(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def next_version(copy: Path) -> None:
    """What was built, with another version of the loop's state, and a notify that says which version it is."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sam.BUILD, copy)
    layer = copy / "WaterhookLayer" / "python" / "waterhook"
    changed(
        layer / "domain" / "loop_state.py",
        f"STATE_VERSION = {STATE_VERSION}\n",
        f"STATE_VERSION = {STATE_VERSION + 1}\n",
    )
    for compiled in layer.rglob("__pycache__"):
        shutil.rmtree(compiled)  # it is preferred to the text, unread
    changed(copy / "NotifyFunction" / "app.py", 'Telemetry("notify"', f'Telemetry("{NEWS}"')


@contextmanager
def in_a_hurry(stack: StackClient) -> Iterator[None]:
    """Meanwhile a job of a quarter of an hour takes seconds."""
    stack.waterflai("speed", {"factor": 500})
    try:
        yield
    finally:
        stack.waterflai("speed", {"factor": 1})


def update(stack: StackClient) -> None:
    """Deploy the next version over the stack, with the parameters that it has."""
    described = aws(stack, "cloudformation").describe_stacks(StackName=sam.STACK_NAME)["Stacks"][0]
    parameters = {entry["ParameterKey"]: entry["ParameterValue"] for entry in described["Parameters"]}
    log = home_of("-strict") / "log" / "sam-update.log"
    # Beside the other one, which it refers to by relative paths.
    build = sam.BUILD.with_name("build-of-the-next-version")
    with locked(sam.WORKSHOP / "lock"):
        try:
            next_version(build)
            deploy = sam.start_deploy(stack.outputs.endpoint_url, parameters, log, build=build)
            try:
                assert deploy.wait(DEPLOY_S) == 0, deploy.trail()
            finally:
                processes.end([deploy.identity])
        finally:
            shutil.rmtree(build, ignore_errors=True)
    # The definition too, by hand: the local AWS updates no nested stack.
    engine, machine = stack.stepfunctions, stack.outputs.state_machine_arn
    definition = json.loads(engine.describe_state_machine(stateMachineArn=machine)["definition"])
    engine.update_state_machine(
        stateMachineArn=machine, definition=json.dumps(definition | {"Comment": NEWS})
    )


def versions(stack: StackClient, arn: str) -> set[int]:
    """The version of each state that the loop has handed on."""
    entered = [details for event in stack.history(arn) if (details := event.get("stateEnteredEventDetails"))]
    return {json.loads(state["input"])["v"] for state in entered if state["name"] == "What next?"}


def test_an_execution_that_runs_while_the_stack_is_updated_ends_with_its_notification(
    strict: StackClient, marker: str
) -> None:
    polled, followed = (
        strict.submit("support-chat", {"marker": marker, "simulate": {**LONG, "faults": faults}})
        for faults in (DOWN, [])
    )
    arns = {execution_id: strict.execution_arn(execution_id) or "" for execution_id in (polled, followed)}
    until(lambda: strict.states(arns[polled]).count("Poll"))
    until(lambda: upstream(strict, followed)["asked"]["stream"])
    update(strict)
    with in_a_hurry(strict):
        for execution_id in (polled, followed):
            assert strict.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
            assert strict.wait_for_end(arns[execution_id])["status"] == "SUCCEEDED"
            assert len(strict.peek(execution_id)) == 1
            assert versions(strict, arns[execution_id]) == {STATE_VERSION}
    assert starts_of(strict, marker) == 2
    # It was the new version that ended them.
    said = [text for place, text in function_logs(strict) if place == "log NotifyLogs" and NEWS in text]
    assert {execution_id for execution_id in arns if any(execution_id in text for text in said)} == set(arns)
