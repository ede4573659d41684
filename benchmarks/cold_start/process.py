"""One process of one function, from its start to its first answer."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cold_start.runtime_api import FunctionError, offering

# The CPU that a function of 128 MB gets while it answers; while it loads it has all of one.
QUOTA = 0.07
_PERIOD_S = 0.02
_LOOK_S = 0.0005
# Not the virtual environment's: nothing of it must be within reach.
PYTHON = Path(sys.executable).resolve()


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took."""

    first_answer_s: float
    cpu_s: float
    """Of its processor time: a busy machine adds less to it."""
    invocation_s: float
    peak_kib: int
    answer: Any


@dataclass(frozen=True, slots=True)
class Build:
    """A function as Lambda has it: its folder at /var/task, and what else is on the path, first things first."""

    task: Path
    path: tuple[Path, ...] = ()
    handler: str = "app.handler"


def run(build: Build, event: object, env: Mapping[str, str], *, throttled: bool = False) -> Run:
    """Start the function's process, let it answer one event, end it. Raises FunctionError when it doesn't."""
    started = threading.Event()
    throttle = _Throttle()

    def before() -> None:
        if throttled:
            started.wait()
            throttle.start()

    with offering(event, before) as (server, api):
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(PYTHON), "-S", "-m", "awslambdaric", build.handler],
            env={**environment_of(build), "AWS_LAMBDA_RUNTIME_API": server.host, **env},
            cwd=build.task,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        throttle.pid = process.pid
        started.set()
        try:
            answered, document = api.wait()
            cpu_s, peak_kib = _cpu_s(process.pid), _peak_kib(process.pid)
        except FunctionError as error:
            process.kill()
            raise FunctionError(
                f"{build.task}: {error}\n{(process.communicate()[1] or b'').decode()}"
            ) from None
        finally:
            throttle.stop()
            process.kill()
            process.communicate()
    return Run(answered - began, cpu_s, answered - api.invoked_at, peak_kib, document)


def environment_of(build: Build) -> dict[str, str]:
    """Return what Lambda itself would set."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        # /var/task and /opt can't be written to; what is there uncompiled stays so.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (build.task, *build.path))),
        "LAMBDA_TASK_ROOT": str(build.task),
        "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": "test",
    }


def _peak_kib(pid: int) -> int:
    """Return the most that was resident of a process; the kernel's own figure, which getrusage mixes with ours."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def _cpu_s(pid: int) -> float:
    """Return the processor time of another process: clock_getcpuclockid(3), which Python doesn't have."""
    return time.clock_gettime(~pid << 3 | 2)


class _Throttle:
    """Stops and continues a process so that it gets its quota of CPU; neither a cgroup nor root is needed."""

    def __init__(self) -> None:
        self.pid = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        began, used_before, stopped = time.monotonic(), _cpu_s(self.pid), False
        while not self._over.wait(_LOOK_S):
            # As the kernel does, it gets its share of a period at the period's start.
            periods = (time.monotonic() - began) // _PERIOD_S + 1
            spent = _cpu_s(self.pid) - used_before >= QUOTA * _PERIOD_S * periods
            if spent != stopped:
                os.kill(self.pid, signal.SIGSTOP if spent else signal.SIGCONT)
                stopped = spent
        if stopped:
            os.kill(self.pid, signal.SIGCONT)
