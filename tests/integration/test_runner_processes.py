"""The runner's processes: they end with their children, and nobody else's ends."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.runner import processes
from local.runner.crew import Crew
from local.runner.errors import RunnerError
from local.runner.processes import Child, Identity, end
from local.runner.stack import LocalStack
from tests.support.waiting import until

# Starts a child of its own, tells its id, and stays.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
SLEEPER = "import time; time.sleep(60)"

type Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[Child] = []

    def start(code: str) -> Child:
        log = tmp_path / f"{len(children)}.log"
        child = processes.start("fake", [sys.executable, "-c", code], env={}, cwd=tmp_path, log=log)
        children.append(child)
        return child

    yield start
    for child in children:
        child.popen.kill()
        child.popen.wait()


def first_line(child: Child) -> str:
    return until(lambda: text if (text := child.log.read_text()).endswith("\n") else None, 20).strip()


def test_a_process_ends_with_its_children(start: Start) -> None:
    parent = start(PARENT)
    grandchild = Identity.of("grandchild", int(first_line(parent)))
    assert grandchild.is_alive()
    end([parent.identity])
    assert not parent.identity.is_alive()
    assert not grandchild.is_alive()


def test_a_process_that_ignores_the_polite_signal_is_killed(start: Start) -> None:
    stubborn = start(STUBBORN)
    assert first_line(stubborn) == "deaf"
    end([stubborn.identity], patience_s=0.2)
    assert stubborn.exit_code() == -signal.SIGKILL


def test_a_process_that_took_over_a_recorded_id_is_let_be(start: Start) -> None:
    stranger = start(SLEEPER)
    stale = Identity("ministack", stranger.identity.pid, started="long ago")
    assert not stale.is_alive()
    end([stale])
    assert stranger.identity.is_alive()


def test_a_process_that_has_ended_is_gone_even_while_nobody_has_asked_for_its_exit_code(start: Start) -> None:
    child = start("")
    until(lambda: not child.identity.is_alive(), 20)
    end([child.identity])


def test_ps_tells_the_same_of_a_process_as_proc_does(start: Start) -> None:
    if not (Path("/proc/self/stat").exists() and shutil.which("ps")):
        pytest.skip("needs both /proc and ps")
    child = start(SLEEPER)
    row = processes._table_from_ps()[child.identity.pid]  # noqa: SLF001  # macOS has no other
    assert (row.group, row.zombie) == (child.identity.pid, False)
    assert row.started


def test_a_crew_is_in_its_file_from_the_start_and_out_of_it_at_the_end(start: Start, tmp_path: Path) -> None:
    crew = Crew(tmp_path / "state.json")
    child = crew.launch(lambda: start(SLEEPER))
    assert Crew.load(crew.path).members == [child.identity]
    assert crew.end()
    assert not crew.path.exists()
    assert not crew.end()


def test_a_failed_command_is_reported_with_the_end_of_its_log(start: Start, tmp_path: Path) -> None:
    crew = Crew(tmp_path / "state.json")
    child = crew.launch(lambda: start("raise SystemExit('no such bucket')"))
    with pytest.raises(RunnerError, match="fake failed\nno such bucket"):
        crew.finish(child, timeout_s=20)


def test_a_command_that_takes_too_long_is_reported(start: Start, tmp_path: Path) -> None:
    crew = Crew(tmp_path / "state.json")
    child = crew.launch(lambda: start(SLEEPER))
    with pytest.raises(RunnerError, match="fake took longer than 0 s"):
        crew.finish(child, timeout_s=0.1)
    crew.end()


def test_down_ends_what_a_killed_runner_has_left_and_is_safe_to_repeat(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tmp" / "ministack-lambda-start-x").mkdir(parents=True)
    (home / "outputs.json").write_text('{"half": ')
    left = Crew(home / "state.json").launch(lambda: start(PARENT))  # by a runner that is no more
    assert LocalStack(home).running() is None
    assert LocalStack(home).down()
    assert not left.identity.is_alive()
    assert [path.name for path in home.iterdir()] == ["lock"]
    assert not LocalStack(home).down()


@pytest.mark.parametrize("text", ["", '{"members": [{"na', "[]", '{"members": [{"pid": 1}]}'])
def test_a_state_file_that_makes_no_sense_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert Crew.load(tmp_path / "state.json").members == []
    assert not LocalStack(tmp_path).down()


# What the command line does with signals, without what it starts.
WAITING = """
import sys
from local.runner import interrupts
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
