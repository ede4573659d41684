"""The functions import only the layer, and boto3 from Lambda's runtime."""

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
    """Return each module that a file imports at run time, also inside its functions."""
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
    """Return the packages of these modules, without the standard library."""
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def test_the_layer_requires_only_powertools_and_urllib3() -> None:
    lines = (LAYER / "requirements.in").read_text(encoding="utf-8").splitlines()
    required = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert required == {"aws-lambda-powertools", "urllib3"}


def pinned() -> dict[str, str]:
    """Return the layer's distributions with their versions."""
    text = (LAYER / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", text, re.MULTILINE))


def closure(name: str) -> set[str]:
    """Return a distribution and all that it requires, without extras."""
    names: set[str] = set()
    pending = [name]
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            required = map(Requirement, distribution(name).requires or [])
            pending += [rule.name for rule in required if rule.marker is None or rule.marker.evaluate()]
    return names


def link_distributions(folder: Path, distributions: set[str]) -> Path:
    """Create a folder with only these distributions, like `pip install --target`."""
    folder.mkdir()
    for name in distributions:
        files = distribution(name).files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            (folder / top).symlink_to(str(distribution(name).locate_file(top)))
    return folder


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the layer's content, from the installed distributions of the same versions."""
    folder = link_distributions(tmp_path_factory.mktemp("layer") / "python", set(pinned()))
    (folder / "waterhook").symlink_to(PACKAGE)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with boto3 and its requirements, as in Lambda's runtime."""
    return link_distributions(tmp_path_factory.mktemp("runtime") / "python", closure("boto3"))


@pytest.mark.parametrize("name", pinned())
def test_the_tests_use_the_versions_of_the_layer(name: str) -> None:
    assert distribution(name).version == pinned()[name]


def test_the_layers_requirements_are_complete() -> None:
    required = closure("aws-lambda-powertools") | closure("urllib3")
    assert {name.lower().replace("_", "-") for name in required} == pinned().keys()


# -I and -S leave only the standard library on the path. The script adds the folders that Lambda would add.
IMPORT = """
import json, sys
sys.path[:0] = sys.argv[1:]
import app
assert callable(app.handler)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def import_app(*path: Path) -> subprocess.CompletedProcess[str]:
    """Import `app` with these folders and the standard library. Standard output lists the imported packages."""
    command = [sys.executable, "-I", "-S", "-c", IMPORT, *map(str, path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_with_only_the_layer_and_boto3(function: str, layer: Path, runtime: Path) -> None:
    run = import_app(ROOT / "functions" / function, layer, runtime)
    assert run.returncode == 0, run.stderr
    assert "waterhook" in json.loads(run.stdout)


MODULES = sorted(
    f"waterhook.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"
    for path in PACKAGE.rglob("*.py")
    if not path.stem.startswith(("webhook", "deliver", "resend", "_")) and path.parent.name != "webhooks"
)


def test_only_webhooks_load_the_modules_of_webhooks() -> None:
    """Each module is a millisecond of a cold start, also in a deployment without webhooks."""
    code = (
        f"import sys; sys.path.insert(0, {str(LAYER)!r})\n"
        + "".join(f"import {module}\n" for module in MODULES)
        + "print(*(name for name in sys.modules if 'webhook' in name))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_no_module_loads_a_tracer() -> None:
    """Powertools' tracer loads the X-Ray SDK: 96 ms of a cold start, also with tracing off."""
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "functions").glob("*/app.py")]:
        text = path.read_text(encoding="utf-8")
        assert "Tracer" not in text
        assert "xray" not in text
