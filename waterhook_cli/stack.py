"""Finding the stack: on AWS by its name, or the one that `make up` has started."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
from botocore.session import Session as BotocoreSession

from waterhook_cli.errors import ExitCode, Problem

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

DEFAULT_NAME = "waterhook"
# Somebody waits: a host that is away is told of soon.
_CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
_LOOPBACK = Config(proxies={})
# Of the user's own AWS set-up a local stack wants nothing: no profile, which may not exist, no files, no keys.
_NOTHING: Any = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
_STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which stack the user has asked for; nothing at all means: the local one if there is one."""

    stack: str | None = None
    local: bool = False
    profile: str | None = None
    region: str | None = None

    @property
    def on_aws(self) -> bool:
        """Whether something was said that only makes sense there."""
        return bool(self.stack or self.profile or self.region)


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks, and where: a session, with the address of a local AWS if it is one."""

    session: boto3.Session
    endpoint_url: str | None = None

    def client(self, service: str) -> Any:
        """Return a client of that service."""
        open_client: Any = self.session.client  # its types know each service by name
        config = _CONFIG if self.endpoint_url is None else _CONFIG.merge(_LOOPBACK)
        try:
            return open_client(service, endpoint_url=self.endpoint_url, config=config)
        except BotoCoreError:  # some of these are ValueErrors, too
            raise
        except ValueError as error:
            raise Problem(ExitCode.UNAVAILABLE, f"{error}: look at AWS_ENDPOINT_URL") from error


class NoStackError(Problem):
    """Raised where the account has no stack of that name."""

    def __init__(self, account: Account, what: str, do: str) -> None:
        super().__init__(ExitCode.NOT_FOUND, what, do)
        self.account = account


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a stack, or a stack nested in it, has created."""

    name: str
    kind: str
    physical: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed Waterhook."""

    name: str
    account: Account
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    local: Mapping[str, str] = field(default_factory=dict)
    """What `make up` knows of it; empty on AWS."""

    @classmethod
    def described(
        cls, account: Account, found: "StackTypeDef", local: Mapping[str, str] | None = None
    ) -> Self:
        """Return the stack that CloudFormation describes so."""
        return cls(
            name=found["StackName"],
            account=account,
            status=found["StackStatus"],
            outputs={entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", [])},
            parameters={
                entry["ParameterKey"]: entry["ParameterValue"] for entry in found.get("Parameters", [])
            },
            local=local or {},
        )

    def __str__(self) -> str:
        """Name it so that nobody takes it for another."""
        where = self.account.endpoint_url if self.local else self.account.session.region_name
        return f"{'the local stack' if self.local else 'the stack'} {self.name} ({where})"

    @property
    def region(self) -> str:
        """The region it is in."""
        return str(self.account.session.region_name)

    @property
    def api_url(self) -> str:
        """What the API's paths begin with: a local AWS has no names for its APIs."""
        return self.local.get("api_url") or self.output("ApiUrl")

    def output(self, name: str) -> str:
        """Return an output. Raises Problem where the stack has none of that name, and so is none of ours."""
        if name not in self.outputs:
            raise Problem(
                ExitCode.NOT_FOUND,
                f"{self} is {self.status} and has no output {name}",
                "Is it a Waterhook, and has its deployment succeeded? --stack NAME takes another.",
            )
        return self.outputs[name]

    def client(self, service: str) -> Any:
        """Return a client that reaches it."""
        return self.account.client(service)

    def resources(self) -> list[Resource]:
        """Return all that it has created, nested stacks included."""
        return list(_resources(self.client("cloudformation"), self.name))

    def resource(self, name: str) -> str:
        """Return the physical name of a resource of this stack itself."""
        found = self.client("cloudformation").describe_stack_resource(
            StackName=self.name, LogicalResourceId=name
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])


def find(wanted: Wanted, environ: Mapping[str, str] = os.environ, here: Path | None = None) -> Stack:
    """Return the stack that is wanted. Raises Problem, or what botocore raises, where there is none."""
    file = None if wanted.on_aws else outputs_file(environ, here or Path.cwd())
    if wanted.local and wanted.on_aws:
        raise Problem(ExitCode.USAGE, "--local and --stack, --profile or --region exclude each other")
    if file is not None:
        return _local(file)
    if wanted.local:
        raise Problem(
            ExitCode.NOT_FOUND,
            "no local stack is up: there is no .local/outputs.json",
            "`make up` starts one.",
        )
    return _on_aws(wanted, environ)


def outputs_file(environ: Mapping[str, str], here: Path) -> Path | None:
    """Return what `make up` wrote: in the folder that WATERHOOK_LOCAL names, else in .local here or above."""
    if folder := environ.get("WATERHOOK_LOCAL"):
        return Path(folder) / "outputs.json"
    files = (parent / ".local" / "outputs.json" for parent in [here, *here.parents])
    return next((file for file in files if file.is_file()), None)


def _local(file: Path) -> Stack:
    try:
        known = {name: str(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
        endpoint_url, machine = known["endpoint_url"], known["state_machine_arn"]
        region = known["region"]
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise Problem(
            ExitCode.UNAVAILABLE, f"{file} can't be read", "`make down up` writes it again."
        ) from error
    # What the local AWS takes for the account's root.
    session = boto3.Session("test", "test", region_name=region, botocore_session=BotocoreSession(_NOTHING))
    account = Account(session, endpoint_url)
    try:
        stacks = [Stack.described(account, found, known) for found in _stacks(account)]
    except (BotoCoreError, ClientError) as error:
        raise Problem(
            ExitCode.UNAVAILABLE,
            f"the local stack at {endpoint_url} does not answer",
            "`make up` starts it again; --stack NAME asks for one on AWS.",
        ) from error
    for stack in stacks:
        if stack.outputs.get("StateMachineArn") == machine:
            return stack
    raise Problem(
        ExitCode.NOT_FOUND, f"at {endpoint_url} there is no stack any more", "`make down up` deploys one."
    )


def _on_aws(wanted: Wanted, environ: Mapping[str, str]) -> Stack:
    # boto3 knows AWS_DEFAULT_REGION only; the AWS CLI, and so its users, AWS_REGION too.
    region = wanted.region or environ.get("AWS_REGION") or None
    account = Account(boto3.Session(profile_name=wanted.profile, region_name=region))
    if account.session.region_name is None:
        raise NoRegionError
    name = wanted.stack or environ.get("WATERHOOK_STACK") or DEFAULT_NAME
    try:
        return next(Stack.described(account, found) for found in _stacks(account, name))
    except ClientError as error:
        if "does not exist" not in error.response["Error"].get("Message", ""):
            raise
        raise NoStackError(
            account,
            f"there is no stack {name!r} in {account.session.region_name}",
            "--stack NAME (or WATERHOOK_STACK), --region and --profile say where to look; --local takes the one "
            "that `make up` has started.",
        ) from error


def _stacks(account: Account, name: str | None = None) -> "Iterator[StackTypeDef]":
    paginator = account.client("cloudformation").get_paginator("describe_stacks")
    for page in paginator.paginate(**({"StackName": name} if name else {})):
        yield from page["Stacks"]


def _resources(cloudformation: Any, stack: str) -> Iterator[Resource]:
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for entry in page["StackResourceSummaries"]:
            found = Resource(
                entry["LogicalResourceId"], entry["ResourceType"], entry.get("PhysicalResourceId", "")
            )
            yield found
            if found.kind == _STACK and found.physical:
                yield from _resources(cloudformation, found.physical)
