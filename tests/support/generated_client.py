"""The client that openapi-python-client generates from openapi.yaml, once per process."""

import atexit
import json
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from local.schemas import DOCUMENT

_PACKAGE = "waterhook_client"


def module(name: str = "") -> Any:
    """Return a module of the generated package, such as `.models`."""
    _generate()
    return import_module(f"{_PACKAGE}{name}")


@cache
def _generate() -> None:
    """Write the package and make it importable. Fails on a warning, such as a part that was left out."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    # The generated code is not formatted, because that takes longer than its generation.
    config = Path(folder.name, "config.json")
    config.write_text(json.dumps({"post_hooks": []}), encoding="utf-8")
    output = Path(folder.name, _PACKAGE)
    arguments = ["--path", DOCUMENT, "--output-path", output, "--config", config, "--meta", "none"]
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--fail-on-warning",
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.append(folder.name)
