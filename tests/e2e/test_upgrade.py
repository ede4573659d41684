"""Update of a stack while executions run: each version ends the executions that the other one began.

The old version is the commit before the checkout's, built from a git archive. Without git history, and for a commit
with nested stacks, which the local AWS cannot update, it is the build of the checkout. The test prints which one.
"""

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local.local_aws import processes, sam
from local.local_aws.deployment import LocalDeployment
from local.local_aws.files import locked
from local.local_aws.processes import ChildProcess
from local.local_aws.stack_client import StackClient
from tests.contract.template import ROOT
from tests.e2e.account import aws_client, physical_id
from tests.e2e.conftest import home_of
from tests.e2e.executions import finish_job, owner_arn, starts_of
from tests.e2e.traces import function_logs
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

BUILD_S, DEPLOY_S = 240, 240
# Each function of the new version logs this text with the ARN of its execution. Its definition contains it too.
MARK = "This is the new version."
LONG = {"seconds": 1000, "nodes": 4, "queue_seconds": 0}
# One job of a chatbot runs at a time, so a second request for it waits to start. One job is followed, so another one
# is polled from the Wait state.
PARAMETERS = {"MaxRunningPerChatbot": "1", "FollowConcurrency": "1"}
LOGGING = f"""

_unmarked = handler


def handler(event, context):
    if "execution" in event:
        print("{MARK}", event["execution"]["arn"])
    return _unmarked(event, context)
"""


@dataclass(frozen=True, slots=True)
class Update:
    """A running stack of the old version, and the builds of both versions."""

    stack: StackClient
    old_build: Path
    new_build: Path

    def deploy(self, build: Path) -> None:
        """Update the stack, with its present parameters."""
        described = aws_client(self.stack, "cloudformation").describe_stacks(StackName=sam.STACK_NAME)[
            "Stacks"
        ][0]
        # CloudFormation hides the values of parameters with NoEcho.
        parameters = {
            entry["ParameterKey"]: entry["ParameterValue"]
            for entry in described["Parameters"]
            if set(entry["ParameterValue"]) != {"*"}
        }
        log = home_of("-update") / "log" / f"sam-deploy-{build.name}.log"
        with locked(sam.SAM_WORKDIR / "lock"):
            finish_process(
                sam.start_deploy(self.stack.outputs.endpoint_url, parameters, log, build=build), DEPLOY_S
            )


def finish_process(process: ChildProcess, timeout_s: float) -> None:
    try:
        assert process.wait(timeout_s) == 0, process.log_tail()
    finally:
        processes.end_processes([process.identity])


def commit_before(folder: Path) -> Path | None:
    """Unpack the commit before the checkout's into the folder; None where that is impossible."""
    git = shutil.which("git")
    if git is None:
        return None
    top = subprocess.run(
        [git, "rev-parse", "--show-toplevel"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if top.returncode or Path(top.stdout.strip()).resolve() != ROOT.resolve():
        return None  # an exported archive, perhaps in a repository of something else
    archive = subprocess.run([git, "archive", "HEAD~1"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    nested = "AWS::CloudFormation::Stack" in (folder / "template.yaml").read_text(encoding="utf-8")
    return None if nested else folder


def mark(build: Path) -> None:
    """Mark a build as the new version: another state version, functions that log MARK, MARK in the definition."""
    layer = build / "WaterhookLayer" / "python" / "waterhook"
    for compiled in layer.rglob("__pycache__"):
        shutil.rmtree(compiled)  # Python would load it instead of the changed source
    ((module, text, version),) = (
        (file, text, found)
        for file in layer.rglob("*.py")
        if (found := re.search(r"^STATE_VERSION = (\d+)$", text := file.read_text("utf-8"), re.MULTILINE))
    )
    newer = text.replace(version[0], f"STATE_VERSION = {int(version[1]) + 1}")
    module.write_text(newer, encoding="utf-8")
    for app in build.glob("*Function/app.py"):
        with app.open("a", encoding="utf-8") as code:
            code.write(LOGGING)
    template = build / "template.yaml"
    described = template.read_text(encoding="utf-8")
    (pointer,) = re.findall(r"^ +Definition(?:S3Location|Uri): (\S+)$", described, re.MULTILINE)
    definition = (build / pointer).read_text(encoding="utf-8")
    marked = re.sub(r"^Comment: .*$", f"Comment: {MARK}", definition, count=1, flags=re.MULTILINE)
    assert marked != definition
    (build / "marked.asl.yaml").write_text(marked, encoding="utf-8")
    template.write_text(described.replace(pointer, "marked.asl.yaml"), encoding="utf-8")


@contextmanager
def builds(stack: StackClient, old: Path | None) -> Iterator[Update]:
    """Build the checkout and mark a copy as the new version. Without `old`, an unmarked copy is the old version."""
    # Copies, since another stack of this run may build meanwhile. Siblings of the build, as its paths are relative.
    new, unmarked = (sam.BUILD.with_name(f"build-of-the-{name}-version") for name in ("new", "old"))
    try:
        with locked(sam.SAM_WORKDIR / "lock"):
            finish_process(sam.start_build(home_of("-update") / "log" / "sam-build-new.log"), BUILD_S)
            for copy in (new, unmarked):
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(sam.BUILD, copy)
        mark(new)
        yield Update(stack, sam.build_of(old) if old else unmarked, new)
    finally:
        for copy in (new, unmarked):
            shutil.rmtree(copy, ignore_errors=True)


@pytest.fixture
def update(tmp_path: Path) -> Iterator[Update]:
    """A separate stack of the old version, with permissions enforced."""
    old = commit_before(tmp_path / "old")
    print(f"\nold version: {'the previous commit' if old else 'the build of the checkout, unmarked'}")
    local = LocalDeployment(home_of("-update"), auth=True, parameters=PARAMETERS, checkout=old or ROOT)
    with local as outputs, StackClient(outputs) as stack, builds(stack, old) as prepared:
        yield prepared


# ---- Executions, each in another state ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """Running executions, by the state that each is in."""

    stack: StackClient
    marker: str
    ids: dict[str, str] = field(default_factory=dict)

    def submit(self, state: str, chatbot_id: str, **simulate: object) -> None:
        """Start an execution that reaches the state."""
        input_data = {"marker": f"{self.marker} {state}", "simulate": {**LONG, **simulate}}
        self.ids[state] = self.stack.submit(chatbot_id, input_data)

    @property
    def arns(self) -> dict[str, str]:
        """The ARN of each state machine execution."""
        return {state: owner_arn(self.stack, execution_id) for state, execution_id in self.ids.items()}

    @property
    def starts(self) -> dict[str, int]:
        """How many jobs were started for each."""
        return {state: starts_of(self.stack, f"{self.marker} {state}") for state in self.ids}

    def await_states(self) -> None:
        """Wait for a moment at which each is in its state."""
        arns = self.arns
        until(lambda: all(self.stack.states(arn)[-1:] == [state] for state, arn in arns.items()))


def begin(stack: StackClient, marker: str) -> Running:
    """Start executions that reach the states Follow, Wait and Wait to start, and stay there."""
    running = Running(stack, marker)
    running.submit("Follow", "support-chat")
    running.await_states()
    running.submit("Wait to start", "support-chat")
    running.submit("Wait", "report-flow")
    running.await_states()
    assert running.starts == {"Follow": 1, "Wait to start": 0, "Wait": 1}
    assert stack.get(running.ids["Wait to start"]).json()["status"] == "ACCEPTED"
    # It found no free concurrency to follow.
    assert "Follow" in stack.states(running.arns["Wait"])
    return running


@contextmanager
def nothing_published(running: Running) -> Iterator[None]:
    """Inside the block one more execution is in Notify, where IAM denies each attempt to publish."""
    iam, role = aws_client(running.stack, "iam"), physical_id(running.stack, "NotifyRole")
    denial = {"Effect": "Deny", "Action": "sns:Publish", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    iam.put_role_policy(RoleName=role, PolicyName="outage", PolicyDocument=document)
    try:
        running.submit("Notify", "instant", seconds=0)
        running.stack.wait_for_status(running.ids["Notify"], "COMPLETED")
        running.await_states()
        yield
        assert running.stack.peek(running.ids["Notify"]) == []
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="outage")


def finish_jobs(running: Running) -> None:
    """End the jobs. The execution that waits to start gets the chatbot's slot after the first one."""
    stack = running.stack
    for state in ("Follow", "Wait", "Wait to start"):
        stack.wait_for_status(running.ids[state], "RUNNING")
        finish_job(stack, running.ids[state])
    for state in ("Follow", "Wait", "Wait to start"):
        stack.wait_for_end(running.arns[state])


def assert_completed(running: Running) -> None:
    """Each execution has one job, one notification and a state machine execution that succeeded."""
    for execution_id, arn in zip(running.ids.values(), running.arns.values(), strict=True):
        assert running.stack.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
        assert running.stack.wait_for_end(arn)["status"] == "SUCCEEDED"
        assert len(running.stack.peek(execution_id)) == 1
    assert set(running.starts.values()) == {1}


def state_versions(running: Running) -> dict[str, int]:
    """Return how many different versions the loop state of each execution had."""

    def count(arn: str) -> int:
        details = (event.get("stateEnteredEventDetails") for event in running.stack.history(arn))
        inputs = (
            json.loads(entered["input"]) for entered in details if entered and entered["name"] == "What next?"
        )
        return len({state["v"] for state in inputs})

    return {state: count(arn) for state, arn in running.arns.items()}


def marked_states(running: Running, log_group: str) -> set[str]:
    """Return the states of the executions that a function of the new version has logged."""
    lines = [
        text for place, text in function_logs(running.stack) if place == f"log {log_group}" and MARK in text
    ]
    return {state for state, arn in running.arns.items() if any(arn in line for line in lines)}


def definition(stack: StackClient) -> str:
    machine = stack.outputs.state_machine_arn
    return stack.stepfunctions.describe_state_machine(stateMachineArn=machine)["definition"]


# ---- The test ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600, func_only=True)
def test_executions_survive_an_update_of_the_stack_and_its_rollback(update: Update, marker: str) -> None:
    stack = update.stack
    big = {"marker": f"{marker} stored", "simulate": {"seconds": 0, "queue_seconds": 0}}
    stored = stack.submit("big-output", big, idempotency_key=marker)
    stack.wait_for_notification(stored)
    begun_by_old = begin(stack, f"{marker} old")
    with nothing_published(begun_by_old):
        update.deploy(update.new_build)
    assert MARK in definition(stack)
    finish_jobs(begun_by_old)
    begun_by_new = begin(stack, f"{marker} new")

    assert_completed(begun_by_old)
    assert marked_states(begun_by_old, "NotifyLogs") == set(begun_by_old.ids)
    assert marked_states(begun_by_old, "PollLogs") >= {"Wait"}
    assert marked_states(begun_by_old, "StartLogs") == {"Wait to start"}
    # A loop state keeps its version. While an execution waits to start, each attempt creates a new state.
    assert state_versions(begun_by_old) == {"Follow": 1, "Wait": 1, "Wait to start": 2, "Notify": 1}

    # The new version reads the record, output and idempotency key that the old one stored.
    document = stack.get(stored).json()
    assert document["status"] == "COMPLETED"
    assert stack.http.get(document["final_output_url"]).json()
    assert stack.submit("big-output", big, idempotency_key=marker) == stored
    assert starts_of(stack, f"{marker} stored") == 1

    # After the rollback, the old version reads the data of the new one.
    begun_by_new.await_states()
    update.deploy(update.old_build)
    assert MARK not in definition(stack)
    finish_jobs(begun_by_new)
    assert_completed(begun_by_new)
    assert marked_states(begun_by_new, "StartLogs") == set(begun_by_new.ids)
    assert marked_states(begun_by_new, "NotifyLogs") == set()
