"""The command line agrees with docs/contract.md, and its package requires what it imports."""

import ast
import os
import re
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
        assert options >= {"--json", "--output", "--quiet", "--stack", "--local", "--profile", "--region"}


def shown_texts(path: Path) -> list[str]:
    """The texts of a module without its docstrings. A value in an f-string is `VALUE`, options of the stack are ''."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    # A docstring, or `"""..."""` after a field, is an expression statement.
    skipped = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        to_text(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant) and node not in parts | skipped
    ]


def to_text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(to_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return (
            ""
            if ast.unparse(node.value) in {"options", "stack_options", "context.stack_options"}
            else "VALUE"
        )
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


HINTS = [
    (path.stem, match[1], match[2])
    for path in MODULES
    for text in shown_texts(path)
    for match in re.finditer(r"(?:^|(?<= ))waterhook ([a-z][a-z-]*)(.*)$", text, re.MULTILINE)
]


def test_each_command_in_a_hint_or_an_example_exists_and_can_be_pasted() -> None:
    # A sentence after the command would be pasted with it.
    assert len(HINTS) > 40
    for module, name, arguments in HINTS:
        assert name in cli.commands, (module, name)
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert not {*re.findall(r"--[a-z-]+", arguments)} - known, (module, name, arguments)
        assert not re.search(r"[^.]\.( |$)|, ", arguments), (module, name, arguments)


def test_each_command_that_can_t_be_undone_prompts_for_confirmation() -> None:
    prompting = {
        name
        for name, command in cli.commands.items()
        if any("--yes" in parameter.opts for parameter in command.params)
    }
    assert prompting == {"cancel", "redeliver", "erase", "resend", "rotate-webhook-secret"}


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
