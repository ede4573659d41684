"""The deployed stack, one for the whole run."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.runner.client import StackClient
from local.runner.errors import RunnerError
from local.runner.outputs import Outputs
from local.runner.processes import Identity
from local.runner.stack import LocalStack


@pytest.fixture(scope="session")
def stack() -> Iterator[StackClient]:
    """The API, the state machine, the notifications, the records and the simulator of a running stack.

    Tests share it and run at the same time: ask for your own execution's, never for a total.
    """
    home = Path(os.environ["WATERHOOK_TEST_STACK"])
    with StackClient(_up(home)) as client:
        yield client


@pytest.fixture
def marker() -> str:
    """A text that no other test uses."""
    return uuid.uuid4().hex


def _up(home: Path) -> Outputs:
    """The running stack. Where it failed to start for one worker, the others don't try again."""
    failure = home / "failure.txt"
    if failure.exists():
        pytest.fail(failure.read_text(), pytrace=False)
    try:
        return LocalStack(home).up(owner=Identity.of("pytest", int(home.name)))
    except RunnerError as error:
        failure.write_text(str(error))
        pytest.fail(str(error), pytrace=False)
