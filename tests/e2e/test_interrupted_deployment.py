"""A deployment that is interrupted in each of its phases leaves no process."""

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

pytestmark = pytest.mark.e2e

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
def test_ctrl_c_during_a_deployment_ends_all_its_processes(tmp_path: Path, phase: str) -> None:
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-c", UP, str(home)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as runner:
        group = wait_for(home, phase, runner)
        runner.send_signal(signal.SIGINT)
        _, errors = runner.communicate(timeout=60)
    assert (runner.returncode, errors) == (130, "")
    assert not [member.name for member in group.members if member.is_alive()]
    # The certificate authority of the local stack is created before `sam deploy`, and stays.
    assert {path.name for path in home.iterdir()} - {"authority"} == {"lock", "log"}


def test_down_ends_the_processes_of_a_killed_deployment(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with subprocess.Popen([sys.executable, "-c", UP, str(home)], cwd=ROOT) as runner:
        group = wait_for(home, "sam deploy", runner)
        os.kill(runner.pid, signal.SIGKILL)
    assert [member.name for member in group.members if member.is_alive()]
    assert LocalDeployment(home).down()
    assert not [member.name for member in group.members if member.is_alive()]


def wait_for(home: Path, phase: str, runner: subprocess.Popen[str] | subprocess.Popen[bytes]) -> ProcessGroup:
    """Return the process group once it contains the phase's process. Other deployments may come first."""

    def group() -> ProcessGroup | None:
        loaded = ProcessGroup.load(home / "state.json")
        if phase in {member.name for member in loaded.members}:
            return loaded
        assert runner.poll() is None, f"the runner ended before {phase}"
        return None

    return until(group, 100, pause_s=0.02)
