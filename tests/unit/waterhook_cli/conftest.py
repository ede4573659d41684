"""The fixture of a deployed stack, for the tests of the CLI."""

from collections.abc import Iterator

import pytest

from tests.fakes.deployed_stack import DeployedStack


@pytest.fixture
def stack() -> Iterator[DeployedStack]:
    with DeployedStack() as deployed:
        yield deployed
