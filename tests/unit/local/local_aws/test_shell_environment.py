"""A shell that evaluates `make env` uses the local stack, and no setting of the user's account."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.local_aws.shell_environment import BIN, shell_lines
from tests.contract.template import ROOT
from tests.unit.local.local_aws.stack import OUTPUTS

NAMED = {"TopicArn": "arn:topic", "ApiUrl": "https://abc.execute-api.example", "Odd": 'it\'s $HOME "x" `id`'}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_uses_the_stack_and_the_tools_also_in_a_folder_with_a_space(
    tmp_path: Path, shell: str
) -> None:
    checkout = tmp_path / "a folder" / "it's"
    tools = checkout / "local" / "bin"
    shutil.copytree(BIN, tools)
    # Instead of each environment, a script that prints its path, PYTHONPATH and its arguments.
    for name in (".venv", ".venv-awscli"):
        python = checkout / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "$0" "$PYTHONPATH" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        (checkout / name / ".stamp").touch()
    environ = {
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "of-the-user",
        "AWS_ENDPOINT_URL_SNS": "https://sns.example",
        "AWS_SESSION_TOKEN": "of-the-user",
        "AWS_CA_BUNDLE": "/ca.pem",
        "PYTHONPATH": "/elsewhere",
    }
    text = "\n".join(shell_lines(OUTPUTS, NAMED, checkout / ".local", environ, tools))
    commands = "env; echo ---; aws s3 'a b'; sam build; waterhook list"
    result = subprocess.run(
        [shell, "-euc", f'eval "$TEXT"; {commands}'],
        env=environ | {"TEXT": text},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    variables, _, ran = result.stdout.partition("---\n")
    exported = dict(line.partition("=")[::2] for line in variables.splitlines())
    assert exported["TOPIC_ARN"] == "arn:topic"
    assert exported["API_URL"] == OUTPUTS.api_url
    assert exported["API_KEY"] == "key"
    assert exported["ODD"] == NAMED["Odd"]
    assert exported["AWS_ENDPOINT_URL"] == OUTPUTS.endpoint_url
    assert (exported["AWS_ACCESS_KEY_ID"], exported["AWS_REGION"]) == ("test", "us-east-1")
    assert exported["WATERHOOK_LOCAL"] == str(checkout / ".local")
    assert exported["AWS_CA_BUNDLE"] == "/ca.pem"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SNS"} & exported.keys()
    tool = f"{checkout}/.venv/bin/python"
    assert ran.splitlines() == [
        f"{checkout}/.venv-awscli/bin/python /elsewhere -I -m awscli --endpoint-url {OUTPUTS.endpoint_url} s3 a b",
        f"{tool} /elsewhere -I -m samcli build",
        f"{tool} {checkout}:{checkout}/layers/waterhook -P -m waterhook_cli list",
    ]


def test_a_second_evaluation_adds_nothing() -> None:
    environ = {"PATH": f"{BIN}{os.pathsep}/usr/bin", "NO_PROXY": "intranet.example,127.0.0.1,localhost"}
    lines = list(shell_lines(OUTPUTS, NAMED, ROOT / ".local", environ))
    assert not [line for line in lines if line.startswith("export PATH=")]
    assert "export NO_PROXY=intranet.example,127.0.0.1,localhost" in lines


def test_standard_output_is_empty_without_a_local_stack(tmp_path: Path) -> None:
    # A copy of the modules, because the checkout may have a .local folder.
    shutil.copytree(ROOT / "local", tmp_path / "local", ignore=shutil.ignore_patterns("__pycache__"))
    result = subprocess.run(
        [sys.executable, "-m", "local", "env"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "The local stack is not running. Start it: make up\n"


@pytest.mark.parametrize("is_interrupted", [False, True])
@pytest.mark.parametrize("tool", ["aws", "sam", "waterhook"])
def test_a_tool_that_is_not_installed_prints_the_command_that_installs_it(
    tmp_path: Path, tool: str, *, is_interrupted: bool
) -> None:
    bin_ = tmp_path / "local" / "bin"
    shutil.copytree(BIN, bin_)
    if is_interrupted:
        # Make writes .stamp after the last package.
        for name in (".venv", ".venv-awscli"):
            python = tmp_path / name / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
    result = subprocess.run([bin_ / tool], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (127, "")
    assert result.stderr == f"{tool}: run make setup in {tmp_path}\n"
