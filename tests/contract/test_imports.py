"""What is deployed needs nothing but the layer and what Lambda's runtime brings."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.contract.template import ROOT

LAYER = ROOT / "layers" / "waterhook"
PACKAGE = LAYER / "waterhook"
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))


def imports(path: Path) -> set[str]:
    """Every module a file imports at run time, wherever in the file it does."""
    return set(_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        for statement in node.orelse:
            yield from _imports(statement)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports name their module in full"
        module = node.module or ""
        # `from waterhook import settings` takes a module, `from waterhook.settings import Settings` a name.
        yield from (f"waterhook.{alias.name}" for alias in node.names) if module == "waterhook" else [module]
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def outside(names: set[str]) -> set[str]:
    """The packages among modules that the standard library doesn't have."""
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def test_the_layer_asks_for_powertools_and_urllib3_only() -> None:
    lines = (LAYER / "requirements.in").read_text(encoding="utf-8").splitlines()
    asked = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert asked == {"aws-lambda-powertools", "urllib3"}


def pinned() -> dict[str, str]:
    """What the layer is built from: distribution → version."""
    text = (LAYER / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE))


def closure(name: str) -> set[str]:
    """A distribution and all it requires, extras aside."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            required = map(Requirement, distribution(name).requires or [])
            ahead += [rule.name for rule in required if rule.marker is None or rule.marker.evaluate()]
    return found


def lay_out(folder: Path, distributions: set[str]) -> Path:
    """A folder with these distributions and nothing else, as `pip install --target` would leave it."""
    folder.mkdir()
    for name in distributions:
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (folder / top).symlink_to(str(distribution(name).locate_file(top)))
    return folder


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer's content, made of the installed distributions: they are the ones it is built from."""
    folder = lay_out(tmp_path_factory.mktemp("layer") / "python", set(pinned()))
    (folder / "waterhook").symlink_to(PACKAGE)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Lambda's Python brings along."""
    return lay_out(tmp_path_factory.mktemp("runtime") / "python", closure("boto3"))


@pytest.mark.parametrize("name", pinned())
def test_the_tests_run_on_what_the_layer_is_built_from(name: str) -> None:
    assert distribution(name).version == pinned()[name]


def test_the_layer_s_requirements_are_complete() -> None:
    asked = closure("aws-lambda-powertools") | closure("urllib3")
    assert {name.lower().replace("_", "-") for name in asked} == pinned().keys()


# -I and -S leave only the standard library on the path; what is put before it is what Lambda would put there.
IMPORT = """
import json, sys
sys.path[:0] = sys.argv[1:]
import app
assert callable(app.handler)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def import_app(*path: Path) -> subprocess.CompletedProcess[str]:
    """Import `app` with these folders and the standard library; standard output lists the packages it took."""
    command = [sys.executable, "-I", "-S", "-c", IMPORT, *map(str, path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_with_only_the_layer_and_boto3(function: str, layer: Path, runtime: Path) -> None:
    run = import_app(ROOT / "functions" / function, layer, runtime)
    assert run.returncode == 0, run.stderr
    assert "waterhook" in json.loads(run.stdout)


def test_a_function_that_needs_more_is_noticed(tmp_path: Path, layer: Path, runtime: Path) -> None:
    (tmp_path / "app.py").write_text("import yaml\n\nhandler = yaml.dump\n")
    assert "No module named 'yaml'" in import_app(tmp_path, layer, runtime).stderr


def test_nobody_loads_a_tracer() -> None:
    """Powertools' costs 96 ms of a cold start even when it is switched off: it loads the X-Ray SDK."""
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "functions").glob("*/app.py")]:
        text = path.read_text(encoding="utf-8")
        assert "Tracer" not in text
        assert "xray" not in text
