"""Each job twice at the same moment: once through the deployed stack, once through the poller beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from benchmarks.e2e.notifications import received
from benchmarks.e2e.poller import StatusPoller
from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient
from waterhook.timestamps import to_epoch_s

# Fewer than may be followed at a time in the local AWS: neither of the two has to wait for a free function.
WAVE = 8
_END_S = 90.0
_ON_ITS_WAY_S = 2.0


@dataclass(frozen=True, slots=True)
class Course:
    """How one execution went."""

    lag_s: float
    """From the completion, by the simulator's clock, until it is known: ours in the subscriber's queue, the peer's at
    the end of its execution, which publishes nothing."""
    transitions: int
    """States entered, from the history."""
    questions: int
    """Requests to the upstream after the start, a stream being one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One job, both ways."""

    job: Job
    ours: Course
    peer: Course


def warm_up(stack: StackClient, poller: StatusPoller) -> None:
    """Run a wave of short jobs, so that no function of either starts cold later on."""
    jobs = [Job(f"warm-{number}", 1.0) for number in range(WAVE)]
    _run(stack, poller, jobs)
    list(received(stack))


def compare(stack: StackClient, poller: StatusPoller, jobs: Sequence[Job]) -> list[Pair]:
    """Return how each job went. Raises ToolError when one of them did not complete."""
    arns: dict[str, tuple[str, str]] = {}
    for first in range(0, len(jobs), WAVE):
        arns |= _run(stack, poller, jobs[first : first + WAVE])
    pause(_ON_ITS_WAY_S)
    upstream = {each["execution_id"]: each for each in stack.waterflai("executions")["executions"]}
    heard = {each.marker: each for each in received(stack)}
    pairs = []
    for job in jobs:
        ours_arn, peer_arn = arns[job.marker]
        told = heard.get(job.marker)
        run = stack.stepfunctions.describe_execution(executionArn=peer_arn)
        if told is None or told.status != "COMPLETED" or run["status"] != "SUCCEEDED":
            raise ToolError(f"{job.marker} did not complete: {told}, {run['status']}")
        document = upstream[poller.job_of(run)]
        completed_at = to_epoch_s(document["completed_at"]) or 0.0
        known_at = stack.history(peer_arn)[-1]["timestamp"].timestamp()
        pairs.append(
            Pair(
                job,
                Course(told.lag_s, len(stack.states(ours_arn)), _questions(upstream[told.upstream_id])),
                Course(known_at - completed_at, len(stack.states(peer_arn)), _questions(document)),
            )
        )
    return pairs


def _run(stack: StackClient, poller: StatusPoller, jobs: Sequence[Job]) -> dict[str, tuple[str, str]]:
    """Start every job both ways and return once all have ended: marker → ours, peer's."""
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
            stack.wait_for_end(arn, _END_S)
    return arns


def _questions(document: dict[str, dict[str, int]]) -> int:
    return sum(count for operation, count in document["received"].items() if operation != "start")
