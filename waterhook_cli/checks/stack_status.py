"""Checks the status of the stack in CloudFormation."""

from collections.abc import Iterator

from waterhook_cli.checks.finding import Finding
from waterhook_cli.stack import Stack


def check_stack_status(stack: Stack) -> Iterator[Finding]:
    """Check that the last deployment succeeded."""
    events_hint = f"Find the reason: aws cloudformation describe-stack-events --stack-name {stack.name}"
    if stack.status.endswith("_IN_PROGRESS"):
        yield Finding.note(
            f"{stack} is being changed: {stack.status}", "Run doctor again when the change is complete."
        )
    elif stack.status == "UPDATE_ROLLBACK_COMPLETE":
        yield Finding.warning(
            f"the last update of {stack} failed and was rolled back, so the previous version runs",
            events_hint,
        )
    elif "ROLLBACK" in stack.status or "FAILED" in stack.status or "DELETE" in stack.status:
        yield Finding.problem(f"{stack} is {stack.status}", events_hint)
    else:
        yield Finding.ok(f"{stack}: {stack.status}")
