"""`make soak`: hundreds of concurrent executions with random faults, each checked for its one outcome.

Each has a webhook. A tenth of the receivers' first answers are faults too.

Deploys its own stack, and deletes it at the end. The same `--seed` creates the same requests.
"""

import argparse
import base64
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx

from local.local_aws import environment
from local.local_aws.deployment import STATE_DIR, LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient, execution_id_of, notification
from local.local_aws.waiting import retry_while
from local.simulator.chatbots import CHATBOTS
from local.terminal import Terminal
from local.webhook_receiver import CLOSE, GARBAGE, OK, RESET, Answer, ReceivedWebhook, WebhookReceiver, status
from local.webhook_receiver.stack_receiver import receiver_for
from tests.soak.fault_cases import COMPLETED, FAULT_CASES, FaultCase
from waterhook.timestamps import to_epoch_s

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import ExecutionListItemTypeDef

_CHATBOT = "support-chat"
RECEIVER_FAULTS = (status(500), status(503, retry_after=6), status(404), CLOSE, RESET, GARBAGE)
FAILING_RECEIVERS = 0.1
# Hosts of the receivers. Each has a breaker, and a quarter of WebhookConcurrency.
_RECEIVER_HOSTS = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3")
# Time for the webhooks after the last outcome. A second attempt follows 5 s after the first one.
_WEBHOOKS_S = 60.0
LIMIT_S = 150.0
# Time for one execution, if there are many.
SLOWEST_S = 1.0
SENDERS = 12
_POLL_S = 1.0
_DELIVERY_S = 2.0
# Deadline of a job that never ends.
_TIMEOUT_S = 75


@dataclass(frozen=True, slots=True)
class SoakRequest:
    """One request: its idempotency key, its faults and its body."""

    key: str
    case: FaultCase
    body: Mapping[str, Any]
    receiver_fault: Answer | None = None
    """The first answer to the webhook of its outcome. None: it is delivered with the first attempt."""

    @classmethod
    def all(cls, count: int, seed: int) -> list["SoakRequest"]:
        """Return `count` requests, the same for the same seed."""
        generator = random.Random(seed)  # noqa: S311  # repeatable, not secret
        return [cls._one(f"soak-{seed}-{number}", generator) for number in range(count)]

    @classmethod
    def _one(cls, key: str, generator: random.Random) -> "SoakRequest":
        case = generator.choice(FAULT_CASES)
        seconds = round(generator.uniform(0.2, 3.0), 2)
        outcome = {"outcome": "ENDLESS"} if case.endless else {}
        simulate = {"seconds": seconds, "queue_seconds": 0.2, "faults": list(case.faults), **outcome}
        input_data = {"marker": key, "simulate": simulate}
        deadline = {"timeout_seconds": _TIMEOUT_S} if case.endless else {}
        receiver_fault = generator.choice(RECEIVER_FAULTS) if generator.random() < FAILING_RECEIVERS else None
        return cls(key, case, {"input_data": input_data, **deadline}, receiver_fault)

    @property
    def path(self) -> str:
        """The path of its webhook."""
        return f"/{self.key}"


class SoakTest:
    """Sends the requests, waits until all executions have ended, and checks each."""

    def __init__(
        self,
        client: StackClient,
        requests: Sequence[SoakRequest],
        receivers: Sequence[WebhookReceiver],
        terminal: Terminal,
    ) -> None:
        """Send nothing yet. The receivers take turns."""
        self._client = client
        self._requests = requests
        self._receivers = receivers
        self._terminal = terminal
        self._limit_s = max(LIMIT_S, len(requests) * SLOWEST_S)
        self._urls: dict[str, str] = {}
        for request, receiver in zip(requests, cycle(receivers), strict=False):
            self._urls[request.key] = receiver.url_of(request.path)
            if request.receiver_fault is not None:
                receiver.answers.for_path(request.path, request.receiver_fault, OK)

    def run(self) -> list[str]:
        """Return one line for each problem, and print totals."""
        began = time.monotonic()
        with self._terminal.spinner("Sending"), ThreadPoolExecutor(SENDERS) as pool:
            ids = dict(
                zip(
                    (request.key for request in self._requests),
                    pool.map(self._send, self._requests),
                    strict=True,
                )
            )
        self._terminal.print_line(
            f"{len(ids)} requests accepted in {time.monotonic() - began:.1f} s, each sent twice"
        )
        with self._terminal.spinner("Waiting for the last"):
            machine_executions, max_running = self._wait_for_all(began)
        ended_s = time.monotonic() - began
        self._terminal.print_line(f"all ended after {ended_s:.1f} s, at most {max_running} concurrently")
        pause(_DELIVERY_S)
        with self._terminal.spinner("Waiting for webhooks"):
            self._wait_for_webhooks()
        return list(self._check(ids, machine_executions))

    def _send(self, request: SoakRequest) -> str:
        """Return the execution's id. The request is sent twice with its key, as by a client that got no response."""
        return {self._accepted(request) for _ in range(2)}.pop()

    def _accepted(self, request: SoakRequest) -> str:
        response = retry_while(
            lambda response: response.status_code in {502, 503},  # the machine is busy
            lambda: self._client.post(
                _CHATBOT,
                {**request.body, "webhook": {"url": self._urls[request.key]}},
                idempotency_key=request.key,
            ),
            timeout_s=self._limit_s,
            interval_s=0.5,
        )
        if response.status_code != httpx.codes.ACCEPTED:
            raise ToolError(f"{request.key}: the API answered {response.status_code} {response.text[:200]}")
        return str(response.json()["execution_id"])

    def _wait_for_all(self, began: float) -> "tuple[list[ExecutionListItemTypeDef], int]":
        """Return all state machine executions, and the maximum that ran concurrently."""
        max_running = 0
        while True:
            machine_executions = self._machine_executions()
            running = sum(execution["status"] == "RUNNING" for execution in machine_executions)
            max_running = max(max_running, running)
            if not running or time.monotonic() - began > self._limit_s:
                return machine_executions, max_running
            pause(_POLL_S)

    def _wait_for_webhooks(self) -> None:
        """Wait until each request has its webhook, with an attempt more for each fault of a receiver."""
        began = time.monotonic()
        attempts = sum(1 if request.receiver_fault is None else 2 for request in self._requests)
        while time.monotonic() - began < _WEBHOOKS_S:
            if sum(len(receiver.requests) for receiver in self._receivers) >= attempts:
                break
            pause(_POLL_S)
        self._terminal.print_line(
            f"last webhook {time.monotonic() - began + _DELIVERY_S:.1f} s after the last end"
        )

    def _machine_executions(self) -> "list[ExecutionListItemTypeDef]":
        machine = self._client.outputs.state_machine_arn
        pages = self._client.stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=machine)
        return [execution for page in pages for execution in page["executions"]]

    def _check(
        self, ids: Mapping[str, str], machine_executions: "Sequence[ExecutionListItemTypeDef]"
    ) -> Iterator[str]:
        events, webhooks = self._notifications(), self._webhooks()
        starts = self._client.waterflai("requests")["starts"]
        posts = Counter((start["input_data"] or {}).get("marker") for start in starts)
        jobs = Counter((start["input_data"] or {}).get("marker") for start in starts if start["execution_id"])
        outcomes: Counter[str] = Counter()
        if len(set(ids.values())) != len(ids):
            yield f"{len(ids)} keys created {len(set(ids.values()))} executions"
        if len(machine_executions) != len(ids):
            yield f"{len(ids)} requests created {len(machine_executions)} executions of the state machine"
        for execution in machine_executions:
            if execution["status"] == "RUNNING":
                yield f"{execution['name']}: still running"
        for request in self._requests:
            execution_id, case = ids[request.key], request.case
            published = events.get(execution_id, [])
            item = self._client.item(execution_id) or {}
            status = str(item.get("status"))
            outcomes[status] += 1
            accepted_ms = round((to_epoch_s(item.get("created_at")) or 0.0) * 1000)
            expected = [f"{execution_id}/{accepted_ms}/{status}"]
            if [event["id"] for event in published] != expected or not item.get("notified_at"):
                yield f"{request.key} ({case.name}): {status}, published {[event['id'] for event in published]}"
            if status not in case.outcomes:
                yield f"{request.key} ({case.name}): {status} {item.get('error')}"
            yield from wrong_outputs(request, status, published)
            yield from leaked_keys(request, published, item)
            yield from wrong_webhooks(request, published, webhooks[execution_id])
            counts = posts[request.key], jobs[request.key]
            if counts != (case.posts, case.jobs):
                yield f"{request.key} ({case.name}): {counts[0]} POSTs, {counts[1]} jobs"
        self._print(outcomes, events, starts)
        self._print_webhooks(webhooks)

    def _webhooks(self) -> defaultdict[str, list[ReceivedWebhook]]:
        """Return all received webhooks by execution id, in the order of their arrival."""
        webhooks = defaultdict[str, list[ReceivedWebhook]](list)
        for receiver in self._receivers:
            for webhook in receiver.requests:
                webhooks[webhook.webhook_id.partition("/")[0]].append(webhook)
        return webhooks

    def _print_webhooks(self, webhooks: Mapping[str, Sequence[ReceivedWebhook]]) -> None:
        first = [attempts[0] for attempts in webhooks.values()]
        lags_s = [_lag_s(webhook) for webhook in first]
        repeated = sum(len(attempts) > 1 for attempts in webhooks.values())
        self._terminal.print_line(f"webhooks       {len(first)}, {repeated} of them in more than one attempt")
        if lags_s:
            self._terminal.print_line(
                f"first attempt  {median(lags_s):.1f} s after the outcome (median), at most {max(lags_s):.1f} s"
            )

    def _notifications(self) -> dict[str, list[dict[str, Any]]]:
        """Return all notifications in the results queue by execution id, each received once."""
        events: dict[str, list[dict[str, Any]]] = {}
        queue = self._client.outputs.results_queue_url
        while True:
            response = self._client.sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600
            )
            if not response.get("Messages"):
                return events
            for message in response["Messages"]:
                event = notification(message["Body"])
                events.setdefault(execution_id_of(event) or "", []).append(event)

    def _print(self, outcomes: Counter[str], events: Mapping[str, list[Any]], starts: Sequence[Any]) -> None:
        requests = self._client.waterflai("requests")["received"]
        ids = [event["id"] for published in events.values() for event in published]
        self._terminal.print_line("outcomes       " + _counts(outcomes))
        self._terminal.print_line(f"notifications  {len(ids)}, {len(set(ids))} distinct")
        self._terminal.print_line(
            f"requests       {_counts(requests)} ({sum(bool(s['execution_id']) for s in starts)} jobs)"
        )


def wrong_outputs(request: SoakRequest, status: str, notifications: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the notifications whose output is not that of the request's own job, such as another execution's."""
    if not request.case.has_output:
        return []
    expected = CHATBOTS[_CHATBOT].output if status in COMPLETED else None
    outputs = [event["data"].get("final_output") for event in notifications]
    name = f"{request.key} ({request.case.name})"
    return [f"{name}: {status}, output {str(output)[:200]}" for output in outputs if output != expected]


def wrong_webhooks(
    request: SoakRequest, notifications: Sequence[Mapping[str, Any]], webhooks: Sequence[ReceivedWebhook]
) -> list[str]:
    """Return what is wrong with the webhooks: none, without a valid signature, or not equal to the notification."""
    name = f"{request.key} ({request.case.name})"
    problems = [f"{name}: webhook {sent.verification}" for sent in webhooks if not sent.verified]
    if len(webhooks) < (1 if request.receiver_fault is None else 2):
        problems.append(f"{name}: {len(webhooks)} webhooks")
    if len({(sent.webhook_id, sent.body) for sent in webhooks}) > 1:
        problems.append(f"{name}: its {len(webhooks)} webhooks differ")
    if any(sent.event not in notifications for sent in webhooks):
        problems.append(f"{name}: its webhook is not its notification")
    return problems


def _lag_s(webhook: ReceivedWebhook) -> float:
    """Return the seconds from the outcome to the arrival."""
    return webhook.received_at - (to_epoch_s(webhook.event["time"]) or 0.0)


def leaked_keys(
    request: SoakRequest, notifications: Sequence[Mapping[str, Any]], item: Mapping[str, Any]
) -> list[str]:
    """Return the notifications and the record that hold the API key or its base64."""
    forms = (SIMULATOR_API_KEY, base64.b64encode(SIMULATOR_API_KEY.encode()).decode().rstrip("="))
    texts = {"a notification": json.dumps(notifications), "the record": str(item)}
    name = f"{request.key} ({request.case.name})"
    return [
        f"{name}: the key is in {place}"
        for place, text in texts.items()
        if any(form in text for form in forms)
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 if every execution has its expected outcome."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--executions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--polling", action="store_true", help="without following the event streams")
    arguments = parser.parse_args(argv)
    environment.isolate(os.environ)
    terminal = Terminal()
    parameters = {"FollowConcurrency": "0"} if arguments.polling else {}
    requests = SoakRequest.all(arguments.executions, arguments.seed)
    mode = "polled" if arguments.polling else "followed"
    terminal.print_line(f"{len(requests)} executions, {mode}, seed {arguments.seed}")
    try:
        with (
            LocalDeployment(_state_dir(), parameters=parameters, terminal=terminal) as outputs,
            StackClient(outputs) as client,
            ExitStack() as running,
        ):
            receivers = [running.enter_context(receiver_for(outputs, host=host)) for host in _RECEIVER_HOSTS]
            problems = SoakTest(client, requests, receivers, terminal).run()
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for problem in problems:
        terminal.print_line(problem, "red")
    terminal.print_line(
        "Some executions are wrong." if problems else "Every execution has its one expected outcome.", "bold"
    )
    return 1 if problems else 0


def _state_dir() -> Path:
    """Return a folder other than that of `make up`."""
    return STATE_DIR / "soak"
