"""The command line agrees with docs/contract.md, and its package requires what it imports."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.contract.markdown import table
from tests.contract.template import ROOT
from tests.contract.test_imports import imports, outside
from waterhook_cli.__main__ import main
from waterhook_cli.errors import ExitCode
from waterhook_cli.main import cli

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
MODULES = sorted((ROOT / "waterhook_cli").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_each_command_is_listed() -> None:
    assert [row[0] for row in table(CONTRACT, "Command")] == [*cli.commands]


def test_each_exit_code_is_listed_with_its_meaning() -> None:
    rows = [(int(row[0]), row[1]) for row in table(CONTRACT, "Exit code")]
    assert rows == [(code.value, code.meaning) for code in ExitCode]


def test_every_command_has_the_common_options() -> None:
    for command in cli.commands.values():
        options = {option for parameter in command.params for option in parameter.opts}
        assert options >= {"--json", "--stack", "--local", "--profile", "--region"}


def test_the_package_requires_what_it_imports() -> None:
    needed = {Requirement(each).name for each in PROJECT["project"]["dependencies"]}
    taken = {name for path in MODULES for name in outside(imports(path))}
    # botocore is a dependency of boto3; the layer's package is in the wheel.
    assert taken - {"botocore", "waterhook", "waterhook_cli"} == needed
    assert PROJECT["project"]["scripts"] == {"waterhook": f"{main.__module__}:{main.__name__}"}
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {(ROOT / package).name for package in packages} == {"waterhook", "waterhook_cli"}


@pytest.mark.parametrize(
    ("goals", "seen"),
    [(["env"], "the-user-s"), (["smoke-aws"], "the-user-s"), (["up"], ""), (["env", "up"], "")],
)
def test_only_two_make_targets_see_the_users_aws_account(tmp_path: Path, goals: list[str], seen: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "profile: $AWS_PROFILE"\n', encoding="utf-8")
    python.chmod(0o755)
    # `-o` marks the environments as up to date; a shell script replaces their Python.
    environments = (".venv", ".venv-aws", ".venv-awscli", ".venv-node", ".node")
    stamps = [word for env in environments for word in ("-o", f"{env}/.stamp")]
    made = subprocess.run(
        ["make", "-s", *stamps, *goals, f"PY={python}"],  # noqa: S607  # wherever make is
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AWS_PROFILE": "the-user-s"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.splitlines() == [f"profile: {seen}"] * len(goals)
