"""Breaker and places of each host, in the deliveries table: one item per host.

An item lists the attempts that use the host, by their tokens. Entering or leaving twice therefore has the same effect
as once.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waterhook.domain import webhook_host
from waterhook.domain.jitter import jitter_of
from waterhook.domain.webhook_host import Admission, HostState
from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.execution_record import from_attribute, to_attribute
from waterhook.storage.table_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Partition key of all hosts. Execution ids are hexadecimal digits, so no delivery has this key.
HOSTS_KEY = "hosts"
# TTL of an item after its last change.
HOST_KEPT_S = 7 * 24 * 3600
# Pauses in seconds after a conflict with another attempt. Jitter up to doubles them.
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4)
_FIELDS = tuple(HostState.__dataclass_fields__)

# The conditions. Two attempts that change a host at the same time: the second one reads it again.
first_use = "attribute_not_exists(pk)"
unchanged = "version = :version"


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether an attempt may use a host, and until when the breaker of the host is open (epoch seconds, or 0)."""

    admission: Admission
    open_until: float


class WebhookHosts:
    """The hosts of the receivers. Each attempt enters its host first, and leaves it with its result."""

    def __init__(
        self,
        table: str,
        client: "DynamoDBClient",
        *,
        limit: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`limit` is the number of places of each host. `sleep` is called between two attempts after a conflict."""
        self._table = table
        self._client = client
        self._limit = limit
        self._sleep = sleep

    def enter(self, host: str, token: str, now: float, *, held_back_s: float) -> Entry:
        """Take a place of the host for the attempt `token`, see `waterhook.domain.webhook_host.enter`.

        Returns FULL if conflicts with other attempts prevented each write. Raises RecordUnavailableError if DynamoDB
        fails. The place expires in this case, if the write was carried out.
        """
        state = HostState()
        for _ in self._tries(token):
            state, version = self._read(host)
            admission, entered = webhook_host.enter(
                state, token, now, limit=self._limit, held_back_s=held_back_s
            )
            if admission is not Admission.ADMITTED or entered == state:
                return Entry(admission, state.open_until)
            try:
                self._write(host, entered, version, now)
            except RecordConflictError:
                continue
            return Entry(admission, state.open_until)
        return Entry(Admission.FULL, state.open_until)

    def leave(
        self, host: str, token: str, now: float, *, host_failed: bool | None, error: str | None
    ) -> None:
        """Give back the place and write the result for the breaker, see `waterhook.domain.webhook_host.leave`.

        Best effort: the place expires if the table fails or other attempts prevent each write.
        """
        try:
            for _ in self._tries(token):
                state, version = self._read(host)
                left = webhook_host.leave(state, token, now, host_failed=host_failed, error=error)
                if left == state:
                    return
                try:
                    self._write(host, left, version, now)
                except RecordConflictError:
                    continue
                return
        except RecordUnavailableError:
            return

    def all(self) -> list[tuple[str, HostState]]:
        """Return every host with its state (consistent read), in the order of the names."""
        query: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :hosts",
            "ExpressionAttributeValues": {":hosts": {"S": HOSTS_KEY}},
            "ConsistentRead": True,
        }
        hosts: list[tuple[str, HostState]] = []
        while True:
            with translate_errors(HOSTS_KEY):
                page = self._client.query(**query)
            hosts += [(item["sk"]["S"], _from_item(item)) for item in page["Items"]]
            if not (last := page.get("LastEvaluatedKey")):
                return hosts
            query["ExclusiveStartKey"] = last

    def _tries(self, token: str) -> Iterator[None]:
        """Yield once per try, with pauses in between in which other writes can end."""
        yield
        for pause_s in _PAUSES_S:
            self._sleep(pause_s * (1 + jitter_of(token, round(pause_s * 1000))))
            yield

    def _read(self, host: str) -> tuple[HostState, int]:
        """Return the state and its version. The version of a host without an item is 0."""
        with translate_errors(host):
            answer = self._client.get_item(
                TableName=self._table, Key={"pk": {"S": HOSTS_KEY}, "sk": {"S": host}}, ConsistentRead=True
            )
        item = answer.get("Item")
        return (_from_item(item), from_attribute(item["version"])) if item else (HostState(), 0)

    def _write(self, host: str, state: HostState, version: int, now: float) -> None:
        """Write the state that follows on `version`. Raises RecordConflictError if the item has another version."""
        values = {name: getattr(state, name) for name in _FIELDS}
        values |= {"pk": HOSTS_KEY, "sk": host, "version": version + 1, "expires_at": int(now) + HOST_KEPT_S}
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": {name: to_attribute(value) for name, value in values.items() if value is not None},
            "ConditionExpression": first_use,
        }
        if version:
            put["ConditionExpression"] = unchanged
            put["ExpressionAttributeValues"] = {":version": to_attribute(version)}
        with translate_errors(host, "the host was changed by another attempt"):
            self._client.put_item(**put)


def _from_item(item: Mapping[str, Any]) -> HostState:
    """Read an item. Attributes of another version of Waterhook are ignored."""
    return HostState(**{name: from_attribute(item[name]) for name in _FIELDS if name in item})
