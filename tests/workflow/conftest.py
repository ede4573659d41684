from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from tests.workflow.world import REGION, World

if TYPE_CHECKING:
    from moto.core.config import DefaultConfig


@pytest.fixture(scope="package")
def _world() -> Iterator[World]:
    """One world for all tests here: making it takes longer than most of them, and executions don't meet in it."""
    config: DefaultConfig = {
        "stepfunctions": {"execute_state_machine": True},
        "lambda": {"use_docker": False},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        with mock_aws(config=config):
            world = World(patch)
            yield world
            world.end()


@pytest.fixture
def world(_world: World) -> World:
    """The world at midnight, with nothing planned."""
    _world.reset()
    return _world
