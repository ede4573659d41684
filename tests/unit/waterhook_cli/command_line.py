"""Runs the CLI in a test: in this process, in a terminal, in a pipe."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryDirectory

from click.testing import CliRunner, Result

from tests.fakes.deployed_stack import DeployedStack
from waterhook_cli.main import cli

COMMAND = [sys.executable, "-m", "waterhook_cli"]


def environment(stack: DeployedStack) -> dict[str, str]:
    """The environment of a process that runs the CLI against a stack."""
    inherited = {name: value for name, value in os.environ.items() if name != "WATERHOOK_OUTPUT"}
    return inherited | stack.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}


def run(
    *arguments: str,
    on: DeployedStack | None = None,
    stdin: str | None = None,
    env: Mapping[str, str | None] | None = None,
) -> Result:
    """Run the CLI in this process; the result has its exit code, stdout and stderr."""
    variables = {
        "WATERHOOK_DEBUG": None,
        "WATERHOOK_OUTPUT": None,
        **(on.environment if on else {}),
        **(env or {}),
    }
    runner = CliRunner(mix_stderr=False, env=variables)
    # In an empty folder: the outputs file of a running local stack must not be found.
    with runner.isolated_filesystem():
        result = runner.invoke(cli, arguments, input=stdin, prog_name="waterhook")
    assert "Traceback" not in result.stderr
    return result


def run_in_terminal(
    *arguments: str, on: DeployedStack, typed: str = "", columns: int = 60
) -> tuple[int, str]:
    """Run the CLI in a terminal of that width; return the exit code and the output.

    `typed` is the user's input.
    """
    controller, terminal = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            env=environment(on) | {"TERM": "dumb", "NO_COLOR": "1"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        os.write(controller, typed.encode())
        screen = b""
        with suppress(OSError):  # EIO: the last process with the terminal open has ended
            while read := os.read(controller, 65536):
                screen += read
        os.close(controller)
        return process.wait(), screen.decode().replace("\r\n", "\n")


def run_in_pipe(
    *arguments: str, on: DeployedStack, reader: str, target: str = "/dev/stdout"
) -> tuple[list[int], str]:
    """Run the CLI in front of a pipe; return the exit codes of the CLI and of `reader`, and stderr."""
    script = f'"$@" > {target} | {reader}; echo "${{PIPESTATUS[@]}}" >&3'
    read, write = os.pipe()
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["bash", "-c", f"exec 3>&{write}; {script}", "bash", *COMMAND, *arguments],  # noqa: S607  # from PATH
            cwd=folder,
            env=environment(on),
            pass_fds=[write],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write)
        _, stderr = process.communicate(timeout=60)
        with os.fdopen(read) as codes:
            return [int(code) for code in codes.read().split()], stderr
