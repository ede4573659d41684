"""The version, the CI workflow, and the configuration of dependabot and pre-commit."""

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
    # BaseLoader, because PyYAML would read the key `on` as True.
    return yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506


def jobs(path: str) -> list[dict[str, Any]]:
    return list(read(path)["jobs"].values())


def test_there_is_a_workflow() -> None:
    assert WORKFLOWS


@pytest.mark.parametrize("path", [str(each.relative_to(ROOT)) for each in WORKFLOWS])
def test_a_workflow_pins_its_actions_by_commit_and_has_read_permission_only(path: str) -> None:
    assert read(path)["permissions"] == {}
    for job in jobs(path):
        assert job["permissions"] == {"contents": "read"}
        assert int(job["timeout-minutes"]) <= 30
        for used in filter(None, (step.get("uses") for step in job["steps"])):
            assert BY_COMMIT.fullmatch(used), used


def test_the_workflow_runs_only_make_test() -> None:
    runs = [
        step["run"] for job in jobs(".github/workflows/test.yml") for step in job["steps"] if "run" in step
    ]
    assert runs == ["make test"]
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_dependabot_updates_each_pinned_requirements_file() -> None:
    watched = {
        directory
        for update in read(".github/dependabot.yml")["updates"]
        if update["package-ecosystem"] == "pip"
        for directory in update["directories"]
    }
    files = (
        path for path in ROOT.glob("**/requirements*.txt") if not _is_generated(path.relative_to(ROOT).parts)
    )
    assert {"/" + path.parent.relative_to(ROOT).as_posix().replace(".", "") for path in files} <= watched


def _is_generated(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)


def test_the_pre_commit_hooks_run_the_pinned_tools() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert all(hook["entry"].startswith(".venv/bin/python -m ") for hook in repository["hooks"])


def test_package_layer_and_changelog_have_the_same_version() -> None:
    layer = source()["Resources"]["WaterhookLayer"]["Properties"]["Description"]
    _, newest, *_ = headings((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert f"Waterhook {__version__}," in layer
    assert newest.split()[0].rstrip(",") == __version__
