"""State machine executions, as Step Functions describes and lists them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.domain.jitter import jitter_of
from waterhook.errors import THROTTLING_CODES, aws_error_code

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

# An API call that accepts a request, or a reconcile that has just been invoked, gets this long to finish: an API call
# takes 28 s, and Step Functions may know of an execution later than its starter does.
GRACE_S = 300.0
# Reserved for the record that is being closed: each step may take its longest time (waterhook.steps.reconcile).
RESERVE_S = 160.0
# After a throttle the same record is tried again after 5, 10 and 20 s.
THROTTLE_PAUSE_S = 5.0
# The status, beside those of Step Functions, of an execution that it does not know.
MISSING = "MISSING"
# Step Functions refills the buckets of DescribeExecution by 10 to 15 a second, for the whole account.
DESCRIBES_PER_S = 8.0
# A throttled call for a status event is repeated after about this long at most. 1,000 executions that end at the same
# time share a bucket of 250 or 300, and 10 or 15 a second: the last one is described after a minute or two.
MAX_DESCRIBE_PAUSE_S = 20.0
# A bucket of ListExecutions holds 100 calls or more. Running executions beyond these pages are described one by one.
MAX_RUNNING_PAGES = 100


class StateMachineExecutions:
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


def is_throttled(error: Exception) -> bool:
    """Return whether AWS refused a call because there were too many."""
    return isinstance(error, ClientError) and aws_error_code(error) in THROTTLING_CODES
