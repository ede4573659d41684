"""The recorded processes of a deployment."""

from pathlib import Path

import pytest

from local.local_aws.deployment import LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.process_group import ProcessGroup
from tests.unit.local.local_aws.children import SLEEPER, Start


def test_a_process_is_recorded_until_it_is_ended(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start(SLEEPER))
    assert ProcessGroup.load(group.path).members == [child.identity]
    assert group.end()
    assert not group.path.exists()
    assert not group.end()


def test_a_failed_command_is_reported_with_the_end_of_its_log(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start("raise SystemExit('no such bucket')"))
    with pytest.raises(ToolError, match="fake failed\nno such bucket"):
        group.wait_for_exit(child, timeout_s=20)


def test_a_command_that_takes_too_long_is_reported(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start(SLEEPER))
    with pytest.raises(ToolError, match="fake still runs after 0 s"):
        group.wait_for_exit(child, timeout_s=0.1)
    group.end()


@pytest.mark.parametrize("text", ["", '{"members": [{"na', "[]", '{"members": [{"pid": 1}]}'])
def test_an_unreadable_state_file_is_an_empty_group(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert ProcessGroup.load(tmp_path / "state.json").members == []
    assert not LocalDeployment(tmp_path).down()
