"""What carries the project to others: its version, its workflow, the files of its tools."""

import re
from typing import Any

import pytest
import yaml

from tests.contract.markdown import headings
from tests.contract.template import ROOT, source
from waterhook import __version__

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BY_COMMIT = re.compile(r"[\w-]+/[\w./-]+@[0-9a-f]{40}")


def read(path: str) -> Any:
    # As YAML 1.2 reads it: to PyYAML the key `on` is a yes.
    return yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506


def jobs(path: str) -> list[dict[str, Any]]:
    return list(read(path)["jobs"].values())


def test_there_is_a_workflow() -> None:
    assert WORKFLOWS


@pytest.mark.parametrize("path", [str(each.relative_to(ROOT)) for each in WORKFLOWS])
def test_a_workflow_pins_its_actions_by_commit_and_may_only_read(path: str) -> None:
    assert read(path)["permissions"] == {}
    for job in jobs(path):
        assert job["permissions"] == {"contents": "read"}
        assert int(job["timeout-minutes"]) <= 30
        for used in filter(None, (step.get("uses") for step in job["steps"])):
            assert BY_COMMIT.fullmatch(used), used


def test_the_workflow_runs_what_a_developer_runs_and_nothing_else() -> None:
    runs = [
        step["run"] for job in jobs(".github/workflows/test.yml") for step in job["steps"] if "run" in step
    ]
    assert runs == ["make test"]
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_pinned_requirement_is_raised_by_dependabot() -> None:
    watched = {
        directory
        for update in read(".github/dependabot.yml")["updates"]
        if update["package-ecosystem"] == "pip"
        for directory in update["directories"]
    }
    ours = (path for path in ROOT.glob("**/requirements*.txt") if not _made(path.relative_to(ROOT).parts))
    assert {"/" + path.parent.relative_to(ROOT).as_posix().replace(".", "") for path in ours} <= watched


def _made(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)


def test_the_hooks_before_a_commit_run_the_pinned_tools() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert all(hook["entry"].startswith(".venv/bin/python -m ") for hook in repository["hooks"])


def test_package_layer_and_changelog_are_of_one_version() -> None:
    layer = source()["Resources"]["WaterhookLayer"]["Properties"]["Description"]
    _, newest, *_ = headings((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert f"Waterhook {__version__}," in layer
    assert newest.split()[0].rstrip(",") == __version__
