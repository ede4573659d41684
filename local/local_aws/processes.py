"""Processes of our own: each leads a group, is known by id and start time, and is ended with its children."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .interrupts import pause

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the process table."""

    group: int
    started: str
    zombie: bool


def _row_from_proc(entry: Path) -> _Row | None:
    try:
        stat = (entry / "stat").read_text()
    except OSError:  # it ended while we were reading
        return None
    # The name, in parentheses, may hold spaces and parentheses itself: what counts starts after the last one.
    state, _parent, group, *rest = stat.rpartition(")")[2].split()
    return _Row(group=int(group), started=rest[16], zombie=state in "ZX")


def _table_from_ps() -> dict[int, _Row]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat=,lstart="],  # noqa: S607  # macOS: wherever ps is
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.split(maxsplit=3) for line in listing.splitlines())
    return {int(pid): _Row(int(group), started, "Z" in stat) for pid, group, stat, started in rows}


def _table() -> dict[int, _Row]:
    """The live processes by id; zombies count as gone."""
    if Path("/proc/self/stat").exists():
        rows = {int(e.name): _row_from_proc(e) for e in Path("/proc").iterdir() if e.name.isdigit()}
    else:
        rows = dict(_table_from_ps())
    return {pid: row for pid, row in rows.items() if row and not row.zombie}


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later one can be taken for: ids are reused, an id with its start time is not."""

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, name: str, pid: int) -> Self:
        """The identity of a running process; `started` is empty when it has ended already."""
        row = _table().get(pid)
        return cls(name, pid, row.started if row else "")

    @classmethod
    def own(cls) -> Self:
        """The identity of this process."""
        return cls.of("owner", os.getpid())

    def is_alive(self) -> bool:
        """True while this very process runs."""
        row = _table().get(self.pid)
        return row is not None and row.started == self.started


def start(name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> "Child":
    """A process in a session of its own, so that Ctrl-C is ours to pass on; its output goes to `log`."""
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
    return Child(popen, Identity.of(name, popen.pid), log)


@dataclass(frozen=True, slots=True)
class Child:
    """A process this one has started, with the log it writes."""

    popen: subprocess.Popen[bytes]
    identity: Identity
    log: Path

    def exit_code(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        return self.popen.poll()

    def wait(self, timeout_s: float) -> int:
        """The exit code; raises TimeoutError when it runs on after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (code := self.exit_code()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.identity.name} took longer than {timeout_s:.0f} s")
            pause(_POLL_S)
        return code

    def trail(self, count: int = 15) -> str:
        """The end of its log and where the rest is, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([*(line for line in lines[-count:] if line.strip()), f"The whole log: {self.log}"])


def end(processes: Iterable[Identity], patience_s: float = 4.0) -> None:
    """End these processes and their groups, politely, then not; an id that is another's by now is let be."""
    table = _table()
    groups = {p.pid for p in processes if p.pid in table and table[p.pid].started == p.started}
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, only zombies left
                os.killpg(group, signum)
        deadline = time.monotonic() + patience_s
        while groups and time.monotonic() < deadline:
            groups &= {row.group for row in _table().values()}
            time.sleep(_POLL_S if groups else 0)
