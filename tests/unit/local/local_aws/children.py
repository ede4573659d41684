"""Programs that tests start as processes."""

from collections.abc import Callable

from local.local_aws.processes import ChildProcess
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


def first_line(child: ChildProcess) -> str:
    def line() -> str | None:
        text = child.log.read_text()
        return text.strip() if text.endswith("\n") else None

    return until(line)
