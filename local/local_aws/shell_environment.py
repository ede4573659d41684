"""`make env`: the assignments that make a shell use the local stack."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import environment
from .stack_outputs import Outputs

BIN = environment.ROOT / "local" / "bin"


def assignments(
    outputs: Outputs, named: Mapping[str, str], home: Path, environ: Mapping[str, str], tools: Path = BIN
) -> Iterator[str]:
    """Yield the lines that a POSIX shell evaluates, each value quoted.

    `named` are the stack's outputs by their names in the template, `home` is the folder with its `outputs.json`,
    `environ` the shell's environment. Variables that would lead a client to another account or endpoint are unset.
    """
    exported = {name: environ[name] for name in ("NO_PROXY", "no_proxy") if name in environ}
    environment.isolate(exported)
    # The SAM CLI would report how it is used.
    exported |= {"AWS_ENDPOINT_URL": outputs.endpoint_url, "SAM_CLI_TELEMETRY": "0"}
    exported |= {variable(name): value for name, value in named.items()}
    # The API's name in the outputs resolves on AWS only.
    exported |= {"API_URL": outputs.api_url, "API_KEY": outputs.api_key, "WATERHOOK_LOCAL": str(home)}
    path = environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != str(tools):
        exported["PATH"] = os.pathsep.join([str(tools), path])
    foreign = {name for name in environ if environment.leads_elsewhere(name)} - exported.keys()
    yield from (f"unset {name}" for name in sorted(foreign))
    yield from (f"export {name}={shlex.quote(value)}" for name, value in sorted(exported.items()))


def variable(output: str) -> str:
    """Return the name of an output as a variable: `TopicArn` is `TOPIC_ARN`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", output).upper()
