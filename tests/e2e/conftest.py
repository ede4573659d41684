"""The deployed stack, one for the whole run."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "strict" in getattr(item, "fixturenames", ()):
            # It may have to wait for its turn, and that is no time of its own.
            item.add_marker(pytest.mark.timeout(300, func_only=True))


@pytest.fixture(scope="session")
def stack() -> Iterator[StackClient]:
    """The API, the state machine, the notifications, the records and the simulator of a running stack.

    Tests share it and run at the same time: ask for your own execution's, never for a total.
    """
    with StackClient(started_stack()) as client:
        yield client


@pytest.fixture(scope="session")
def polling_stack() -> Iterator[StackClient]:
    """A stack that only polls, runs three jobs of a chatbot at once, and starts one by schedule soon after."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    parameters = {
        "FollowConcurrency": "0",
        "MaxRunningPerChatbot": "3",
        "ScheduleExpression": f"at({soon:%Y-%m-%dT%H:%M:%S})",
        "ScheduleRequest": json.dumps({"chatbot_id": "instant", "input_data": {"marker": "scheduled"}}),
    }
    with StackClient(started_stack("-polling", parameters)) as client:
        yield client


# Nobody is mailed: the local AWS keeps what it would send.
WATCHED = {"AlarmEmail": "ops@waterhook.test", "Tracing": "ON"}


@pytest.fixture
def strict() -> Iterator[StackClient]:
    """A stack with alarms, permissions enforced. One test has it at a time: they change what others rely on."""
    with locked(home_of("-strict") / "turn"), StackClient(started_strict_stack()) as client:
        yield client


@pytest.fixture(params=["follow", "poll"])
def either_stack(request: pytest.FixtureRequest) -> StackClient:
    """Both of them, one after the other."""
    client: StackClient = request.getfixturevalue("stack" if request.param == "follow" else "polling_stack")
    return client


@pytest.fixture
def marker() -> str:
    """A text that no other test uses."""
    return uuid.uuid4().hex


def home_of(suffix: str = "") -> Path:
    """Where the stack of that suffix keeps its files."""
    home = Path(os.environ["WATERHOOK_TEST_STACK"])
    return home.with_name(home.name + suffix)


def started_strict_stack() -> StackOutputs:
    """The stack with alarms and enforced permissions, for who changes nothing in it: it is not theirs alone."""
    return started_stack("-strict", WATCHED, auth=True)


def started_stack(
    suffix: str = "", parameters: Mapping[str, str] | None = None, *, auth: bool = False
) -> StackOutputs:
    """The running stack of that suffix. Where it failed to start for one worker, the others don't try again."""
    owner, home = ProcessIdentity.of("pytest", int(home_of().name)), home_of(suffix)
    failure = home / "failure.txt"
    if failure.exists():
        pytest.fail(failure.read_text(), pytrace=False)
    try:
        return LocalDeployment(home, auth=auth, parameters=parameters).up(owner=owner)
    except ToolError as error:
        failure.write_text(str(error))
        pytest.fail(str(error), pytrace=False)
