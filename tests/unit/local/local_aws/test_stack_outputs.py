"""outputs.json is written and read."""

import stat
from pathlib import Path

from local.local_aws.files import write_json_file
from local.local_aws.stack_outputs import StackOutputs
from tests.unit.local.local_aws.stack import OUTPUTS


def test_outputs_are_read_unchanged_and_only_their_user_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    OUTPUTS.save(path)
    assert StackOutputs.load(path) == OUTPUTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["outputs.json"]


def test_outputs_with_missing_fields_are_ignored(tmp_path: Path) -> None:
    write_json_file(tmp_path / "outputs.json", {"api_url": "http://127.0.0.1"})
    assert StackOutputs.load(tmp_path / "outputs.json") is None
