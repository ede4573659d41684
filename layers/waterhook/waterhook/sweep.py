"""The sweep: finds records whose notification is still to come although no execution works on them, and ends them.

Status events and retries see to nearly all of it; the sweep is for the event that never came, the start that was
never made, and the topic that was down for longer than a machine tries. After an outage there may be more of them than
one sweep has time for: it holds a page of the index at a time, paces its calls of Step Functions, and begins where the
last one stopped.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import THROTTLED, RecordConflict, aws_code
from waterhook.jitter import jitter_of
from waterhook.models import iso
from waterhook.record import SHARDS, Record
from waterhook.records import Records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

# Sparse: a record is in it from its acceptance until it is notified, so it is as long as there is work.
UNFINISHED_INDEX = "unfinished"
# The item of the table that holds where the last sweep stopped. No execution has such an id.
POSITION_ID = "sweep"
# Whoever has just accepted, ended or published something gets this long to finish: an API call takes 28 s, and
# Step Functions may know of an execution later than its starter does.
GRACE_S = 300.0
# Reserved for the record under way: each of its steps may take its longest time (functions/reconcile has the limits).
RESERVE_S = 160.0
# Another sweep begins after this.
TURN_S = 900.0
# The status, beside those of Step Functions, of an execution that it does not know.
MISSING = "MISSING"

# Step Functions refills the buckets of DescribeExecution by 10 to 15 a second, for the whole account.
DESCRIBES_PER_S = 8.0
# A throttled call for a status event is repeated after about this long at most. 1,000 executions that end at the same
# time share a bucket of 250 or 300, and 10 or 15 a second: the last one is described after a minute or two.
MAX_DESCRIBE_PAUSE_S = 20.0
# A bucket of ListExecutions holds 100 calls or more. Running executions beyond these pages are described one by one.
MAX_RUNNING_PAGES = 100
# After a throttle the same record is tried again after 5, 10 and 20 s.
THROTTLE_PAUSE_S = 5.0
MAX_THROTTLES = 3
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did: records ended, left to a live execution, failed, not reached in time, and discarded."""

    ended: int = 0
    alive: int = 0
    failed: int = 0
    left: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the index, and the key of its place there."""

    execution_id: str
    owner: str
    key: Mapping[str, str]


class Unfinished:
    """The index of records whose notification is still to come, as a ring of shards."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        """Keep the table's name and a client."""
        self._table = table
        self._client = client

    def before(self, created_at: str, *, after: Mapping[str, str] | None = None) -> Iterator[Entry]:
        """Yield every record that was accepted earlier, each shard's oldest first, beginning behind a key.

        A page is read when it is reached. What comes before the key is yielded last.
        """
        if after is None:
            for shard in SHARDS:
                yield from self._shard(shard, created_at)
            return
        turn = SHARDS.index(after["unfinished"])
        yield from self._shard(SHARDS[turn], created_at, after)
        for shard in SHARDS[turn + 1 :] + SHARDS[:turn]:
            yield from self._shard(shard, created_at)
        yield from self._shard(SHARDS[turn], min(created_at, after["created_at"]))

    def position(self) -> Mapping[str, str] | None:
        """Return the key behind which the next sweep begins, or None where the last one reached everything."""
        key = {"execution_id": {"S": POSITION_ID}}
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})
        after = item.get("after", {}).get("M")
        return {name: value["S"] for name, value in after.items()} if after else None

    def stop_at(self, after: Mapping[str, str] | None) -> None:
        """Keep the key behind which the next sweep begins."""
        item: dict[str, Any] = {"execution_id": {"S": POSITION_ID}}
        if after is not None:
            item["after"] = {"M": {name: {"S": value} for name, value in after.items()}}
        self._client.put_item(TableName=self._table, Item=item)

    def _shard(self, shard: str, before: str, after: Mapping[str, str] | None = None) -> Iterator[Entry]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": UNFINISHED_INDEX,
            "KeyConditionExpression": "unfinished = :shard AND created_at < :before",
            "ExpressionAttributeValues": {":shard": {"S": shard}, ":before": {"S": before}},
            "Limit": _PAGE,
        }
        if after is not None:
            query["ExclusiveStartKey"] = {name: {"S": value} for name, value in after.items()}
        while True:
            page = self._client.query(**query)
            for item in page["Items"]:
                key = {name: item[name]["S"] for name in ("execution_id", "unfinished", "created_at")}
                yield Entry(key["execution_id"], item["owner_execution_arn"]["S"], key)
            if not (last := page.get("LastEvaluatedKey")):
                return
            query["ExclusiveStartKey"] = last


class Executions:
    """The executions of the state machine. Calls of Step Functions are paced below its quotas."""

    def __init__(
        self,
        states: "SFNClient",
        machine_arn: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._states = states
        self._machine_arn = machine_arn
        self._clock = clock
        self._sleep = sleep
        self._described_at = float("-inf")

    def describe(self, arn: str, remaining_s: Callable[[], float]) -> "DescribeExecutionOutputTypeDef":
        """Return an execution for a call that is not paced; a throttle is repeated while there is time for a closing.

        Raises boto3's ClientError after that: Lambda calls the function again, and no sweep finds an execution that
        has no record yet.
        """
        attempt = 0
        while True:
            try:
                return self._states.describe_execution(executionArn=arn)
            except ClientError as error:
                pause_s = (0.5 + jitter_of(arn, attempt)) * min(2.0**attempt, MAX_DESCRIBE_PAUSE_S)
                if not is_throttled(error) or remaining_s() - pause_s < RESERVE_S:
                    raise
            self._sleep(pause_s)
            attempt += 1

    def ended_as(self, owner: str) -> str | None:
        """Return the status an execution ended with, MISSING, or None while it runs or has only just ended."""
        pause_s = self._described_at + 1 / DESCRIBES_PER_S - self._clock()
        if pause_s > 0:
            self._sleep(pause_s)
        self._described_at = self._clock()
        try:
            run = self._states.describe_execution(executionArn=owner)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                return MISSING
            raise
        ended = run.get("stopDate")
        # RUNNING, or PENDING_REDRIVE: an operator has it in hand. And reconcile may be on its way to a fresh end.
        if ended is None or ended.timestamp() > self._clock() - GRACE_S:
            return None
        return run["status"]

    def running(self, remaining_s: Callable[[], float]) -> Iterator[str]:
        """Yield the ARNs of running executions, of MAX_RUNNING_PAGES pages at most."""
        query: dict[str, Any] = {
            "stateMachineArn": self._machine_arn,
            "statusFilter": "RUNNING",
            "maxResults": 1000,
        }
        pages = 0
        while pages < MAX_RUNNING_PAGES:
            try:
                page = self._states.list_executions(**query)
            except ClientError as error:
                if not is_throttled(error) or remaining_s() - THROTTLE_PAUSE_S < RESERVE_S:
                    raise
                self._sleep(THROTTLE_PAUSE_S)
                continue
            pages += 1
            yield from (one["executionArn"] for one in page["executions"])
            if not (token := page.get("nextToken")):
                return
            query["nextToken"] = token


class Sweeper:
    """Touches nothing that a live execution owns; one record that fails never stops the others."""

    def __init__(
        self,
        records: Records,
        unfinished: Unfinished,
        executions: Executions,
        *,
        end: Callable[[Record, str], object],
        release: Callable[[Record], object],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        troubled: Callable[[str, Exception], None],
    ) -> None:
        """Bring records to their end with `end`, give back the slots of those that are notified with `release`.

        `troubled` is called with each execution id that failed.
        """
        self._records = records
        self._unfinished = unfinished
        self._executions = executions
        self._end = end
        self._release = release
        self._clock = clock
        self._sleep = sleep
        self._troubled = troubled

    def sweep(self, remaining_s: Callable[[], float]) -> Swept:
        """End what is to be ended, while `remaining_s` leaves time for it, and return what was done.

        Raises boto3's ClientError where the index or the list of running executions can't be read.
        """
        before = iso(self._clock() - GRACE_S) or ""
        running = set(self._executions.running(remaining_s))
        position = self._unfinished.position()
        swept, handled = Swept(), position
        entries = self._unfinished.before(before, after=position)
        for entry in entries:
            # Running ones are the most by far, and known by a page of a thousand; the others are described singly.
            if entry.owner in running:
                swept, handled = replace(swept, alive=swept.alive + 1), entry.key
                continue
            outcome = self._patiently(entry, remaining_s) if remaining_s() >= RESERVE_S else None
            if outcome is None:
                left = 1 + self._count(entries, running, remaining_s)
                self._unfinished.stop_at(handled)
                return replace(swept, left=left)
            swept = replace(swept, **{outcome: getattr(swept, outcome) + 1})
            handled = entry.key
        if position is not None:
            self._unfinished.stop_at(None)
        return swept

    def _count(self, entries: Iterator[Entry], running: set[str], remaining_s: Callable[[], float]) -> int:
        """Return how many records are not reached, as far as they can be counted in half of the reserve."""
        count = 0
        for entry in entries:
            if remaining_s() < RESERVE_S / 2:
                break
            count += entry.owner not in running
        return count

    def _patiently(self, entry: Entry, remaining_s: Callable[[], float]) -> str | None:
        """Return the name of the count that a record belongs to, or None where there is no time left for it."""
        throttles = 0
        while True:
            try:
                return self._look(entry)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next record is another
                if not is_throttled(error) or throttles == MAX_THROTTLES:
                    self._troubled(entry.execution_id, error)
                    return "failed"
            pause_s = THROTTLE_PAUSE_S * 2**throttles
            if remaining_s() - pause_s < RESERVE_S:
                return None
            self._sleep(pause_s)
            throttles += 1

    def _look(self, entry: Entry) -> str:
        """Do what a record needs, and return the name of the count that it belongs to."""
        record = self._records.get(entry.execution_id, self._clock())
        if record is None or record.owner_execution_arn != entry.owner:
            return "alive"
        if record.notified_at is not None:
            # Its slots could not be given back, or a version that knew no index notified it.
            self._release(record)
            return "alive"
        status = self._executions.ended_as(entry.owner)
        if status is None:
            return "alive"
        if status == MISSING and record.source == "api" and not record.has_begun:
            return self._discard(record)
        self._end(record, status)
        return "ended"

    def _discard(self, record: Record) -> str:
        """Delete a record whose POST was answered 503: no caller was given its id, and no job exists."""
        try:
            self._records.discard(record, self._clock() - GRACE_S)
        except RecordConflict:
            # The same request has come again, or its execution has begun.
            return "alive"
        return "discarded"


def is_throttled(error: Exception) -> bool:
    """Return whether AWS refused a call because there were too many."""
    return isinstance(error, ClientError) and aws_code(error) in THROTTLED
