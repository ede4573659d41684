from collections.abc import Iterator

import pytest
from moto import mock_aws
from moto.core.config import default_user_config

from tests.workflow.world import REGION, World


@pytest.fixture(scope="package")
def _world() -> Iterator[World]:
    """One world for all workflow tests, because creating it is slow. Tests use executions of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        # Not by mock_aws(config=...), which leaves it for the tests that follow where another mock is active.
        patch.setitem(default_user_config, "stepfunctions", {"execute_state_machine": True})
        patch.setitem(default_user_config, "lambda", {"use_docker": False})
        with mock_aws():
            world = World(patch)
            yield world
            world.end()


@pytest.fixture
def world(_world: World) -> World:
    """The world at midnight, without planned faults or answers."""
    _world.reset()
    return _world
