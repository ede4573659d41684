"""Runs one process of a function, from its start to its first response."""

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

# Fraction of a CPU that a function of 128 MB has during an invocation. During its start it has a whole CPU.
QUOTA = 0.07
_PERIOD_S = 0.02
_CHECK_INTERVAL_S = 0.0005
# The base interpreter, because the packages of the virtual environment must not be importable.
PYTHON = Path(sys.executable).resolve()


@dataclass(frozen=True, slots=True)
class Run:
    """Measurements of one process."""

    first_response_s: float
    cpu_s: float
    """Processor time, which depends less on the load of the machine."""
    invocation_s: float
    peak_kib: int
    response: Any


@dataclass(frozen=True, slots=True)
class Build:
    """A function as in Lambda: the folder /var/task, and the other folders of the Python path in their order."""

    task: Path
    path: tuple[Path, ...] = ()
    handler: str = "app.handler"


def run(build: Build, event: object, env: Mapping[str, str], *, throttled: bool = False) -> Run:
    """Start the process, send it one event, and end it after its response. Raises FunctionError if it fails."""
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
            responded_at, document = api.wait()
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
    return Run(responded_at - began, cpu_s, responded_at - api.invoked_at, peak_kib, document)


def environment_of(build: Build) -> dict[str, str]:
    """Return the environment variables that Lambda sets."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        # /var/task and /opt are read-only in Lambda, so Python can't write bytecode there.
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
    """Return the peak resident memory of a process in KiB. getrusage would include this process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def _cpu_s(pid: int) -> float:
    """Return the processor time of another process in seconds, as clock_getcpuclockid(3), which Python lacks."""
    return time.clock_gettime(~pid << 3 | 2)


class _Throttle:
    """Limits the CPU of a process with SIGSTOP and SIGCONT. Needs neither a cgroup nor root."""

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
        while not self._over.wait(_CHECK_INTERVAL_S):
            # Like with the scheduler of the kernel, the process has its quota at the beginning of each period.
            periods = (time.monotonic() - began) // _PERIOD_S + 1
            is_used_up = _cpu_s(self.pid) - used_before >= QUOTA * _PERIOD_S * periods
            if is_used_up != stopped:
                os.kill(self.pid, signal.SIGSTOP if is_used_up else signal.SIGCONT)
                stopped = is_used_up
        if stopped:
            os.kill(self.pid, signal.SIGCONT)
