"""Starts and stops processes. Each process leads a process group, and has its id and start time as identity."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from .waiting import wait_for

_POLL_S = 0.02
_ENDED = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identity of a process. The start time distinguishes it from a later process with the same id."""

    name: str
    pid: int
    started: str
    """Start time in seconds. Empty if the process had already ended."""

    @classmethod
    def of(cls, name: str, pid: int) -> Self:
        """Return the identity of the current process with this id."""
        try:
            return cls(name, pid, _start_time(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return cls(name, pid, "")

    @classmethod
    def current(cls) -> Self:
        """Return the identity of this process."""
        return cls.of("owner", os.getpid())

    def is_alive(self) -> bool:
        """Return whether the process still runs. A zombie does not count as running."""
        try:
            process = psutil.Process(self.pid)
            return _start_time(process) == self.started and process.status() not in _ENDED
        except psutil.NoSuchProcess:
            return False


def _start_time(process: psutil.Process) -> str:
    """Return the start time of a process. The value is stable over time and between readers."""
    started = process.create_time()
    if psutil.LINUX:
        # The time of psutil changes when the clock is adjusted, for example after suspend.
        started -= psutil.boot_time()
    return f"{started:.2f}"


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A child process with its log file."""

    popen: subprocess.Popen[bytes]
    identity: ProcessIdentity
    log: Path

    def exit_code(self) -> int | None:
        """Return the exit code (negative: number of the signal that ended it), or None while it runs."""
        return self.popen.poll()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code. Raises TimeoutError if it still runs after `timeout_s` seconds."""
        wait_for(
            lambda: self.exit_code() is not None,
            timeout_s=timeout_s,
            interval_s=_POLL_S,
            message=f"{self.identity.name} still runs",
        )
        return int(self.popen.returncode)

    def log_tail(self, count: int = 15) -> str:
        """Return the last lines of the log and the path of the log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(
            [*(line for line in lines[-count:] if line.strip()), f"The complete log is in {self.log}"]
        )


def start_process(
    name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
) -> ChildProcess:
    """Start a process in its own session, so that Ctrl-C does not reach it. Its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return ChildProcess(popen, ProcessIdentity.of(name, popen.pid), log)


def end_processes(processes: Iterable[ProcessIdentity], patience_s: float = 4.0) -> None:
    """Stop processes and their process groups: with SIGTERM, and after `patience_s` seconds with SIGKILL.

    A process that has ended is skipped, even if a later process has the same id.
    """
    # By group, because the process tree of psutil lacks processes whose parent has ended.
    groups = {process.pid for process in processes if process.is_alive()}
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, only zombies left
                os.killpg(group, signum)
        groups = _left_after(patience_s, groups)


def _left_after(timeout_s: float, groups: set[int]) -> set[int]:
    """Wait up to `timeout_s` for the end of process groups. Return the groups that still have a running process."""
    with suppress(TimeoutError):
        wait_for(
            lambda: not _with_members(groups),
            timeout_s=timeout_s,
            interval_s=_POLL_S,
            message="processes still run",
            sleep=time.sleep,  # no KeyboardInterrupt here: a signal is a frequent reason to stop processes
        )
        return set()
    return _with_members(groups)


def _with_members(groups: set[int]) -> set[int]:
    """Return the process groups that still have a running process."""
    running = set()
    for process in psutil.process_iter() if groups else ():
        with suppress(OSError, psutil.Error):  # the process has ended, or belongs to another user
            group = os.getpgid(process.pid)
            if group in groups and process.status() not in _ENDED:
                running.add(group)
    return running
