"""Checks the reserved concurrency of the follow function, and Lambda's quota in the account and region."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook.errors import aws_error_code
from waterhook_cli.checks.finding import Finding
from waterhook_cli.stack import StackResource

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

RECOMMENDED_FOLLOW_CONCURRENCY = 50
# Lambda rejects a reservation that leaves fewer unreserved.
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

    Where FollowConcurrency is 0, yields a recommendation. The stack works without: executions are polled.
    """
    limits = lambda_client.get_account_settings()["AccountLimit"]
    quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    yield Finding.ok(
        f"Lambda's quota of concurrent executions is {quota} in this account and region, {unreserved} unreserved"
    )
    # A local AWS has no account quota, and `make up` reserves what the template's parameter says.
    if is_local:
        return
    wanted = parameters.get("FollowConcurrency", "0")
    if wanted == "0":
        yield _recommendation(quota, unreserved)
        return
    names = [resource.physical_id for resource in resources if resource.logical_id == "FollowFunction"]
    reserved_by_function = dict(_reserved_concurrency(lambda_client, names))
    possible = reservable(unreserved)
    if int(wanted) > possible and all(reserved is None for reserved in reserved_by_function.values()):
        yield Finding.problem(
            f"FollowConcurrency is {wanted}, but nothing is reserved and {possible} can be: Lambda keeps "
            f"{MIN_UNRESERVED} unreserved",
            f"Deploy with FollowConcurrency={possible}, or request a higher quota first: "
            f"{quota_request(quota, unreserved, int(wanted))}",
        )
        return
    for function, reserved in reserved_by_function.items():
        if str(reserved) != wanted:
            yield Finding.warning(
                f"FollowConcurrency is {wanted}, but the follow function reserves "
                f"{'nothing' if reserved is None else reserved}: it was changed outside the stack",
                "Deploy again, or set it: aws lambda put-function-concurrency "
                f"--function-name {function} --reserved-concurrent-executions {wanted}",
            )


def _reserved_concurrency(
    lambda_client: "LambdaClient", names: Iterable[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield the name of each function that exists with its reserved concurrency, None where it has none."""
    for name in names:
        try:
            response: Mapping[str, Any] = lambda_client.get_function_concurrency(FunctionName=name)
        except ClientError as error:
            # A stack whose deployment was rolled back lists deleted functions, too.
            if aws_error_code(error) != "ResourceNotFoundException":
                raise
        else:
            yield name, response.get("ReservedConcurrentExecutions")


def reservable(unreserved: int) -> int:
    """Return how many of the unreserved concurrent executions a function can still reserve."""
    return max(unreserved - MIN_UNRESERVED, 0)


def quota_request(quota: int, unreserved: int, wanted: int) -> str:
    """Return the AWS CLI command that requests the lowest quota under which `wanted` more can be reserved."""
    reserved = quota - unreserved
    # At least the default: accounts that have less of it are new.
    needed = max(_DEFAULT_QUOTA, reserved + MIN_UNRESERVED + wanted)
    return (
        "aws service-quotas request-service-quota-increase "
        f"--service-code lambda --quota-code {_QUOTA_CODE} --desired-value {needed}"
    )


def _recommendation(quota: int, unreserved: int) -> Finding:
    """Return what to do about FollowConcurrency 0, as far as the account's quota allows it."""
    state = "FollowConcurrency is 0: no event stream is followed, executions are polled"
    if reservable(unreserved) >= RECOMMENDED_FOLLOW_CONCURRENCY:
        return Finding.note(
            f"{state}. The account's quota allows to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}",
            f"Deploy with FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY} to get results sooner.",
        )
    return Finding.note(
        f"{state}. The account's quota is too low to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"Lambda keeps {MIN_UNRESERVED} unreserved",
        "Request a higher quota, then deploy with "
        f"FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"{quota_request(quota, unreserved, RECOMMENDED_FOLLOW_CONCURRENCY)}",
    )
