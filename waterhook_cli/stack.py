"""Finds the stack on AWS, or the local stack that `make up` started, and creates its boto3 clients."""

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

from waterhook_cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

DEFAULT_NAME = "waterhook"
# Short timeouts, because a user waits for the response.
_CLIENT_CONFIG = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}
)
_NO_PROXIES = Config(proxies={})
# For a local stack, botocore must not read the user's AWS profile and files.
_NO_USER_SETTINGS: Any = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


@dataclass(frozen=True, slots=True)
class StackSelection:
    """The options that select a stack. Without options: the local stack if it exists, else the stack on AWS."""

    name: str | None = None
    local: bool = False
    profile: str | None = None
    region: str | None = None

    @property
    def is_on_aws(self) -> bool:
        """Whether an option is set that applies only to AWS."""
        return bool(self.name or self.profile or self.region)


@dataclass(frozen=True, slots=True)
class Account:
    """A boto3 session. `endpoint_url` is set for the local AWS only."""

    session: boto3.Session
    endpoint_url: str | None = None

    def client(self, service: str, config: Config | None = None) -> Any:
        """Return a boto3 client with timeouts; `config` overrides them. Raises CommandError if its URL is no URL."""
        make_client: Any = self.session.client  # its type allows literal names only
        config = _CLIENT_CONFIG if config is None else _CLIENT_CONFIG.merge(config)
        if self.endpoint_url is not None:
            config = config.merge(_NO_PROXIES)
        try:
            return make_client(service, endpoint_url=self.endpoint_url, config=config)
        except BotoCoreError:  # some are also ValueErrors
            raise
        except ValueError as error:
            hint = "AWS_ENDPOINT_URL must be a URL. To use AWS: unset AWS_ENDPOINT_URL"
            raise CommandError(ExitCode.UNAVAILABLE, str(error), hint) from error


class StackNotFoundError(CommandError):
    """Raised when the account and region have no stack with the selected name."""

    def __init__(self, account: Account, message: str, hint: str) -> None:
        super().__init__(ExitCode.NOT_FOUND, message, hint)
        self.account = account


@dataclass(frozen=True, slots=True)
class StackResource:
    """A resource of a stack."""

    logical_id: str
    type: str
    physical_id: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed Waterhook."""

    name: str
    account: Account
    status: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    local_outputs: Mapping[str, str] = field(default_factory=dict)
    """Content of .local/outputs.json, which `make up` writes. Empty on AWS."""

    @classmethod
    def from_description(
        cls, account: Account, description: "StackTypeDef", local_outputs: Mapping[str, str] | None = None
    ) -> Self:
        """Return a stack from an entry of DescribeStacks."""
        return cls(
            name=description["StackName"],
            account=account,
            status=description["StackStatus"],
            outputs={entry["OutputKey"]: entry["OutputValue"] for entry in description.get("Outputs", [])},
            parameters={
                entry["ParameterKey"]: entry["ParameterValue"] for entry in description.get("Parameters", [])
            },
            local_outputs=local_outputs or {},
        )

    def __str__(self) -> str:
        """Return the name with the region or the local endpoint."""
        if self.is_local:
            return f"the local stack {self.name} ({self.account.endpoint_url})"
        return f"the stack {self.name} ({self.region})"

    @property
    def is_local(self) -> bool:
        """Whether `make up` started it."""
        return bool(self.local_outputs)

    @property
    def region(self) -> str:
        """AWS region."""
        return str(self.account.session.region_name)

    @property
    def api_url(self) -> str:
        """Base URL of the API. The host name in the output ApiUrl of a local stack does not resolve."""
        return self.local_outputs.get("api_url") or self.output("ApiUrl")

    def output(self, name: str) -> str:
        """Return the value of an output. Raises CommandError if the stack does not have it."""
        if name not in self.outputs:
            raise CommandError(
                ExitCode.NOT_FOUND,
                f"{self} has no output {name}; its status is {self.status}",
                "If it is not a Waterhook stack, select another one with --stack NAME. "
                f"If its deployment failed, see: aws cloudformation describe-stack-events --stack-name {self.name}",
            )
        return self.outputs[name]

    def client(self, service: str, config: Config | None = None) -> Any:
        """Return a boto3 client for the account and region of the stack. `config` overrides its timeouts."""
        return self.account.client(service) if config is None else self.account.client(service, config)

    def resources(self) -> list[StackResource]:
        """Return the resources of the stack."""
        return list(_resources(self.client("cloudformation"), self.name))


def find_stack(
    selection: StackSelection, environ: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Stack:
    """Return the selected stack. The local stack is searched in `folder` (default: current folder) and its parents.

    Raises CommandError or a botocore error if the stack is not found.
    """
    file = None if selection.is_on_aws else local_outputs_file(environ, folder or Path.cwd())
    if selection.local and selection.is_on_aws:
        raise CommandError(
            ExitCode.USAGE,
            "--local can't be combined with --stack, --profile or --region: they select a stack on AWS",
        )
    if file is not None:
        return _find_local(file)
    if selection.local:
        raise CommandError(
            ExitCode.NOT_FOUND,
            "no local stack is running: this folder and its parents have no .local/outputs.json",
            "Start one in a checkout of Waterhook: make up",
        )
    return _find_on_aws(selection, environ)


def local_outputs_file(environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the path of outputs.json: in the folder WATERHOOK_LOCAL, else in .local of `folder` or a parent."""
    if local_folder := environ.get("WATERHOOK_LOCAL"):
        return Path(local_folder) / "outputs.json"
    files = (parent / ".local" / "outputs.json" for parent in [folder, *folder.parents])
    return next((file for file in files if file.is_file()), None)


def _find_local(file: Path) -> Stack:
    try:
        outputs = {name: str(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
        endpoint_url, machine_arn = outputs["endpoint_url"], outputs["state_machine_arn"]
        region = outputs["region"]
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise CommandError(
            ExitCode.UNAVAILABLE, f"{file} can't be read", "Start the local stack again: make down up"
        ) from error
    # With these credentials the local AWS allows everything.
    botocore_session = BotocoreSession(_NO_USER_SETTINGS)
    session = boto3.Session("test", "test", region_name=region, botocore_session=botocore_session)
    account = Account(session, endpoint_url)
    try:
        stacks = [Stack.from_description(account, entry, outputs) for entry in _describe_stacks(account)]
    except (BotoCoreError, ClientError) as error:
        raise CommandError(
            ExitCode.UNAVAILABLE,
            f"the local stack at {endpoint_url} does not answer",
            "Start it again: make up. To use a stack on AWS, add --stack NAME.",
        ) from error
    for stack in stacks:
        if stack.outputs.get("StateMachineArn") == machine_arn:
            return stack
    raise CommandError(
        ExitCode.NOT_FOUND,
        f"the local AWS at {endpoint_url} no longer has the stack",
        "Deploy it again: make down up",
    )


def _find_on_aws(selection: StackSelection, environ: Mapping[str, str]) -> Stack:
    # boto3 reads AWS_DEFAULT_REGION only; the AWS CLI reads AWS_REGION too.
    region = selection.region or environ.get("AWS_REGION") or None
    account = Account(boto3.Session(profile_name=selection.profile, region_name=region))
    if account.session.region_name is None:
        raise NoRegionError
    name = selection.name or environ.get("WATERHOOK_STACK") or DEFAULT_NAME
    try:
        return next(Stack.from_description(account, entry) for entry in _describe_stacks(account, name))
    except ClientError as error:
        if "does not exist" not in error.response["Error"].get("Message", ""):
            raise
        raise StackNotFoundError(
            account,
            f"there is no stack {name!r} in {account.session.region_name}",
            "Select another stack with --stack NAME (or WATERHOOK_STACK), --region and --profile. For the stack of "
            "`make up`, use --local.",
        ) from error


def _describe_stacks(account: Account, name: str | None = None) -> "Iterator[StackTypeDef]":
    paginator = account.client("cloudformation").get_paginator("describe_stacks")
    for page in paginator.paginate(**({"StackName": name} if name else {})):
        yield from page["Stacks"]


def _resources(cloudformation: Any, stack: str) -> Iterator[StackResource]:
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for entry in page["StackResourceSummaries"]:
            yield StackResource(
                entry["LogicalResourceId"], entry["ResourceType"], entry.get("PhysicalResourceId", "")
            )
