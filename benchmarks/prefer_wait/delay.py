"""Measures the delay of answers to waiting callers and of notifications by SNS, both for the same executions."""

import random
import time
from dataclasses import dataclass

import httpx

from benchmarks.e2e.jobs import SEED, Job
from benchmarks.e2e.notifications import QueueConsumer
from local.local_aws.errors import ToolError
from local.local_aws.stack_client import StackClient
from local.local_aws.waiting import wait_for
from waterhook.timestamps import to_epoch_s

_WAIT_S = 20
_TIMEOUT_S = 30.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds from the completion of a job, by the simulator's clock, to its result."""

    sns_s: float
    """At a consumer of the queue that is subscribed to the topic."""
    answer_s: float
    """At the caller that waited."""


def measure(stack: StackClient, executions: int) -> list[Delay]:
    """Run executions one after the other and return their delays. The first two, with cold starts, are not counted.

    Raises ToolError if an execution is not answered with its outcome, or if its notification does not arrive.
    """
    generator = random.Random(SEED)  # noqa: S311  # not used for security
    # Different durations, so that the ends of the jobs have no fixed place between two reads of the record.
    jobs = [Job(f"wait-{number}", round(generator.uniform(1.0, 3.0), 2)) for number in range(executions + 2)]
    with QueueConsumer(stack) as consumer:
        return [_run(stack, consumer, job) for job in jobs][2:]


def _run(stack: StackClient, consumer: QueueConsumer, job: Job) -> Delay:
    answer = stack.post("support-chat", {"input_data": job.input_data}, prefer=f"wait={_WAIT_S}")
    answered_at = time.time()
    if answer.status_code != httpx.codes.OK:
        raise ToolError(f"{job.marker}: {answer.status_code} {answer.text}")
    document = answer.json()
    completed_at = to_epoch_s(document["completed_at"]) or 0.0
    arrived_at = wait_for(
        lambda: consumer.arrived_at.get(document["execution_id"]),
        timeout_s=_TIMEOUT_S,
        interval_s=_POLL_S,
        message=f"{job.marker}: the notification did not arrive",
    )
    return Delay(arrived_at - completed_at, answered_at - completed_at)
