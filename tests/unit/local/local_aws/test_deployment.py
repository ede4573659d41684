"""Ending a deployment."""

from pathlib import Path

from local.local_aws.deployment import LocalDeployment
from local.local_aws.process_group import ProcessGroup
from tests.unit.local.local_aws.children import PARENT, Start


def test_down_ends_the_processes_of_a_killed_command_and_can_be_repeated(
    start: Start, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "tmp" / "ministack-lambda-start-x").mkdir(parents=True)
    (home / "outputs.json").write_text('{"half": ')
    leftover = ProcessGroup(home / "state.json").launch(
        lambda: start(PARENT)
    )  # as if by a command that was killed
    assert LocalDeployment(home).running() is None
    assert LocalDeployment(home).down()
    assert not leftover.identity.is_alive()
    assert [path.name for path in home.iterdir()] == ["lock"]
    assert not LocalDeployment(home).down()
