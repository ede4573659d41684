"""Sends many requests that want to wait for one job at the same time, and counts those that do."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient
from waterhook.storage.waiting_places import WAITERS_ID

_WAIT_S = 20
# Longer than the whole measurement.
_JOB_S = 300.0
_POLL_S = 0.05
# The local AWS runs at most 32 functions at the same time.
_CONTAINERS = 28


@dataclass(frozen=True, slots=True)
class Crowd:
    """Result of callers that sent their requests at the same time."""

    callers: int
    answered: int
    """Number of callers that waited and got the outcome."""
    most_places: int
    """Largest number of places in the table that were taken at the same time."""
    refused_s: tuple[float, ...]
    """Seconds until the answer of each caller without a place."""


@dataclass(slots=True)
class _PlacesSeen:
    most: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)


def crowd(stack: StackClient, callers: int, places: int) -> Crowd:
    """Send a GET of each caller. The job is cancelled when all but `places` callers are answered.

    Raises ToolError if a request fails.
    """
    job = {"marker": "crowd", "simulate": {"seconds": _JOB_S, "queue_seconds": 0}}
    id_, start = stack.submit("support-chat", job), threading.Barrier(callers)

    def send(_: int) -> httpx.Response:
        start.wait()
        return stack.get(id_, wait=str(_WAIT_S))

    def warm_up(_: int) -> None:
        with suppress(httpx.TimeoutException):
            stack.get(id_)

    answers: list[httpx.Response] = []
    # Each container of the function has its cold start before the measurement.
    with ThreadPoolExecutor(_CONTAINERS) as pool:
        list(pool.map(warm_up, range(2 * _CONTAINERS)))
    with ThreadPoolExecutor(callers) as pool, _watched(stack) as seen:
        for sent in as_completed([pool.submit(send, number) for number in range(callers)]):
            answers.append(sent.result())
            if len(answers) == callers - places:
                stack.delete(id_)
    if failed := [answer for answer in answers if answer.status_code != httpx.codes.OK]:
        raise ToolError(f"{len(failed)} of {callers} requests failed: {failed[0].text}")
    final = [answer for answer in answers if "Retry-After" not in answer.headers]
    refused = [answer for answer in answers if "Retry-After" in answer.headers]
    return Crowd(callers, len(final), seen.most, tuple(answer.elapsed.total_seconds() for answer in refused))


@contextmanager
def _watched(stack: StackClient) -> Iterator[_PlacesSeen]:
    """Count the places in the table while the block runs."""
    seen = _PlacesSeen()

    def watch() -> None:
        while not seen.stopping.is_set():
            item = stack.dynamodb.get_item(
                TableName=stack.outputs.table_name,
                Key={"execution_id": {"S": WAITERS_ID}},
                ConsistentRead=True,
            ).get("Item", {})
            seen.most = max(seen.most, len(item.get("places", {}).get("SS", [])))
            pause(_POLL_S)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        seen.stopping.set()
        watcher.join()
