"""Deployed stacks, each started once for the whole run and shared by all workers."""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.local_aws.deployment import LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.files import locked
from local.local_aws.processes import ProcessIdentity
from local.local_aws.stack_client import StackClient
from local.local_aws.stack_outputs import StackOutputs
from local.webhook_receiver import WebhookReceiver
from local.webhook_receiver.stack_receiver import receiver_for

# The local AWS runs at most 32 functions at the same time.
FOLLOW_CONCURRENCY = 20
# The fault table runs 4 jobs of a chatbot at the same time. Other tests of the same stack need slots too.
MAX_RUNNING_PER_CHATBOT = 7
# The local AWS sends no e-mail.
WATCHED = {"AlarmEmail": "ops@waterhook.test", "Tracing": "ON"}
# Callers sign their requests, as on AWS by default. The role of the operators has a path, which no session shows.
OPERATOR_ROLE = "arn:aws:iam::000000000000:role/team/operators"
SIGNED = {"AuthMode": "IAM", "OperatorPrincipalArns": OPERATOR_ROLE}
# Each address is a host with a breaker and places of its own. The addresses from 10 are for receivers that fail.
RECEIVER_HOSTS = ",".join(["localhost", *(f"127.0.0.{number}" for number in [1, 2, 3, *range(10, 60)])])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            # Without the fixtures, which wait for a stack that is deployed, or for the turn to use one.
            item.add_marker(pytest.mark.timeout(300, func_only=True))


@pytest.fixture(scope="session")
def stack() -> Iterator[StackClient]:
    """A stack with permissions not enforced. Tests share it and run at the same time: check your own execution only."""
    parameters = {"FollowConcurrency": str(FOLLOW_CONCURRENCY), "WebhookAllowedHosts": RECEIVER_HOSTS}
    with StackClient(started_stack(parameters=parameters)) as client:
        yield client


@pytest.fixture(scope="session")
def polling_stack() -> Iterator[StackClient]:
    """A stack that follows no job, caps the running jobs of a chatbot, and starts one execution by schedule."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    parameters = {
        "FollowConcurrency": "0",
        "MaxRunningPerChatbot": str(MAX_RUNNING_PER_CHATBOT),
        "ScheduleExpression": f"at({soon:%Y-%m-%dT%H:%M:%S})",
        "ScheduleRequest": json.dumps({"chatbot_id": "instant", "input_data": {"marker": "scheduled"}}),
    }
    with StackClient(started_stack("-polling", parameters)) as client:
        yield client


@pytest.fixture
def strict() -> Iterator[StackClient]:
    """A stack with alarms, signed requests and enforced permissions. One test at a time uses it, as some change it."""
    with locked(home_of("-strict") / "turn"), StackClient(started_strict_stack()) as client:
        yield client


@pytest.fixture
def receiver(stack: StackClient) -> Iterator[WebhookReceiver]:
    """A receiver at `localhost` for the shared stack. A repeated webhook of another test may arrive there too.

    A test with failing attempts uses `receiver_for` with one of the addresses 127.0.0.1 to 127.0.0.3, and no other test
    the same one: failures of a host hold back all its webhooks.
    """
    with receiver_for(stack.outputs) as receiver:
        yield receiver


@pytest.fixture
def marker() -> str:
    """A text that no other test uses."""
    return uuid.uuid4().hex


def home_of(suffix: str = "") -> Path:
    """Return the folder of the stack with this suffix."""
    home = Path(os.environ["WATERHOOK_TEST_STACK"])
    return home.with_name(home.name + suffix)


def started_strict_stack() -> StackOutputs:
    """Return the stack with alarms and enforced permissions, for tests that change nothing in it."""
    return started_stack("-strict", WATCHED | SIGNED, auth=True)


def started_stack(
    suffix: str = "", parameters: Mapping[str, str] | None = None, *, auth: bool = False
) -> StackOutputs:
    """Return the running stack with this suffix. After a failed start, the other workers do not try again."""
    owner, home = ProcessIdentity.of("pytest", int(home_of().name)), home_of(suffix)
    failure = home / "failure.txt"
    with locked(home / "start"):
        if failure.exists():
            pytest.fail(failure.read_text(), pytrace=False)
        # `up` would replace a stack that does not answer within two seconds, as on a loaded machine.
        if started := StackOutputs.load(home / "outputs.json"):
            return started
        try:
            return LocalDeployment(home, auth=auth, parameters=parameters).up(owner=owner)
        except ToolError as error:
            failure.write_text(str(error))
            pytest.fail(str(error), pytrace=False)
