"""Checks commands of documents and hints with the AWS CLI, without sending a request."""

import json
import re
import shlex
import socket
import subprocess

from local.local_aws import environment

_PYTHON = environment.ROOT / ".venv-awscli" / "bin" / "python"
_ACCEPTED = "Could not connect to the endpoint URL"
# One process for all commands: the start of the AWS CLI takes longer than a command.
_RUN_ALL = """
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver

outputs = []
for words in json.load(sys.stdin):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
        create_clidriver().main(words)
    outputs.append(output.getvalue())
print(json.dumps(outputs))
"""


def refused(commands: list[str]) -> dict[str, str]:
    """Return the commands that the AWS CLI refuses, each with what it prints.

    The endpoint of all services is an unused port, so no request is sent. A command is valid if the AWS CLI builds
    a request from it and tries to connect.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # reserves the port
        endpoint_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = subprocess.run(
            [_PYTHON, "-I", "-c", _RUN_ALL],
            cwd=environment.ROOT,  # file://events/…
            env=environment.for_tools(endpoint_url) | {"AWS_MAX_ATTEMPTS": "1"},
            # The option, because version 1 ignores AWS_ENDPOINT_URL for SQS.
            input=json.dumps([["--endpoint-url", endpoint_url, *_words(command)] for command in commands]),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    outputs = dict(zip(commands, json.loads(result.stdout), strict=True))
    return {command: text for command, text in outputs.items() if _ACCEPTED not in text}


def _words(command: str) -> list[str]:
    """Return the words after `aws`, with a value for each variable."""
    return shlex.split(re.sub(r"\$[A-Z_]+", "name", command), comments=True)[1:]
