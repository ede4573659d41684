"""The sweep: finds what nobody works on any more although its notification is still to come, and has it ended.

Status events and retries see to nearly all of it; the sweep is for the event that never came, the start that was
never made, and the topic that was down for longer than a machine tries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.models import iso
from waterhook.record import SHARDS, Record
from waterhook.records import Records

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_stepfunctions import SFNClient

# Sparse: a record is in it from its acceptance until it is notified, so it is as long as there is work.
UNFINISHED_INDEX = "unfinished"
# Whoever has just accepted, ended or published something gets this long to finish: an API call takes 28 s, and
# Step Functions may know of an execution later than its starter does.
GRACE_S = 300.0
# What is left for the one under way: an upstream that is silent keeps its closing waiting for this long.
RESERVE_S = 90.0
# Another shard is the first each time, so that none is always the one that time does not suffice for.
TURN_S = 900.0
# The status, beside those of Step Functions, of an execution that it does not know.
MISSING = "MISSING"

_THROTTLED = {"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did: ended, left to whoever works on them, failed, and not looked at for want of time."""

    ended: int = 0
    alive: int = 0
    failed: int = 0
    left: int = 0


class Unfinished:
    """The index of records whose notification is still to come."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        """Keep the table's name and a client."""
        self._table = table
        self._client = client

    def before(self, created_at: str, *, first_shard: int) -> Iterator[tuple[str, str]]:
        """Yield execution id and owner of every record that was accepted earlier, each shard's oldest first."""
        turn = first_shard % len(SHARDS)
        for shard in SHARDS[turn:] + SHARDS[:turn]:
            query: dict[str, Any] = {
                "TableName": self._table,
                "IndexName": UNFINISHED_INDEX,
                "KeyConditionExpression": "unfinished = :shard AND created_at < :before",
                "ExpressionAttributeValues": {":shard": {"S": shard}, ":before": {"S": created_at}},
            }
            while True:
                page = self._client.query(**query)
                for item in page["Items"]:
                    yield item["execution_id"]["S"], item["owner_execution_arn"]["S"]
                if not (last := page.get("LastEvaluatedKey")):
                    break
                query["ExclusiveStartKey"] = last


class Sweeper:
    """Touches nothing that a live execution owns; one record in trouble never stops the others."""

    def __init__(
        self,
        records: Records,
        unfinished: Unfinished,
        states: "SFNClient",
        machine_arn: str,
        *,
        end: Callable[[Record, str], object],
        clock: Callable[[], float],
        troubled: Callable[[str, Exception], None],
    ) -> None:
        """Keep what it works with: `end` brings a record to its end, `troubled` hears of each that failed."""
        self._records = records
        self._unfinished = unfinished
        self._states = states
        self._machine_arn = machine_arn
        self._end = end
        self._clock = clock
        self._troubled = troubled

    def sweep(self, remaining_s: Callable[[], float]) -> Swept:
        """End what is to be ended, while `remaining_s` leaves time for it, and return what was done.

        Raises boto3's ClientError where the index or the list of running executions can't be read.
        """
        now = self._clock()
        running = set(self._running())
        old = self._unfinished.before(iso(now - GRACE_S) or "", first_shard=int(now // TURN_S))
        # Running ones are the most by far, and known by a page of a thousand; the others are asked after singly.
        found = list(old)
        ahead = [(execution_id, owner) for execution_id, owner in found if owner not in running]
        counts = {"ended": 0, "alive": len(found) - len(ahead), "failed": 0}
        for number, (execution_id, owner) in enumerate(ahead):
            if remaining_s() < RESERVE_S:
                return Swept(**counts, left=len(ahead) - number)
            try:
                counts["ended" if self._look(execution_id, owner) else "alive"] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the next record is another
                if _is_throttled(error):
                    # The rest would be refused as well; the next sweep begins elsewhere.
                    return Swept(**counts, left=len(ahead) - number)
                self._troubled(execution_id, error)
                counts["failed"] += 1
        return Swept(**counts)

    def _look(self, execution_id: str, owner: str) -> bool:
        """Return whether the record needed anything, once it has it."""
        record = self._records.get(execution_id, self._clock())
        if record is None or record.owner_execution_arn != owner:
            return False
        if record.notified_at is not None:
            # A version that knew no index notified it.
            self._records.leave_index(record)
            return False
        status = self._ended_as(owner)
        if status is None:
            return False
        self._end(record, status)
        return True

    def _ended_as(self, owner: str) -> str | None:
        """Return the status an execution ended with, MISSING, or None while it runs or has only just ended."""
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

    def _running(self) -> Iterator[str]:
        query: dict[str, Any] = {
            "stateMachineArn": self._machine_arn,
            "statusFilter": "RUNNING",
            "maxResults": 1000,
        }
        while True:
            page = self._states.list_executions(**query)
            yield from (one["executionArn"] for one in page["executions"])
            if not (token := page.get("nextToken")):
                return
            query["nextToken"] = token


def _is_throttled(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _THROTTLED
