"""`python -m benchmarks.delivery_sweep`: simulates a sweep of due deliveries, and counts its requests to AWS.

It runs the real sweep with an index in memory and a simulated clock, which each call advances by its usual latency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.clock import NOW, Clock
from tests.fakes.timed_client import TimedClient
from waterhook.notifications.webhook_queue import WebhookQueue
from waterhook.steps.delivery_sweep import DeliverySweeper, DeliverySweepResult
from waterhook.storage.execution_record import UNFINISHED_SHARDS
from waterhook.storage.webhook_deliveries import WebhookDeliveries

DUE = 10_000
TIMEOUT_S = 50.0
# Latency of each call in seconds, in the same region.
LATENCIES_S = {"query": 0.020, "send_message_batch": 0.020}
# A page of DynamoDB ends after this many bytes. An entry of the index has about 250.
_PAGE_BYTES, _ENTRY_BYTES = 1_000_000, 250


class Index:
    """The index of the deliveries table with due entries, all in the past. Counts the queries."""

    def __init__(self, due: int) -> None:
        """`due` entries, distributed over the shards."""
        self.queries = 0
        self._entries: dict[str, list[dict[str, Any]]] = {shard: [] for shard in UNFINISHED_SHARDS}
        for number in range(due):
            shard = UNFINISHED_SHARDS[number % len(UNFINISHED_SHARDS)]
            self._entries[shard].append(
                {
                    "pk": {"S": f"{shard}{number:031x}"},
                    "sk": {"S": "1767225600000/COMPLETED"},
                    "undelivered": {"S": shard},
                    "next_at": {"N": str(int(NOW) - due + number)},
                    "queued": {"BOOL": False},
                    "status": {"S": "pending"},
                    "host": {"S": "hooks.example.com"},
                }
            )

    def query(self, **arguments: Any) -> dict[str, Any]:
        """Return a page of a shard."""
        self.queries += 1
        values = {
            name: next(iter(value.values())) for name, value in arguments["ExpressionAttributeValues"].items()
        }
        (shard,) = (value for value in values.values() if value in self._entries)
        begin = int(arguments.get("ExclusiveStartKey", {}).get("position", {"N": "0"})["N"])
        size = min(arguments.get("Limit", _PAGE_BYTES), _PAGE_BYTES // _ENTRY_BYTES)
        entries, end = self._entries[shard], begin + size
        page: dict[str, Any] = {"Items": entries[begin:end]}
        return page if end >= len(entries) else page | {"LastEvaluatedKey": {"position": {"N": str(end)}}}


class Messages:
    """A queue that accepts all messages. Counts the requests."""

    def __init__(self) -> None:
        self.batches = 0
        self.messages = 0

    def send_message_batch(self, *, Entries: Sequence[Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - as in boto3
        """Accept up to ten messages."""
        self.batches += 1
        self.messages += len(Entries)
        return {}


@dataclass(frozen=True, slots=True)
class DeliverySweep:
    """Result of one sweep."""

    swept: DeliverySweepResult
    seconds: float
    queries: int
    batches: int
    """Number of requests to SQS."""


def sweep(due: int) -> DeliverySweep:
    """Run one sweep with `due` deliveries."""
    clock, index, messages = Clock(NOW), Index(due), Messages()
    table: Any = TimedClient(index, clock, LATENCIES_S)
    sqs: Any = TimedClient(messages, clock, LATENCIES_S)
    sweeper = DeliverySweeper(
        WebhookDeliveries("deliveries", table), WebhookQueue("queue", lambda: sqs), clock
    )
    swept = sweeper.sweep(lambda: TIMEOUT_S - (clock.now - NOW))
    assert swept.queued == messages.messages
    return DeliverySweep(swept, clock.now - NOW, index.queries, messages.batches)


def main() -> None:
    """Print the results for DUE deliveries, and for more than one sweep queues."""
    for due in (DUE, 10 * DUE):
        result = sweep(due)
        rest = "all" if result.swept.is_complete else "the next sweep continues"
        print(
            f"{due:,} due deliveries: {result.swept.queued:,} queued in {result.seconds:.0f} s with {result.queries} "
            f"queries and {result.batches:,} requests to SQS ({rest})"
        )


if __name__ == "__main__":
    main()
