"""`waterhook completion`, and what a shell gets from it."""

import json
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.unit.waterhook_cli.command_line import run
from waterhook_cli.main import COMMANDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(shell: str, tmp_path: Path) -> None:
    result = run("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_WATERHOOK_COMPLETE={shell}_complete" in result.stdout
    assert json.loads(run("completion", shell, "--json").stdout)["script"] + "\n" == result.stdout
    if which(shell):
        script = tmp_path / "script"
        script.write_text(result.stdout, encoding="utf-8")
        subprocess.run([shell, "-n", str(script)], check=True)


def completed(words: str) -> list[str]:
    """Return what bash offers for the last of some words."""
    position = str(len(words.split(" ")) - 1)
    env = {"_WATERHOOK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}
    return [line.partition(",")[2] for line in run(env=env).stdout.splitlines()]


def test_commands_options_and_choices_are_completed() -> None:
    assert completed("waterhook ") == [*COMMANDS]
    assert completed("waterhook re") == ["redeliver", "resend"]
    assert completed("waterhook list --st") == ["--status", "--stack"]
    assert completed("waterhook list --trigger s") == ["schedule", "state_machine"]
    assert completed("waterhook submit bot --output ") == ["json", "table", "text"]
    assert completed("waterhook completion ") == ["bash", "zsh", "fish"]
