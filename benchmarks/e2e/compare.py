"""Runs each job twice at the same time: with the deployed stack and with the job poller."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from benchmarks.e2e.notifications import received
from benchmarks.e2e.poller import StatusPoller
from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient
from waterhook.timestamps import to_epoch_s

# Fewer than the concurrent executions of the local AWS, so that neither of the two waits for a free function.
WAVE = 8
_MAX_WAIT_S = 90.0
_DELIVERY_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements of one execution."""

    delay_s: float
    """Seconds from the completion of the job, by the simulator's clock. For Waterhook until its notification is in the
    queue. For the poller, which publishes nothing, until its state machine execution ends."""
    transitions: int
    """Number of entered states in the history."""
    requests: int
    """Number of requests to Waterflai after the start. A stream counts as one request."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The measurements of one job with Waterhook and with the poller."""

    job: Job
    waterhook: Measurement
    poller: Measurement


def warm_up(stack: StackClient, poller: StatusPoller) -> None:
    """Run short jobs, so that no measured job has a cold start."""
    jobs = [Job(f"warm-{number}", 1.0) for number in range(WAVE)]
    _run(stack, poller, jobs)
    list(received(stack))


def compare(stack: StackClient, poller: StatusPoller, jobs: Sequence[Job]) -> list[Pair]:
    """Run all jobs and return the measurements. Raises ToolError if a job did not complete."""
    arns: dict[str, tuple[str, str]] = {}
    for first in range(0, len(jobs), WAVE):
        arns |= _run(stack, poller, jobs[first : first + WAVE])
    pause(_DELIVERY_WAIT_S)
    upstream = {each["execution_id"]: each for each in stack.waterflai("executions")["executions"]}
    notifications = {each.marker: each for each in received(stack)}
    pairs = []
    for job in jobs:
        waterhook_arn, poller_arn = arns[job.marker]
        notification = notifications.get(job.marker)
        execution = stack.stepfunctions.describe_execution(executionArn=poller_arn)
        if notification is None or notification.status != "COMPLETED" or execution["status"] != "SUCCEEDED":
            raise ToolError(
                f"job {job.marker} did not complete: notification {notification}, poller {execution['status']}"
            )
        document = upstream[poller.job_of(execution)]
        completed_at = to_epoch_s(document["completed_at"]) or 0.0
        ended_at = stack.history(poller_arn)[-1]["timestamp"].timestamp()
        pairs.append(
            Pair(
                job,
                Measurement(
                    notification.delay_s,
                    len(stack.states(waterhook_arn)),
                    _requests_after_start(upstream[notification.upstream_id]),
                ),
                Measurement(
                    ended_at - completed_at, len(stack.states(poller_arn)), _requests_after_start(document)
                ),
            )
        )
    return pairs


def _run(stack: StackClient, poller: StatusPoller, jobs: Sequence[Job]) -> dict[str, tuple[str, str]]:
    """Run each job with both and wait for the ends. Return the ARNs of both state machine executions by marker."""
    arns = {}
    for job in jobs:
        request = {
            "chatbot_id": "support-chat",
            "input_data": job.input_data,
            "metadata": {"marker": job.marker},
        }
        arns[job.marker] = stack.start_execution(request), poller.start(job)
    for both in arns.values():
        for arn in both:
            stack.wait_for_end(arn, _MAX_WAIT_S)
    return arns


def _requests_after_start(document: dict[str, dict[str, int]]) -> int:
    return sum(count for operation, count in document["received"].items() if operation != "start")
