"""Commands of the AWS CLI, as documents and hints have them, and which of them the AWS CLI accepts."""

import re
import shlex
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

from local.local_aws import environment

_AWS = environment.ROOT / "local" / "bin" / "aws"
_ACCEPTED = "Could not connect to the endpoint URL"


def refused(commands: list[str]) -> dict[str, str]:
    """Return the commands that the AWS CLI refuses, each with what it prints.

    The endpoint of all services is a port that nothing listens on, so nothing is sent. A command is accepted once
    the AWS CLI has built a request from it and tries to connect.
    """
    with socket.socket() as unused, ThreadPoolExecutor(max_workers=4) as threads:
        unused.bind(("127.0.0.1", 0))  # keeps the port from other processes
        env = environment.for_tools(f"http://127.0.0.1:{unused.getsockname()[1]}") | {"AWS_MAX_ATTEMPTS": "1"}

        def printed(command: str) -> str:
            done = subprocess.run(
                [_AWS, *_words(command)],
                cwd=environment.ROOT,  # file://events/…
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            return done.stdout

        answers = dict(zip(commands, threads.map(printed, commands), strict=True))
    return {command: text for command, text in answers.items() if _ACCEPTED not in text}


def _words(command: str) -> list[str]:
    """Return the words after `aws`, with a value for each variable."""
    return shlex.split(re.sub(r"\$[A-Z_]+", "name", command), comments=True)[1:]
