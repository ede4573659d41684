"""Processes of the local AWS end with their children. No other process is ended."""

import signal
import subprocess
import sys

from local.local_aws.environment import ROOT
from local.local_aws.processes import ProcessIdentity, end_processes
from tests.support.waiting import until
from tests.unit.local.local_aws.children import ORPHANING, PARENT, SLEEPER, STUBBORN, Start, first_line


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


def test_a_process_with_the_reused_id_of_a_recorded_process_is_not_ended(start: Start) -> None:
    other = start(SLEEPER)
    stale = ProcessIdentity("ministack", other.identity.pid, started="long ago")
    assert not stale.is_alive()
    end_processes([stale])
    assert other.identity.is_alive()


def test_a_zombie_is_not_alive(start: Start) -> None:
    child = start("")
    until(lambda: not child.identity.is_alive())
    end_processes([child.identity])


def test_another_command_identifies_the_process(start: Start) -> None:
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
