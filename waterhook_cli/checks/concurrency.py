"""Checks the reserved concurrency of the follow function, and the Lambda quota of the account and region."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import aws_error_code
from waterhook_cli.checks.finding import Finding, deploy_hint
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

RECOMMENDED_FOLLOW_CONCURRENCY = 50
# Lambda rejects a reservation that leaves less unreserved concurrency.
MIN_UNRESERVED = 100
# "Concurrent executions" of Lambda in Service Quotas, and its default. A new account may have 10.
_QUOTA_CODE, _DEFAULT_QUOTA = "L-B99A9384", 1000


def check_concurrency(
    lambda_client: "LambdaClient",
    resources: Iterable[StackResource],
    parameters: Mapping[str, str],
    *,
    is_local: bool,
) -> Iterator[Finding]:
    """Compare the reserved concurrency of the follow function with FollowConcurrency and the account's quota.

    If FollowConcurrency is 0, yields a recommendation. The stack works with 0 too: it polls all executions.
    """
    limits = lambda_client.get_account_settings()["AccountLimit"]
    quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    yield Finding.ok(
        f"Lambda's quota of concurrent executions is {quota} in this account and region, {unreserved} unreserved"
    )
    # A local AWS has no quota, and `make up` reserves the value of the parameter.
    if is_local:
        return
    requested = parameters.get("FollowConcurrency", "0")
    if requested == "0":
        yield _recommendation(quota, unreserved)
        return
    names = [resource.physical_id for resource in resources if resource.logical_id == "FollowFunction"]
    reserved_by_function = dict(_reserved_concurrency(lambda_client, names))
    possible = reservable(unreserved)
    if int(requested) > possible and all(reserved is None for reserved in reserved_by_function.values()):
        yield Finding.problem(
            f"FollowConcurrency is {requested}, but the follow function has no reserved concurrency. At most "
            f"{possible} can be reserved, because Lambda requires {MIN_UNRESERVED} unreserved",
            f"Deploy with FollowConcurrency={possible}. Or request a higher quota, and deploy when AWS has granted it: "
            f"{quota_request(quota, unreserved, int(requested))}",
        )
        return
    for function, reserved in reserved_by_function.items():
        if str(reserved) != requested:
            yield Finding.warning(
                f"FollowConcurrency is {requested}, but the follow function reserves "
                f"{'nothing' if reserved is None else reserved}. The value was changed outside of the stack",
                "Set it again: aws lambda put-function-concurrency "
                f"--function-name {function} --reserved-concurrent-executions {requested}",
            )


def _reserved_concurrency(
    lambda_client: "LambdaClient", names: Iterable[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield each existing function with its reserved concurrency, None if it has no reservation."""
    for name in names:
        try:
            response: Mapping[str, Any] = lambda_client.get_function_concurrency(FunctionName=name)
        except ClientError as error:
            # After a rollback, a stack also lists deleted functions.
            if aws_error_code(error) != "ResourceNotFoundException":
                raise
        else:
            yield name, response.get("ReservedConcurrentExecutions")


def reservable(unreserved: int) -> int:
    """Return the maximum concurrency that a function can reserve in an account with this unreserved concurrency."""
    return max(unreserved - MIN_UNRESERVED, 0)


def quota_request(quota: int, unreserved: int, requested: int) -> str:
    """Return the AWS CLI command that requests the lowest quota that allows to reserve `requested` more."""
    reserved = quota - unreserved
    # At least the default of Lambda: only new accounts have less.
    needed = max(_DEFAULT_QUOTA, reserved + MIN_UNRESERVED + requested)
    return (
        "aws service-quotas request-service-quota-increase "
        f"--service-code lambda --quota-code {_QUOTA_CODE} --desired-value {needed}"
    )


def _recommendation(quota: int, unreserved: int) -> Finding:
    """Return the recommendation for a stack with FollowConcurrency 0."""
    state = "FollowConcurrency is 0, so Waterhook polls all executions and follows no event stream"
    if reservable(unreserved) >= RECOMMENDED_FOLLOW_CONCURRENCY:
        return Finding.note(
            f"{state}. The account's quota allows to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}",
            deploy_hint(f"FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY}", "to get results sooner"),
        )
    return Finding.note(
        f"{state}. The account's quota is too low to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"Lambda requires {MIN_UNRESERVED} unreserved",
        "To get results sooner, request a higher quota. When AWS has granted it, deploy with "
        f"FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"{quota_request(quota, unreserved, RECOMMENDED_FOLLOW_CONCURRENCY)}",
    )
