"""`doctor` looks at the stack itself: its state, its reserved concurrency, its alarms."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from waterhook_cli.api_client import Api
from waterhook_cli.checks.finding import Finding
from waterhook_cli.errors import Problem, Refused
from waterhook_cli.stack import Resource, Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_lambda import LambdaClient

_ALARMS = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
RECOMMENDED_FOLLOW_CONCURRENCY = 50
# Lambda refuses a reservation that leaves fewer unreserved.
MIN_UNRESERVED = 100
# "Concurrent executions" of Lambda in Service Quotas, and its default. A new account may have 10.
_QUOTA_CODE, _DEFAULT_QUOTA = "L-B99A9384", 1000


def state(stack: Stack) -> Iterator[Finding]:
    """Look whether the last deployment went well."""
    if stack.status.endswith("_IN_PROGRESS"):
        yield Finding.note(f"{stack} is being changed: {stack.status}", "Look again when that is over.")
    elif stack.status == "UPDATE_ROLLBACK_COMPLETE":
        yield Finding.warning(
            f"{stack}: its last update failed and was rolled back; the version before it runs",
            f"The reason: aws cloudformation describe-stack-events --stack-name {stack.name}",
        )
    elif "ROLLBACK" in stack.status or "FAILED" in stack.status or "DELETE" in stack.status:
        yield Finding.problem(
            f"{stack} is {stack.status}",
            f"The reason: aws cloudformation describe-stack-events --stack-name {stack.name}",
        )
    else:
        yield Finding.ok(f"{stack}: {stack.status}")


def api(door: Api) -> Iterator[Finding]:
    """Look whether the API answers, and lets its user in."""
    try:
        next(door.executions(), None)
    except Refused as refused:  # no fault of the stack's: not everybody who looks after it may use it
        yield Finding.warning(refused.message, refused.do)
    except Problem as problem:
        yield Finding.problem(problem.message, problem.do or "Look into the log of ApiFunction.")
    else:
        yield Finding.ok("the API answers and lets you in")


def concurrency(
    functions: "LambdaClient", resources: Iterable[Resource], parameters: Mapping[str, str], *, local: bool
) -> Iterator[Finding]:
    """Compare the reserved concurrency of the follow function with FollowConcurrency and the account's quota.

    Where FollowConcurrency is 0, yields a recommendation. That is no fault: executions are polled.
    """
    limits = functions.get_account_settings()["AccountLimit"]
    quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    yield Finding.ok(
        f"Lambda's quota of concurrent executions is {quota} in this account and region, {unreserved} unreserved"
    )
    if local:  # its quota is no account's, and `make up` reserves what the template's parameter says
        return
    wanted = parameters.get("FollowConcurrency", "0")
    if wanted == "0":
        yield _recommended(quota, unreserved)
        return
    names = [entry.physical for entry in resources if entry.name == "FollowFunction"]
    found = dict(_reservations(functions, names))
    possible = reservable(unreserved)
    if int(wanted) > possible and all(reserved is None for reserved in found.values()):
        yield Finding.problem(
            f"FollowConcurrency is {wanted}, but nothing is reserved and {possible} can be: Lambda keeps "
            f"{MIN_UNRESERVED} unreserved",
            f"Deploy with FollowConcurrency={possible}, or request a higher quota first: "
            f"{quota_request(quota, unreserved, int(wanted))}",
        )
        return
    for function, reserved in found.items():
        if str(reserved) != wanted:
            yield Finding.warning(
                f"FollowConcurrency is {wanted}, but the follow function reserves "
                f"{'nothing' if reserved is None else reserved}: it was changed outside the stack",
                "Deploy again, or set it: aws lambda put-function-concurrency "
                f"--function-name {function} --reserved-concurrent-executions {wanted}",
            )


def _reservations(functions: "LambdaClient", names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Yield each function that exists with its reserved concurrency, None where it reserves none."""
    for name in names:
        try:
            answer: Mapping[str, Any] = functions.get_function_concurrency(FunctionName=name)
        except ClientError as error:
            # A stack whose deployment was rolled back lists what is deleted, too.
            if error.response["Error"].get("Code") != "ResourceNotFoundException":
                raise
        else:
            yield name, answer.get("ReservedConcurrentExecutions")


def reservable(unreserved: int) -> int:
    """Return how many of so many unreserved concurrent executions a function may still reserve."""
    return max(unreserved - MIN_UNRESERVED, 0)


def quota_request(quota: int, unreserved: int, wanted: int) -> str:
    """Return the command that requests the lowest quota under which so many more can be reserved."""
    reserved = quota - unreserved
    # The default is the least to request: accounts that have less of it are new ones.
    needed = max(_DEFAULT_QUOTA, reserved + MIN_UNRESERVED + wanted)
    return (
        "aws service-quotas request-service-quota-increase "
        f"--service-code lambda --quota-code {_QUOTA_CODE} --desired-value {needed}"
    )


def _recommended(quota: int, unreserved: int) -> Finding:
    """Return what a stack that follows no stream could do about it under the account's quota."""
    now = "FollowConcurrency is 0: no event stream is followed, executions are polled"
    if reservable(unreserved) >= RECOMMENDED_FOLLOW_CONCURRENCY:
        return Finding.note(
            f"{now}. The account's quota allows to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}",
            f"Deploy with FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY} to get results sooner.",
        )
    return Finding.note(
        f"{now}. The account's quota is too low to reserve {RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"Lambda keeps {MIN_UNRESERVED} unreserved",
        "Request a higher quota, then deploy with "
        f"FollowConcurrency={RECOMMENDED_FOLLOW_CONCURRENCY}: "
        f"{quota_request(quota, unreserved, RECOMMENDED_FOLLOW_CONCURRENCY)}",
    )


def alarms(cloudwatch: "CloudWatchClient", resources: Iterable[Resource]) -> Iterator[Finding]:
    """Look which of the stack's alarms ring."""
    names = {entry.physical: entry.name for entry in resources if entry.kind in _ALARMS}
    if not names:
        yield Finding.note(
            "no alarms are deployed: nobody is told", "Deploy with AlarmEmail or AlarmTopicArn."
        )
        return
    kinds: Any = ["MetricAlarm", "CompositeAlarm"]
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNames=[*names][:100], AlarmTypes=kinds)
    found: list[Any] = [
        alarm for page in pages for alarm in [*page.get("MetricAlarms", []), *page.get("CompositeAlarms", [])]
    ]
    ringing = [alarm for alarm in found if alarm.get("StateValue") == "ALARM"]
    for alarm in ringing:
        yield Finding.problem(
            f"{names[alarm['AlarmName']]} rings: {alarm.get('StateReason', '')}",
            alarm.get("AlarmDescription", "") or "docs/operations.md says what to do.",
        )
    if not ringing:
        yield Finding.ok(f"none of {len(found)} alarms rings")
