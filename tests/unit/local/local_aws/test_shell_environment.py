"""`make env`: a shell that evaluates it uses the local stack, and nothing of the user's account."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.local_aws.shell_environment import BIN, shell_lines, variable_name
from tests.contract.template import ROOT
from tests.unit.local.local_aws.stack import OUTPUTS

NAMED = {"TopicArn": "arn:topic", "ApiUrl": "https://abc.execute-api.example", "Odd": 'it\'s $HOME "x" `id`'}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_gets_the_stack_and_the_tools_from_a_folder_with_a_space(tmp_path: Path, shell: str) -> None:
    checkout = tmp_path / "a folder" / "it's"
    tools = checkout / "local" / "bin"
    shutil.copytree(BIN, tools)
    # A tool that prints its Python's path and what it was called with, in place of each environment.
    for name in (".venv", ".venv-awscli"):
        python = checkout / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "$0" "$PYTHONPATH" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "of-the-user",
        "AWS_ENDPOINT_URL_SNS": "https://sns.example",
        "AWS_SESSION_TOKEN": "of-the-user",
        "AWS_CA_BUNDLE": "/ca.pem",
        "PYTHONPATH": "/elsewhere",
    }
    text = "\n".join(shell_lines(OUTPUTS, NAMED, checkout / ".local", environ, tools))
    shown = "env; echo ---; aws s3 'a b'; sam build; waterhook list"
    done = subprocess.run(
        [shell, "-euc", f'eval "$TEXT"; {shown}'],
        env=environ | {"TEXT": text},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    variables, _, ran = done.stdout.partition("---\n")
    found = dict(line.partition("=")[::2] for line in variables.splitlines())
    assert found["TOPIC_ARN"] == "arn:topic"
    assert found["API_URL"] == OUTPUTS.api_url
    assert found["API_KEY"] == "key"
    assert found["ODD"] == NAMED["Odd"]
    assert found["AWS_ENDPOINT_URL"] == OUTPUTS.endpoint_url
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_REGION"]) == ("test", "us-east-1")
    assert found["WATERHOOK_LOCAL"] == str(checkout / ".local")
    assert found["AWS_CA_BUNDLE"] == "/ca.pem"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SNS"} & found.keys()
    tool = f"{checkout}/.venv/bin/python"
    assert ran.splitlines() == [
        f"{checkout}/.venv-awscli/bin/python /elsewhere -I -m awscli --endpoint-url {OUTPUTS.endpoint_url} s3 a b",
        f"{tool} /elsewhere -I -m samcli build",
        f"{tool} {checkout}:{checkout}/layers/waterhook -P -m waterhook_cli list",
    ]


def test_a_shell_that_evaluates_it_again_gets_nothing_twice() -> None:
    environ = {"PATH": f"{BIN}{os.pathsep}/usr/bin", "NO_PROXY": "intranet.example,127.0.0.1,localhost"}
    lines = list(shell_lines(OUTPUTS, NAMED, ROOT / ".local", environ))
    assert not [line for line in lines if line.startswith("export PATH=")]
    assert "export NO_PROXY=intranet.example,127.0.0.1,localhost" in lines


@pytest.mark.parametrize(
    ("output", "name"), [("TopicArn", "TOPIC_ARN"), ("ApiKeyId", "API_KEY_ID"), ("BucketName", "BUCKET_NAME")]
)
def test_an_output_is_a_variable_of_its_name(output: str, name: str) -> None:
    assert variable_name(output) == name


def test_without_a_local_stack_nothing_is_printed_to_evaluate(tmp_path: Path) -> None:
    # A checkout without a .local folder: the runner's modules alone.
    shutil.copytree(ROOT / "local", tmp_path / "local", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "local", "env"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The local stack is not running. Start it: make up\n"


@pytest.mark.parametrize("tool", ["aws", "sam", "waterhook"])
def test_a_tool_that_is_not_installed_names_the_command_that_installs_it(tmp_path: Path, tool: str) -> None:
    bin_ = tmp_path / "local" / "bin"
    shutil.copytree(BIN, bin_)
    done = subprocess.run([bin_ / tool], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == f"{tool}: run make setup in {tmp_path}\n"
