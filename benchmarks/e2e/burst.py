"""Runs hundreds of executions at the same time, and checks the result of each."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from benchmarks.e2e.notifications import ReceivedNotification, received
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient

_SENDERS = 12
_TIMEOUT_S = 300.0
_POLL_S = 0.5
_DUPLICATE_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Result of executions that were started together."""

    executions: int
    started_s: float
    wall_s: float
    """Seconds from the first start to the last notification."""
    notifications: tuple[ReceivedNotification, ...]
    starts: Counter[str]
    """Number of start requests at Waterflai by marker."""

    @property
    def accounted_for(self) -> int:
        """Number of executions with one COMPLETED notification and one job."""
        completed = Counter(each.marker for each in self.notifications if each.status == "COMPLETED")
        return sum(count == 1 and self.starts[marker] == 1 for marker, count in completed.items())


def burst(stack: StackClient, jobs: Sequence[Job]) -> Burst:
    """Start all jobs, and wait for all notifications or until the timeout."""
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
    notifications: list[ReceivedNotification] = []
    while len({each.marker for each in notifications}) < len(jobs) and time.time() - began < _TIMEOUT_S:
        pause(_POLL_S)
        notifications += received(stack)
    pause(_DUPLICATE_WAIT_S)  # a duplicate notification would arrive now
    notifications += received(stack)
    starts = Counter(each["input_data"]["marker"] for each in stack.waterflai("requests")["starts"])
    last = max((each.arrived_at for each in notifications), default=began)
    return Burst(len(jobs), started_s, last - began, tuple(notifications), starts)
