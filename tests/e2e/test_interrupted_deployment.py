"""Starting a stack, interrupted for real in each phase: nothing is left of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.local_aws.deployment import LocalDeployment
from local.local_aws.environment import ROOT
from local.local_aws.process_group import ProcessGroup
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # needs the local AWS's environment, and seconds

UP = """
import os, sys
from pathlib import Path
from local.local_aws import environment, interrupts
from local.local_aws.deployment import LocalDeployment
interrupts.install()
environment.isolate(os.environ)
try:
    LocalDeployment(Path(sys.argv[1])).up()
except KeyboardInterrupt:
    sys.exit(interrupts.EXIT_CODE)
"""


@pytest.mark.parametrize("phase", ["ministack", "waterflai", "sam deploy"])
def test_an_interrupt_while_it_starts_leaves_nothing_behind(tmp_path: Path, phase: str) -> None:
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(home)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as runner:
        group = wait_for(home, phase, runner)
        runner.send_signal(signal.SIGINT)
        _, errors = runner.communicate(timeout=60)
    assert (runner.returncode, errors) == (130, "")
    assert not [member.name for member in group.members if member.is_alive()]
    assert sorted(path.name for path in home.iterdir()) == ["lock", "log"]


def test_a_killed_runner_leaves_a_stack_that_down_finds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with subprocess.Popen([sys.executable, "-c", UP, str(home)], cwd=ROOT) as runner:
        group = wait_for(home, "sam deploy", runner)
        os.kill(runner.pid, signal.SIGKILL)
    assert [member.name for member in group.members if member.is_alive()]
    assert LocalDeployment(home).down()
    assert not [member.name for member in group.members if member.is_alive()]


def wait_for(home: Path, phase: str, runner: subprocess.Popen[str] | subprocess.Popen[bytes]) -> ProcessGroup:
    """The group once the phase's process is among them. Stacks take turns, so it may take its time."""

    def group() -> ProcessGroup | None:
        found = ProcessGroup.load(home / "state.json")
        if phase in {member.name for member in found.members}:
            return found
        assert runner.poll() is None, f"the runner ended before {phase}"
        return None

    return until(group, 100, pause_s=0.02)
