"""The requests of a delivery are those that the cost estimate counts."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.aws import Table, WebhookTable
from tests.fakes.clock import NOW
from tests.unit.steps.test_deliver import DOWN, OK, World, message_for
from waterhook.domain import cost


@dataclass
class MeteredClient:
    """A client that counts the reads, and the writes to the table and its index, of items below 1 KB."""

    real: Any
    table: str
    reads: int = 0
    writes: int = 0
    written_tables: set[str] = field(default_factory=set)

    def get_item(self, **arguments: Any) -> Any:
        self.reads += 1
        return self.real.get_item(**arguments)

    def put_item(self, **arguments: Any) -> Any:
        key = {name: arguments["Item"][name] for name in ("pk", "sk")}
        return self._write(self.real.put_item, key, arguments)

    def update_item(self, **arguments: Any) -> Any:
        return self._write(self.real.update_item, arguments["Key"], arguments)

    def _write(self, method: Any, key: Any, arguments: Any) -> Any:
        before = self._entry(key)
        answer = method(**arguments)
        after = self._entry(key)
        self.written_tables.add(arguments["TableName"])
        # A change of the key of an index deletes an entry and writes one.
        self.writes += 1 + (before != after) * ((before is not None) + (after is not None))
        return answer

    def _entry(self, key: Any) -> tuple[Any, Any] | None:
        """Return the key of an item in the index, or None if it is not in the index."""
        item = self.real.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item", {})
        return (item["undelivered"], item["next_at"]) if "undelivered" in item else None


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_the_estimate_of_a_webhook_counts_each_request(
    table: Table, webhook_table: WebhookTable, failures: int
) -> None:
    client = MeteredClient(table.client, webhook_table.name)
    world = World(table, webhook_table, client)
    world.receiver.answers = [DOWN] * failures + [OK]
    record = world.put()
    world.queue.send(message_for(record))
    world.run(until=NOW + 86_400)
    assert len(world.receiver.requests) == failures + 1
    assert client.written_tables == {webhook_table.name}
    assert client.writes == cost.ATTEMPT_WRITES + failures * cost.FAILED_ATTEMPT_WRITES
    assert client.reads == (failures + 1) * cost.ATTEMPT_READS
