"""Runs hundreds of executions at the same time, with receivers whose first answers fail."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.e2e.jobs import Job
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import CLOSE, GARBAGE, OK, RESET, ReceivedWebhook, status
from local.webhook_receiver.stack_receiver import receiver_for
from waterhook.timestamps import to_epoch_s

# The local stack allows these. Each is a host with its own share.
HOSTS = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3")
# Every tenth delivery fails first, in one of these ways.
FAILING_SHARE = 10
_FAILURES = (status(503), status(500), status(404), RESET, CLOSE, GARBAGE)
_SENDERS = 12
_TIMEOUT_S = 900.0
_POLL_S = 0.5
_DUPLICATE_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class WebhookBurst:
    """Result of executions that were started together, each with a webhook."""

    executions: int
    started_s: float
    wall_s: float
    """Seconds from the first start to the last delivery."""
    failing: int
    """Number of deliveries whose first attempt was made to fail."""
    requests: tuple[ReceivedWebhook, ...]
    statuses: Counter[str]
    """Number of deliveries in the table by status."""

    @property
    def delivered(self) -> Counter[str]:
        """Number of requests that were answered with 200, by webhook-id."""
        return Counter(each.webhook_id for each in self.requests if each.answer == OK)

    @property
    def delays_s(self) -> list[float]:
        """Seconds from the completion of each job to its first delivery."""
        first: dict[str, float] = {}
        for each in self.requests:
            completed_at = to_epoch_s((each.event["data"].get("timing") or {}).get("completed_at"))
            if each.answer == OK and completed_at is not None:
                first.setdefault(each.webhook_id, each.received_at - completed_at)
        return [*first.values()]

    @property
    def different(self) -> int:
        """Number of webhook-ids that were received with different bodies."""
        bodies: dict[str, set[bytes]] = {}
        for each in self.requests:
            bodies.setdefault(each.webhook_id, set()).add(each.body)
        return sum(len(each) > 1 for each in bodies.values())


def burst(stack: StackClient, jobs: Sequence[Job]) -> WebhookBurst:
    """Start all jobs, and wait for all deliveries or until the timeout."""
    with ExitStack() as block:
        receivers = [block.enter_context(receiver_for(stack.outputs, host=host)) for host in HOSTS]

        def start(numbered: tuple[int, Job]) -> None:
            number, job = numbered
            receiver, path = receivers[number % len(receivers)], f"/{job.marker}"
            if number % FAILING_SHARE == 0:
                failure = _FAILURES[number // FAILING_SHARE % len(_FAILURES)]
                receiver.answers.for_path(path, failure, OK)
            request = {
                "chatbot_id": "support-chat",
                "input_data": job.input_data,
                "metadata": {"marker": job.marker},
                "webhook": {"url": receiver.url_of(path)},
            }
            stack.start_execution(request)

        def received() -> list[ReceivedWebhook]:
            return [request for receiver in receivers for request in receiver.requests]

        began = time.time()
        with ThreadPoolExecutor(_SENDERS) as pool:
            list(pool.map(start, enumerate(jobs)))
        started_s = time.time() - began
        while _delivered(received()) < len(jobs) and time.time() - began < _TIMEOUT_S:
            pause(_POLL_S)
        pause(_DUPLICATE_WAIT_S)  # a repeated request would arrive now
        requests = received()
    last = max((each.received_at for each in requests if each.answer == OK), default=began)
    failing = len(range(0, len(jobs), FAILING_SHARE))
    return WebhookBurst(
        len(jobs), started_s, last - began, failing, tuple(requests), _statuses(stack, requests)
    )


def _delivered(requests: Sequence[ReceivedWebhook]) -> int:
    return len({each.webhook_id for each in requests if each.answer == OK})


def _statuses(stack: StackClient, requests: Sequence[ReceivedWebhook]) -> Counter[str]:
    """Count the statuses of the received deliveries."""
    pages = stack.dynamodb.get_paginator("scan").paginate(
        TableName=stack.outputs.webhook_table_name, ConsistentRead=True
    )
    ids = {each.webhook_id for each in requests}
    items = (item for page in pages for item in page["Items"] if "status" in item)
    return Counter(item["status"]["S"] for item in items if f"{item['pk']['S']}/{item['sk']['S']}" in ids)
