"""Reads state machine executions with DescribeExecution and ListExecutions, below the quotas of Step Functions."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.domain.jitter import jitter_of
from waterhook.errors import THROTTLING_CODES, aws_error_code

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef

# An API call that accepts a request, or a reconcile that was just invoked, gets this long to finish. An API call takes
# up to 28 s, and Step Functions may show an execution some time after it was started.
GRACE_S = 300.0
# Time reserved to close the current record. It is the sum of the longest times of each step, see
# waterhook.steps.reconcile.
RESERVE_S = 160.0
# After a throttle the same record is tried again after 5, 10 and 20 s.
THROTTLE_PAUSE_S = 5.0
# Status of an execution that Step Functions does not have. Not a status of Step Functions.
MISSING = "MISSING"
# Step Functions refills the token bucket of DescribeExecution by 10 to 15 per second and account.
DESCRIBES_PER_S = 8.0
# Maximum pause before a throttled DescribeExecution for a status event is repeated. If 1,000 executions end at the same
# time, they share a bucket of 250 or 300 calls; the last one is described after one or two minutes.
MAX_DESCRIBE_PAUSE_S = 20.0
# The bucket of ListExecutions is 100 calls or more. Running executions after these pages are described one by one.
MAX_RUNNING_PAGES = 100


class StateMachineExecutions:
    """The executions of the state machine. Calls are paced to stay below the quotas of Step Functions."""

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
        """Return an execution, without pacing. A throttled call is repeated while there is time to close the record.

        After that it raises boto3's ClientError, so that Lambda calls the function again: the sweep can't find an
        execution that has no record yet.
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

    def final_status(self, owner: str) -> str | None:
        """Return the status of an ended execution, MISSING, or None if it runs or ended less than GRACE_S ago."""
        pause_s = self._described_at + 1 / DESCRIBES_PER_S - self._clock()
        if pause_s > 0:
            self._sleep(pause_s)
        self._described_at = self._clock()
        try:
            description = self._states.describe_execution(executionArn=owner)
        except ClientError as error:
            if aws_error_code(error) == "ExecutionDoesNotExist":
                return MISSING
            raise
        stopped_at = description.get("stopDate")
        # Not stopped: RUNNING, or PENDING_REDRIVE, which an operator handles. Stopped recently: reconcile may close it.
        if stopped_at is None or stopped_at.timestamp() > self._clock() - GRACE_S:
            return None
        return description["status"]

    def running(self, remaining_s: Callable[[], float]) -> Iterator[str]:
        """Yield the ARNs of running executions, from at most MAX_RUNNING_PAGES pages."""
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
            yield from (execution["executionArn"] for execution in page["executions"])
            if not (token := page.get("nextToken")):
                return
            query["nextToken"] = token


def is_throttled(error: Exception) -> bool:
    """Return whether AWS throttled the call."""
    return isinstance(error, ClientError) and aws_error_code(error) in THROTTLING_CODES
