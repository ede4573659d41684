"""Commands of the AWS CLI as documents and hints hold them, and what the AWS CLI itself makes of them."""

import json
import re
import shlex
import subprocess

from local.local_aws import environment

_SCRIPT = environment.ROOT / "tests" / "support" / "aws_cli.py"
_PYTHON = environment.ROOT / ".venv-awscli" / "bin" / "python"


def words(command: str) -> list[str]:
    """Return the words after `aws`; a word stands for each variable."""
    return shlex.split(re.sub(r"\$[A-Z_]+", "name", command), comments=True)[1:]


def refusals(commands: list[list[str]]) -> list[str | None]:
    """Return what the AWS CLI prints of each command that it refuses, None where it accepts it; nothing is sent.

    All in one process: starting the AWS CLI takes longer than reading a command.
    """
    done = subprocess.run(
        [_PYTHON, "-I", _SCRIPT],
        input=json.dumps(commands),
        cwd=environment.ROOT,  # file://events/…
        env=environment.for_tools(),
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str | None] = json.loads(done.stdout)
    return found


def refused(commands: list[str]) -> dict[str, str]:
    """Return the commands that the AWS CLI refuses, each with what it prints."""
    found = refusals([words(command) for command in commands])
    return {command: why for command, why in zip(commands, found, strict=True) if why is not None}
