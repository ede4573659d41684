"""Each fault of a receiver on the deployed stack: the state of the delivery, the attempts, and what is not affected."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.local_aws.local_authority import LocalAuthority
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import (
    CLOSE,
    GARBAGE,
    GONE,
    HANG,
    OK,
    RESET,
    Answer,
    ReceivedWebhook,
    WebhookReceiver,
    drip,
    huge,
    redirect,
    slow,
    status,
)
from local.webhook_receiver.stack_receiver import secret_of_host
from tests.e2e.webhooks import FinishedExecutions, deliveries, shown_webhook
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

FIRST_HOST = 11  # The rows use the addresses from here, one each.
ANOTHER_RECEIVER = "https://another.receiver/"
"""Placeholder for the URL of a receiver that must get no request."""
METADATA = "https://169.254.169.254/latest/meta-data/"
RETRY_S = 4.5  # The second attempt follows after 5 s ± 10 %, the third one after 5 minutes.


@dataclass(frozen=True, slots=True)
class Row:
    """Answers of a receiver, the last one repeated, and the state of the delivery after one or two attempts."""

    name: str
    answers: tuple[Answer, ...] = ()
    status: str = "pending"
    attempts: int = 2
    code: int | None = None
    error: str | None = None
    requests: int | None = None
    """Requests that reach the receiver, by default one for each attempt."""
    retry_s: float = RETRY_S
    """Shortest time between the two attempts."""
    certificate_name: str | None = None
    tls: bool = True
    runs: bool = True
    """Whether the receiver runs. Otherwise nothing listens at its port."""
    payload: str = "full"
    executed: bool = False
    """Whether an execution runs for the row. The others have records only, which saves most of the time."""


def _refused(code: int, answer: Answer | None = None, error: str = "http_status", **row: Any) -> Row:
    return Row(str(code), (answer or status(code),), code=code, error=error, **row)


def _unreachable(name: str, error: str, **receiver: Any) -> Row:
    return Row(name, error=error, requests=0, **receiver)


def _recovers(name: str, fault: Answer, **row: Any) -> Row:
    """The first attempt fails, the second one succeeds."""
    return Row(name, (fault, OK), "delivered", code=200, **row)


TABLE = (
    _recovers("hangs once", HANG, executed=True),
    _recovers("a byte every second, once", drip(1.0)),
    Row("an answer after 10 s", (slow(10.0),), "delivered", attempts=1, code=200),
    _recovers("429 with Retry-After", status(429, retry_after=12), retry_s=12),
    _recovers("500 once", status(500)),
    _recovers("closes the connection once", CLOSE, payload="thin", executed=True),
    _refused(500, executed=True),
    _refused(404),
    _refused(400),
    _refused(301, redirect(ANOTHER_RECEIVER, 301), "redirect"),
    _refused(307, redirect(ANOTHER_RECEIVER, 307), "redirect"),
    _refused(308, redirect(METADATA, 308), "redirect"),
    Row(
        "a date in the past as Retry-After",
        (status(503, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"),),
        code=503,
        error="http_status",
    ),
    Row("closes the connection", (CLOSE,), error="bad_answer"),
    Row("resets the connection", (RESET,), error="bad_answer"),
    Row("garbage", (GARBAGE,), error="bad_answer", executed=True),
    Row("410", (GONE,), "gone", attempts=1, code=410, error="http_status"),
    Row("204", (status(204),), "delivered", attempts=1, code=204),
    Row("100 MB after 200", (huge(),), "delivered", attempts=1, code=200),
    _unreachable("a certificate for another name", "tls", certificate_name="another.example", executed=True),
    _unreachable("plain HTTP", "tls", tls=False),
    _unreachable("nothing listens", "no_connection", runs=False),
)


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution of a row, its webhook in the API and what its receiver got."""

    execution_id: str
    shown: dict[str, Any]
    webhooks: list[ReceivedWebhook]


class RowRunner:
    """Runs rows on one stack, each with a receiver at an address of its own. Thread-safe."""

    def __init__(self, stack: StackClient, another_receiver: str) -> None:
        self._stack = stack
        self._deliveries = deliveries(stack)
        self._finished = FinishedExecutions(stack)
        self._another_receiver = another_receiver
        self._authority = LocalAuthority.load(Path(stack.outputs.authority_path))

    def run(self, row: Row, host: str) -> Ended:
        with ExitStack() as running:
            receiver = WebhookReceiver(
                self._authority,
                secret=secret_of_host(self._stack.outputs, host),
                host=host,
                certificate_name=row.certificate_name,
                tls=row.tls,
            )
            receiver.answers.for_path("/in", *map(self._with_addresses, row.answers))
            running.enter_context(receiver)
            url = receiver.url_of("/in")
            if not row.runs:
                running.close()
            if row.executed:
                webhook = {"url": url, "payload": row.payload}
                execution_id = self._stack.submit("instant", webhook=webhook)
            else:
                execution_id = self._finished.queue_one(url)
            until(lambda: self._has_result(execution_id, row), pause_s=0.5)
            return Ended(execution_id, shown_webhook(self._stack, execution_id), receiver.requests)

    def _has_result(self, execution_id: str, row: Row) -> bool:
        """Return whether the delivery has ended, or the result of the row's last attempt is written."""
        for delivery in self._deliveries.of_execution(execution_id):
            return delivery.status.is_final or (delivery.attempts >= row.attempts and delivery.claim is None)
        return False

    def _with_addresses(self, answer: Answer) -> Answer:
        if answer.headers.get("Location") != ANOTHER_RECEIVER:
            return answer
        return redirect(self._another_receiver, answer.code)


@pytest.fixture
def another_receiver(stack: StackClient) -> Iterator[WebhookReceiver]:
    """The target of redirects. The stack is allowed to send webhooks to it, but must not."""
    authority = LocalAuthority.load(Path(stack.outputs.authority_path))
    with WebhookReceiver(authority, host="127.0.0.3") as receiver:
        yield receiver
        assert receiver.connections == 0


@pytest.mark.timeout(900, func_only=True)
def test_each_fault_of_a_receiver_has_the_state_of_the_table_and_affects_no_execution(
    stack: StackClient, another_receiver: WebhookReceiver, subtests: pytest.Subtests
) -> None:
    began = time.monotonic()
    runner = RowRunner(stack, another_receiver.url)
    with ThreadPoolExecutor(len(TABLE)) as pool:
        running: list[tuple[Row, Future[Ended]]] = [
            (row, pool.submit(runner.run, row, f"127.0.0.{number}"))
            for number, row in enumerate(TABLE, FIRST_HOST)
        ]
    print(f"\n{len(TABLE)} faults in {time.monotonic() - began:.0f} s")
    for row, future in running:
        with subtests.test(row.name):
            check(stack, row, future.result())


def check(stack: StackClient, row: Row, ended: Ended) -> None:
    """Compare with the row: the execution, its notification, the state of the delivery, and each request."""
    shown, webhooks = ended.shown, ended.webhooks
    assert (shown["status"], shown["attempts"]) == (row.status, row.attempts)
    assert (shown["last_code"], shown["last_error"]) == (row.code, row.error)
    assert (shown["delivered_at"] is not None) == (row.status == "delivered")
    assert (shown["next_attempt_at"] is not None) == (row.status == "pending")

    assert len(webhooks) == (row.attempts if row.requests is None else row.requests)
    assert all(sent.verified for sent in webhooks), [sent.verification for sent in webhooks]
    # Equal to the last byte, so that a receiver can compare them.
    assert len({(sent.webhook_id, sent.body) for sent in webhooks}) == min(len(webhooks), 1)
    if len(webhooks) > 1:
        first, second = webhooks
        assert second.received_at - first.received_at >= row.retry_s
        assert int(second.timestamp) > int(first.timestamp)
    if row.executed:
        check_execution(stack, row, ended)


def check_execution(stack: StackClient, row: Row, ended: Ended) -> None:
    """The fault of the receiver has changed neither the execution nor its notification."""
    event, *duplicates = stack.peek(ended.execution_id)
    assert all(duplicate == event for duplicate in duplicates)
    assert event["data"]["status"] == "COMPLETED"
    record = stack.item(ended.execution_id)
    assert record is not None
    assert record["notified_at"]
    if row.payload == "thin":
        del event["data"]["final_output"]
    assert all(sent.event == event for sent in ended.webhooks)
