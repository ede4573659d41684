"""The check of the stack's status."""

import boto3
import pytest

from tests.support.builders import REGION
from tests.unit.waterhook_cli.checks.helpers import NOTE, OK, PROBLEM, WARNING, only
from waterhook_cli.checks.finding import Level
from waterhook_cli.checks.stack_status import check_stack_status
from waterhook_cli.stack import Account, Stack


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("CREATE_COMPLETE", OK),
        ("UPDATE_COMPLETE", OK),
        ("UPDATE_IN_PROGRESS", NOTE),
        ("UPDATE_ROLLBACK_COMPLETE", WARNING),
        ("ROLLBACK_COMPLETE", PROBLEM),
        ("UPDATE_ROLLBACK_FAILED", PROBLEM),
        ("DELETE_FAILED", PROBLEM),
        ("DELETE_COMPLETE", PROBLEM),
    ],
)
def test_a_failed_deployment_is_reported(status: str, level: Level) -> None:
    account = Account(boto3.Session(region_name=REGION))
    finding = only(check_stack_status(Stack("shop", account, status, {}, {})))
    assert finding.level == level
    assert status in finding.message or "rolled back" in finding.message
