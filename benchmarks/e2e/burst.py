"""Hundreds of executions at once, and an account of each."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from benchmarks.e2e.notifications import Heard, received
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient

_SENDERS = 12
_LIMIT_S = 300.0
_POLL_S = 0.5
_ON_ITS_WAY_S = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of so many executions started together."""

    executions: int
    started_s: float
    wall_s: float
    """From the first start to the last notification."""
    heard: tuple[Heard, ...]
    starts: Counter[str]
    """Starts that the upstream saw, by marker."""

    @property
    def accounted_for(self) -> int:
        """Executions that were told of once, as completed, and started one job."""
        told = Counter(each.marker for each in self.heard if each.status == "COMPLETED")
        return sum(count == 1 and self.starts[marker] == 1 for marker, count in told.items())


def burst(stack: StackClient, jobs: Sequence[Job]) -> Burst:
    """Start them all and wait for all their notifications, or for as long as that may take."""
    stack.waterflai("reset", {})

    def start(job: Job) -> str:
        request = {
            "chatbot_id": "support-chat",
            "input_data": job.input_data,
            "metadata": {"marker": job.marker},
        }
        return stack.start_execution(request)

    began = time.time()
    with ThreadPoolExecutor(_SENDERS) as pool:
        list(pool.map(start, jobs))
    started_s = time.time() - began
    heard: list[Heard] = []
    while len({each.marker for each in heard}) < len(jobs) and time.time() - began < _LIMIT_S:
        pause(_POLL_S)
        heard += received(stack)
    pause(_ON_ITS_WAY_S)  # a second notification of one execution would be on its way
    heard += received(stack)
    starts = Counter(each["input_data"]["marker"] for each in stack.waterflai("requests")["starts"])
    last = max((each.arrived_at for each in heard), default=began)
    return Burst(len(jobs), started_s, last - began, tuple(heard), starts)
