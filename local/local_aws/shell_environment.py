"""Prints the shell commands of `make env`, which make a shell use the local stack."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import environment
from .stack_outputs import StackOutputs

BIN = environment.ROOT / "local" / "bin"


def shell_lines(
    outputs: StackOutputs,
    outputs_by_name: Mapping[str, str],
    state_dir: Path,
    environ: Mapping[str, str],
    tools: Path = BIN,
) -> Iterator[str]:
    """Yield lines for a POSIX shell to evaluate, each value quoted.

    `outputs_by_name` are the outputs of the stack, `state_dir` is the folder with `outputs.json`, `environ` is the
    environment of the shell. Variables that could make an AWS client use another account or endpoint are unset.
    """
    exported = {name: environ[name] for name in ("NO_PROXY", "no_proxy") if name in environ}
    environment.isolate(exported)
    # SAM_CLI_TELEMETRY disables usage reports.
    exported |= {"AWS_ENDPOINT_URL": outputs.endpoint_url, "SAM_CLI_TELEMETRY": "0"}
    exported |= {variable_name(name): value for name, value in outputs_by_name.items()}
    # The host name in ApiUrl resolves only on AWS.
    exported |= {"API_URL": outputs.api_url, "API_KEY": outputs.api_key, "WATERHOOK_LOCAL": str(state_dir)}
    path = environ.get("PATH", os.defpath)
    if path.split(os.pathsep)[0] != str(tools):
        exported["PATH"] = os.pathsep.join([str(tools), path])
    foreign = {name for name in environ if environment.is_aws_setting(name)} - exported.keys()
    yield from (f"unset {name}" for name in sorted(foreign))
    yield from (f"export {name}={shlex.quote(value)}" for name, value in sorted(exported.items()))


def variable_name(output: str) -> str:
    """Return the variable name of an output, for example `TOPIC_ARN` for `TopicArn`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", output).upper()
