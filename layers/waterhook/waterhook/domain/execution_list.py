"""A list of executions, newest first: filters, positions, and pages that are merged from several partitions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

type Entry = dict[str, Any]
"""The listed attributes of a record; always with `execution_id` and `created_at`."""


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which executions are listed. None means any. Times are texts as in a record, and both are included."""

    status: str | None = None
    chatbot_id: str | None = None
    source: str | None = None
    first: str | None = None
    last: str | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of a record that must have these values."""
        values = {"status": self.status, "chatbot_id": self.chatbot_id, "source": self.source}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list: after the entry with this time and id. Entries of equal times are ordered by their ids."""

    created_at: str
    execution_id: str | None = None
    """None: before all entries of this time."""

    def precedes(self, entry: Entry) -> bool:
        """Return whether the entry comes later in the list, so that a page from here on contains it."""
        if self.execution_id is None:
            return bool(entry["created_at"] <= self.created_at)
        return _order(entry) < (self.created_at, self.execution_id)


@dataclass(frozen=True, slots=True)
class PartitionRead:
    """What was read of one partition: the entries that match the filter, and how far it was read."""

    entries: list[Entry]
    complete_after: str | None
    """All entries newer than this time were read. None: all entries were read."""


def merge(reads: Iterable[PartitionRead], limit: int) -> tuple[list[Entry], Position | None]:
    """Return a page of at most `limit` entries, and the position of the next page or None if there is none.

    The page contains no entry that is older than an entry that was not read yet.
    """
    reads = list(reads)
    horizon = max((read.complete_after for read in reads if read.complete_after is not None), default=None)
    entries = [
        entry for read in reads for entry in read.entries if horizon is None or entry["created_at"] > horizon
    ]
    entries.sort(key=_order, reverse=True)
    if len(entries) > limit:
        last = entries[limit - 1]
        return entries[:limit], Position(last["created_at"], last["execution_id"])
    return entries, None if horizon is None else Position(horizon)


def _order(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["created_at"], entry["execution_id"]
