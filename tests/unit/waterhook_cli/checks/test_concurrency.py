"""The check of the reserved concurrency and of Lambda's quota."""

from typing import Any

import pytest

from tests.fakes.aws import client_error
from tests.unit.waterhook_cli.checks.helpers import (
    FOLLOW_FUNCTION,
    NOTE,
    OK,
    PROBLEM,
    WARNING,
    LambdaQuota,
    only,
)
from waterhook_cli.checks.concurrency import check_concurrency
from waterhook_cli.checks.finding import Finding


def findings(functions: Any, follow_concurrency: str = "50", *, is_local: bool = False) -> list[Finding]:
    return list(
        check_concurrency(
            functions, [FOLLOW_FUNCTION], {"FollowConcurrency": follow_concurrency}, is_local=is_local
        )
    )


def test_a_reservation_that_equals_the_parameter_is_ok() -> None:
    finding = only(findings(LambdaQuota(1000, 50)))
    assert (finding.level, "1000 in this account" in finding.message) == (OK, True)
    assert finding.message.endswith("950 unreserved")


@pytest.mark.parametrize(("quota", "by_others"), [(1000, 0), (150, 0), (1000, 850)])
def test_following_is_recommended_where_the_quota_allows_it(quota: int, by_others: int) -> None:
    fine, advice = findings(LambdaQuota(quota, by_others=by_others), "0")
    assert (fine.level, advice.level) == (OK, NOTE)
    assert "polls all executions" in advice.message
    assert "FollowConcurrency=50" in advice.hint
    assert "service-quotas" not in advice.hint


@pytest.mark.parametrize(
    ("quota", "by_others", "enough"), [(10, 0, 1000), (149, 0, 1000), (1000, 851, 1001), (2000, 1900, 2050)]
)
def test_a_quota_that_is_too_low_is_reported_with_the_one_to_request(
    quota: int, by_others: int, enough: int
) -> None:
    fine, advice = findings(LambdaQuota(quota, by_others=by_others), "0")
    # Only a recommendation: the stack works without.
    assert (fine.level, advice.level) == (OK, NOTE)
    assert "quota is too low to reserve 50" in advice.message
    assert advice.hint.endswith(f"--service-code lambda --quota-code L-B99A9384 --desired-value {enough}")


@pytest.mark.parametrize("reserved", [None, 0, 7])
def test_a_reservation_that_was_changed_outside_the_stack_is_a_warning(reserved: int | None) -> None:
    fine, changed = findings(LambdaQuota(1000, reserved))
    assert (fine.level, changed.level) == (OK, WARNING)
    assert f"reserves {'nothing' if reserved is None else reserved}" in changed.message
    assert changed.hint.endswith("--function-name shop-Follow --reserved-concurrent-executions 50")


class RolledBack(LambdaQuota):
    """Lambda after a rollback: the stack lists a follow function that is deleted."""

    def get_function_concurrency(self, **arguments: str) -> dict[str, int]:
        raise client_error("ResourceNotFoundException", 404)


@pytest.mark.parametrize("functions", [RolledBack(120), LambdaQuota(120)], ids=["rolled back", "deployed"])
def test_a_quota_too_low_for_follow_concurrency_is_a_problem_with_its_numbers(functions: LambdaQuota) -> None:
    fine, finding = findings(functions)
    assert (fine.level, finding.level) == (OK, PROBLEM)
    assert finding.message == (
        "FollowConcurrency is 50, but the follow function has no reserved concurrency. At most 20 can be reserved, "
        "because Lambda requires 100 unreserved"
    )
    assert "FollowConcurrency=20" in finding.hint
    assert finding.hint.endswith("--desired-value 1000")


def test_a_rolled_back_stack_whose_reservation_fits_is_ok() -> None:
    assert only(findings(RolledBack(1000))).level == OK


@pytest.mark.parametrize("follow_concurrency", ["0", "12"])
def test_the_quota_of_a_local_aws_is_not_compared(follow_concurrency: str) -> None:
    assert only(findings(LambdaQuota(32, 12), follow_concurrency, is_local=True)).level == OK
