"""Builds the folders that Lambda gives a function: /var/task, /opt/python, and the packages of the runtime."""

import shutil
from compileall import compile_dir
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from py_compile import PycInvalidationMode

from packaging.requirements import Requirement

from benchmarks.cold_start.process import Build
from local.local_aws import sam
from local.local_aws.errors import ToolError
from local.local_aws.files import locked

FUNCTIONS = ("poll", "follow", "start", "notify", "api", "deliver")
_BARE = "def handler(event, context):\n    return {}\n"
_NAIVE = Path(__file__).parent / "naive"
_RUNTIME = ("boto3", "awslambdaric")
_NAIVE_LAYER = ("aws-lambda-powertools", "aws-xray-sdk", "pydantic", "requests")
_BUILD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Folders:
    """The builds: a bare handler, each function built by `sam build`, and each naive function."""

    bare: Build
    ours: dict[str, Build]
    naive: dict[str, Build]
    """Without bytecode, like a layer that `sam build` builds with BuildMethod python3.13."""
    compiled: dict[str, Build]
    """The naive functions with bytecode, to measure only the cost of their imports."""
    layer: Path


def prepared(home: Path) -> Folders:
    """Build everything in `home`, after deleting it. Raises ToolError if `sam build` fails."""
    shutil.rmtree(home, ignore_errors=True)
    runtime, ours, naive = home / "runtime", home / "ours", home / "naive"
    _lay_out(runtime, _RUNTIME)
    _lay_out(naive / "layer", _NAIVE_LAYER)
    shutil.copytree(_NAIVE, naive / "task", ignore=shutil.ignore_patterns("__pycache__"))
    compiled = shutil.copytree(naive, home / "compiled")
    for folder in (runtime, compiled):
        compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    bare = home / "bare"
    bare.mkdir()
    (bare / "app.py").write_text(_BARE, encoding="utf-8")
    _build(ours)
    layer = ours / "WaterhookLayer" / "python"
    return Folders(
        Build(bare, (runtime,)),
        {name: Build(ours / f"{name.title()}Function", (layer, runtime)) for name in FUNCTIONS},
        _naive(naive, runtime),
        _naive(compiled, runtime),
        layer,
    )


def _naive(folder: Path, runtime: Path) -> dict[str, Build]:
    path = (folder / "layer", runtime)
    return {name: Build(folder / "task", path, f"{name}.handler") for name in FUNCTIONS}


def size_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _build(folder: Path) -> None:
    with locked(sam.SAM_WORKDIR / "lock"):
        build = sam.start_build(folder.parent / "sam-build.log")
        if build.wait(_BUILD_TIMEOUT_S):
            raise ToolError(f"sam build failed:\n{build.log_tail()}")
        shutil.copytree(sam.BUILD, folder)


def _lay_out(folder: Path, names: tuple[str, ...]) -> None:
    """Copy distributions and their requirements into a folder, without bytecode."""
    copied: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in copied:
            continue
        copied.add(name)
        required = map(Requirement, distribution(name).requires or [])
        pending += [rule.name for rule in required if rule.marker is None or rule.marker.evaluate()]
        for file in distribution(name).files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(distribution(name).locate_file(file)), target)
