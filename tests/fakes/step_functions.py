"""Step Functions in memory, with the operations that sweep and reconcile use."""

from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

_PAGE = 2


class FakeStepFunctions:
    """State machine executions by ARN: running ones, and the status and end of the others. Pages of two."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.ended: dict[str, tuple[str, float]] = {}
        """Status, and end in epoch seconds."""
        self.faults: dict[str, Exception] = {}
        """Raised by describe_execution, by ARN."""
        self.list_faults: list[Exception] = []
        self.described: list[str] = []

    def list_executions(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["statusFilter"] == "RUNNING"
        if self.list_faults:
            raise self.list_faults.pop()
        first = int(arguments.get("nextToken", "0"))
        arns = sorted(self.running)
        page = {"executions": [{"executionArn": arn} for arn in arns[first : first + _PAGE]]}
        return page | ({"nextToken": str(first + _PAGE)} if len(arns) > first + _PAGE else {})

    def describe_execution(self, **arguments: Any) -> dict[str, Any]:
        arn = arguments["executionArn"]
        self.described.append(arn)
        if arn in self.faults:
            raise self.faults[arn]
        if arn in self.running:
            return {"status": "RUNNING"}
        if arn not in self.ended:
            raise ClientError(
                {"Error": {"Code": "ExecutionDoesNotExist", "Message": ""}}, "DescribeExecution"
            )
        status, at = self.ended[arn]
        return {"status": status, "stopDate": datetime.fromtimestamp(at, UTC)}
