"""Processes of the local AWS: they end with their children, and no other process ends."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.local_aws import processes
from local.local_aws.deployment import LocalDeployment
from local.local_aws.environment import ROOT
from local.local_aws.errors import CommandError
from local.local_aws.files import locked
from local.local_aws.process_group import ProcessGroup
from local.local_aws.processes import ChildProcess, ProcessIdentity, end_processes
from tests.support.waiting import until

# Starts a child, prints its id, and keeps running.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
# Starts a child, prints its id, and ends.
ORPHANING = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""
SLEEPER = "import time; time.sleep(60)"

type Start = Callable[[str], ChildProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[ChildProcess] = []

    def start(code: str) -> ChildProcess:
        log = tmp_path / f"{len(children)}.log"
        child = processes.start_process("fake", [sys.executable, "-c", code], env={}, cwd=tmp_path, log=log)
        children.append(child)
        return child

    yield start
    for child in children:
        child.popen.kill()
        child.popen.wait()


def first_line(child: ChildProcess) -> str:
    def line() -> str | None:
        text = child.log.read_text()
        return text.strip() if text.endswith("\n") else None

    return until(line)


def test_a_process_ends_with_its_children(start: Start) -> None:
    parent = start(PARENT)
    grandchild = ProcessIdentity.of("grandchild", int(first_line(parent)))
    assert grandchild.is_alive()
    end_processes([parent.identity])
    assert not parent.identity.is_alive()
    assert not grandchild.is_alive()


def test_a_process_that_ignores_sigterm_is_killed(start: Start) -> None:
    stubborn = start(STUBBORN)
    assert first_line(stubborn) == "ready"
    end_processes([stubborn.identity], patience_s=0.2)
    assert stubborn.exit_code() == -signal.SIGKILL


def test_a_process_that_has_the_id_of_a_recorded_one_is_not_ended(start: Start) -> None:
    stranger = start(SLEEPER)
    stale = ProcessIdentity("ministack", stranger.identity.pid, started="long ago")
    assert not stale.is_alive()
    end_processes([stale])
    assert stranger.identity.is_alive()


def test_a_zombie_is_not_alive(start: Start) -> None:
    child = start("")
    until(lambda: not child.identity.is_alive())
    end_processes([child.identity])


def test_a_process_is_identified_alike_by_another_command(start: Start) -> None:
    child = start(SLEEPER)
    read = f"from local.local_aws.processes import ProcessIdentity as P; print(P.of('', {child.identity.pid}).started)"
    command = [sys.executable, "-c", read]
    assert subprocess.check_output(command, text=True, cwd=ROOT).strip() == child.identity.started


def test_a_process_whose_parent_has_ended_ends_with_its_group(start: Start) -> None:
    other = start(SLEEPER)
    grandparent = start(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHANING!r}]); {SLEEPER}"
    )
    orphan = ProcessIdentity.of("orphan", int(first_line(grandparent)))
    end_processes([grandparent.identity])
    assert not orphan.is_alive()
    assert other.identity.is_alive()


def test_a_process_is_in_the_group_s_file_until_it_is_ended(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start(SLEEPER))
    assert ProcessGroup.load(group.path).members == [child.identity]
    assert group.end()
    assert not group.path.exists()
    assert not group.end()


def test_a_failed_command_is_reported_with_the_end_of_its_log(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start("raise SystemExit('no such bucket')"))
    with pytest.raises(CommandError, match="fake failed\nno such bucket"):
        group.wait_for_exit(child, timeout_s=20)


def test_a_command_that_takes_too_long_is_reported(start: Start, tmp_path: Path) -> None:
    group = ProcessGroup(tmp_path / "state.json")
    child = group.launch(lambda: start(SLEEPER))
    with pytest.raises(CommandError, match="fake still runs after 0 s"):
        group.wait_for_exit(child, timeout_s=0.1)
    group.end()


def test_down_ends_what_a_killed_command_has_left_and_can_be_repeated(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tmp" / "ministack-lambda-start-x").mkdir(parents=True)
    (home / "outputs.json").write_text('{"half": ')
    left = ProcessGroup(home / "state.json").launch(lambda: start(PARENT))  # by a command that was killed
    assert LocalDeployment(home).running() is None
    assert LocalDeployment(home).down()
    assert not left.identity.is_alive()
    assert [path.name for path in home.iterdir()] == ["lock"]
    assert not LocalDeployment(home).down()


@pytest.mark.parametrize("text", ["", '{"members": [{"na', "[]", '{"members": [{"pid": 1}]}'])
def test_an_unreadable_state_file_is_an_empty_group(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert ProcessGroup.load(tmp_path / "state.json").members == []
    assert not LocalDeployment(tmp_path).down()


# What the command line does with signals, without what it starts.
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
    """The exit code of a program that got the signal while in `body`, and what it printed after that."""
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


def test_a_signal_never_cuts_into_what_is_being_done() -> None:
    body = "import time; time.sleep(0.5); print('done', flush=True); interrupts.pause(60)"
    assert interrupted(body, signal.SIGTERM) == (130, "done\n")


def test_no_signal_ends_what_must_run_to_its_end() -> None:
    # The second signal, after more than a second, else ends what does not react to the first.
    body = (
        "import os, signal, time; interrupts.ignore(); os.kill(os.getpid(), signal.SIGINT); time.sleep(1.2); "
        "os.kill(os.getpid(), signal.SIGTERM); interrupts.pause(0.1); print('done', flush=True)"
    )
    assert interrupted(body, signal.SIGINT) == (0, "done\n")
