"""Signals end a command only while it waits."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.local_aws.files import locked

# A program that handles signals like the command line.
WAITING = """
import sys
from local.local_aws import interrupts
interrupts.install()
try:
    print("ready", flush=True)
    {body}
except KeyboardInterrupt:
    sys.exit(interrupts.EXIT_CODE)
"""


def interrupted(body: str, signum: signal.Signals) -> tuple[int, str]:
    """Send the signal to a program in `body`; return its exit code and its output after the signal."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signum)
        return program.wait(20), program.stdout.read()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_ends_a_pause_with_130_and_no_traceback(signum: signal.Signals) -> None:
    assert interrupted("interrupts.pause(60)", signum) == (130, "")


def test_a_signal_ends_the_wait_for_a_lock_that_another_process_holds(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock):
        body = (
            "from pathlib import Path; from local.local_aws.files import locked\n"
            f"    with locked(Path({str(lock)!r})): print('locked', flush=True)"
        )
        assert interrupted(body, signal.SIGINT) == (130, "")


def test_a_signal_does_not_interrupt_work() -> None:
    body = "import time; time.sleep(0.5); print('done', flush=True); interrupts.pause(60)"
    assert interrupted(body, signal.SIGTERM) == (130, "done\n")


def test_ignored_signals_do_not_end_a_command() -> None:
    # Without ignore(), a second signal after more than a second ends a command that is still working.
    body = (
        "import os, signal, time; interrupts.ignore(); os.kill(os.getpid(), signal.SIGINT); time.sleep(1.2); "
        "os.kill(os.getpid(), signal.SIGTERM); interrupts.pause(0.1); print('done', flush=True)"
    )
    assert interrupted(body, signal.SIGINT) == (0, "done\n")
