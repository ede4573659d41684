"""The temporary folder of a deployment."""

from pathlib import Path

import pytest

from local.local_aws import temporary_folder
from local.local_aws.temporary_folder import create_temporary_folder, delete_temporary_folder


def test_without_enough_memory_the_folder_is_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary_folder, "_NEEDED_BYTES", 2**80)
    assert create_temporary_folder(tmp_path) == tmp_path / "tmp"


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_folder_of_a_deployment_is_always_the_same_and_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool
) -> None:
    monkeypatch.setattr(temporary_folder, "_MEMORY", tmp_path if in_memory else tmp_path / "missing")
    monkeypatch.setattr(temporary_folder, "_NEEDED_BYTES", 0)
    state_dir = tmp_path / "state"
    folder = create_temporary_folder(state_dir)
    assert folder.is_relative_to(state_dir) is not in_memory
    (folder / "file").touch()
    assert create_temporary_folder(state_dir) == folder
    delete_temporary_folder(state_dir)
    assert not folder.exists()
