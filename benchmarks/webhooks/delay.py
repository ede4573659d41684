"""Measures the delay of webhooks and of notifications by SNS, both for the same executions."""

import time
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from benchmarks.e2e.notifications import QueueConsumer
from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient, execution_id_of
from local.webhook_receiver import WebhookReceiver
from waterhook.timestamps import to_epoch_s

_JOB_S = 1.0
_TIMEOUT_S = 30.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds from the completion of a job, by the simulator's clock, to the arrival of its event."""

    sns_s: float
    """At a consumer of the queue that is subscribed to the topic."""
    webhook_s: float
    """At the receiver of the webhook."""


def measure(stack: StackClient, receiver: WebhookReceiver, executions: int) -> list[Delay]:
    """Run executions one after the other and return their delays. The first two, with cold starts, are not counted.

    Raises ToolError if an event does not arrive.
    """
    with QueueConsumer(stack) as consumer:
        delays = [_run(stack, receiver, consumer, number) for number in range(executions + 2)]
    return delays[2:]


def _run(stack: StackClient, receiver: WebhookReceiver, consumer: QueueConsumer, number: int) -> Delay:
    job = Job(f"delay-{number}", _JOB_S)
    id_ = stack.submit("support-chat", job.input_data, webhook={"url": receiver.url_of(f"/{job.marker}")})
    ends_at = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < ends_at:
        received = [each for each in receiver.requests if execution_id_of(each.event) == id_]
        if received and id_ in consumer.arrived_at:
            completed_at = to_epoch_s(received[0].event["data"]["timing"]["completed_at"]) or 0.0
            return Delay(consumer.arrived_at[id_] - completed_at, received[0].received_at - completed_at)
        pause(_POLL_S)
    raise ToolError(f"{job.marker}: the webhook or the notification did not arrive in {_TIMEOUT_S:.0f} s")
