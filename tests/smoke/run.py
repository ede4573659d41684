"""`make smoke-aws`: deploy to the user's AWS account, run one execution, delete everything again.

The only part of the project that uses real AWS. It needs credentials that may create the stack, and a Waterflai. It
costs one execution and a few minutes of the stack's resources. Only the SAM CLI's own bucket for code remains (its
stack is aws-sam-cli-managed-default).
"""

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.local_aws import environment, interrupts
from local.local_aws.aws_resources import local_api_url
from local.local_aws.definition import write_for_local_aws
from local.local_aws.errors import ToolError
from local.local_aws.files import locked
from local.local_aws.processes import end_processes, start_process
from local.local_aws.sam import override, prepare_workdir
from local.local_aws.stack_client import execution_id_of, notification
from local.terminal import Terminal
from tests.smoke.stack_deletion import DELETE_S, STOP_S, StackDeletion, error_code, is_missing
from waterhook_cli.api_client import ApiClient
from waterhook_cli.checks.concurrency import MIN_UNRESERVED, quota_request, reservable
from waterhook_cli.errors import CommandError, is_access_denied
from waterhook_cli.stack import Account, Stack

WORKDIR = environment.ROOT / ".local" / "smoke"
# For cold starts, the first TLS handshake, and the chatbot itself.
LIMIT_S = 900.0
DEPLOY_S = 1800.0
_SQS_WAIT_S = 5
_PREFIX = "waterhook-smoke-"


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """The chatbot to run, on which Waterflai, with which parameters of the template."""

    base_url: str
    chatbot: str
    input_data: Mapping[str, Any]
    parameters: Mapping[str, str]
    keep: bool = False


class SmokeTest:
    """One deployment with a name of its own, from its creation to its deletion."""

    def __init__(self, account: Account, options: SmokeOptions, terminal: Terminal) -> None:
        """Create nothing yet."""
        self._account = account
        self._options = options
        self._terminal = terminal
        self._name = f"{_PREFIX}{uuid.uuid4().hex[:8]}"
        self._secret_name = _secret_name_of(self._name)
        self._running: tuple[ApiClient, str] | None = None

    def run(self, secret_arn: str | None, api_key: str | None) -> dict[str, Any]:
        """Return the notification of a COMPLETED execution.

        Everything created is deleted again, also after an error, unless `keep` is set. Raises ToolError if the
        execution did not complete, or if something could not be deleted.
        """
        self._require_quota()
        # Printed first, in case this process is killed.
        self._terminal.print_line(
            f"Stack {self._name}; to delete what is left of it: {_clean_up_command(self._name)}"
        )
        with ExitStack() as build_lock:
            # Two runs at the same time would share its build folder.
            build_lock.enter_context(locked(WORKDIR / "lock"))
            with self._terminal.step("Build (sam build)"):
                self._run_sam("build", "--template-file", str(environment.ROOT / "template.yaml"))
            try:
                secret = secret_arn or self._create_secret(api_key)
                with self._terminal.step(
                    f"Deploy {self._name} (sam deploy), at most {DEPLOY_S / 60:.0f} min"
                ):
                    self._deploy(secret)
                build_lock.close()
                event = self._run_execution(self._describe_stack())
            except BaseException:
                build_lock.close()
                self._clean_up(own_secret=not secret_arn, failed=True)
                raise
        if left := self._clean_up(own_secret=not secret_arn):
            raise ToolError(left)
        return event

    def _clean_up(self, *, own_secret: bool, failed: bool = False) -> str:
        """Delete everything. Return what could not be deleted as one text, empty if nothing is left.

        Ctrl-C has no effect meanwhile.
        """
        interrupts.ignore()
        deletion = StackDeletion(self._account, self._terminal.print_line)
        if failed:
            with deletion.step("read the events of the stack"):
                self._show_failures(deletion)
        if self._options.keep:
            self._terminal.print_line(f"{self._name} is kept. To delete it: {_clean_up_command(self._name)}")
            return ""
        if self._running:
            api, execution_id = self._running
            with deletion.step(f"cancel execution {execution_id}, whose job may still run"):
                api.cancel(execution_id)
        left = delete_everything(
            deletion, self._terminal, self._name, self._secret_name if own_secret else None
        )
        if left and failed:
            self._terminal.print_line(left)
        return left

    def _show_failures(self, deletion: StackDeletion) -> None:
        try:
            failures = deletion.failed_events(self._name)
        except ClientError as error:
            if is_missing(error):
                return  # it was never created
            raise
        for failure in failures:
            self._terminal.print_line(f"  {failure}")

    def _require_quota(self) -> None:
        """Print Lambda's quota. Raises ToolError if FollowConcurrency does not fit: the deployment would fail."""
        value = self._options.parameters.get("FollowConcurrency", "0")
        if not value.isdecimal():
            raise ToolError(f"FollowConcurrency={value}: expected a whole number")
        requested = int(value)
        try:
            limits = self._account.client("lambda").get_account_settings()["AccountLimit"]
        except ClientError as error:
            if not is_access_denied(error):
                raise
            self._terminal.print_line(
                "Lambda's quota is not checked: lambda:GetAccountSettings is denied. The deployment fails "
                f"if fewer than {MIN_UNRESERVED + requested} concurrent executions are unreserved."
                if requested
                else "Lambda's quota is not checked: lambda:GetAccountSettings is denied. The defaults need none."
            )
            return
        quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
        self._terminal.print_line(
            f"Lambda: {quota} concurrent executions in this region, {unreserved} unreserved"
        )
        possible = reservable(unreserved)
        if requested > possible and not _local_endpoint(self._account):
            raise ToolError(
                f"FollowConcurrency={requested} does not fit: of {unreserved} unreserved concurrent executions, Lambda "
                f"keeps {MIN_UNRESERVED}, so {possible} can be reserved. Leave FollowConcurrency out, or request a "
                f"higher quota: {quota_request(quota, unreserved, requested)}"
            )

    def _create_secret(self, api_key: str | None) -> str:
        """Return the ARN of a secret with the API key."""
        secrets = self._account.client("secretsmanager")
        return str(secrets.create_secret(Name=self._secret_name, SecretString=api_key)["ARN"])

    def _deploy(self, secret_arn: str) -> None:
        template = WORKDIR / "build" / "template.yaml"
        if _local_endpoint(self._account):
            # Only the local AWS needs a changed template.
            inlined = template.with_name("template-inlined.json")
            write_for_local_aws(template, inlined)
            template = inlined
        parameters = {
            "WaterflaiBaseUrl": self._options.base_url,
            "WaterflaiApiKeySecretArn": secret_arn,
            "CreateResultsQueue": "true",
            **self._options.parameters,
        }
        overrides = [override(name, value) for name, value in parameters.items()]
        self._run_sam(
            *("deploy", "--template-file", str(template), "--stack-name", self._name, "--resolve-s3"),
            *("--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset"),
            *("--region", str(self._account.session.region_name)),
            *("--no-progressbar", "--parameter-overrides", *overrides),
        )

    def _describe_stack(self) -> Stack:
        answer = self._account.client("cloudformation").describe_stacks(StackName=self._name)
        stack = Stack.from_description(self._account, answer["Stacks"][0])
        if endpoint_url := _local_endpoint(self._account):
            stack = replace(
                stack, local_outputs={"api_url": local_api_url(endpoint_url, stack.output("ApiUrl"))}
            )
        return stack

    def _run_execution(self, stack: Stack) -> dict[str, Any]:
        """Start an execution through the API, with the user's credentials, and return its notification."""
        request = {"input_data": dict(self._options.input_data), "metadata": {"smoke": self._name}}
        with self._terminal.step(f"Run {self._options.chatbot}, at most {LIMIT_S / 60:.0f} min"):
            api = ApiClient.for_stack(stack)
            execution_id = str(api.submit(self._options.chatbot, request, None).fields["execution_id"])
            self._running = api, execution_id
            event = self._notification(stack, execution_id)
            self._running = None
        self._terminal.print_json(event)
        status = event.get("data", {}).get("status")
        if status != "COMPLETED":
            raise ToolError(f"The execution ended {status}: {event['data'].get('error')}")
        return event

    def _notification(self, stack: Stack, execution_id: str) -> dict[str, Any]:
        sqs, queue = self._account.client("sqs"), stack.output("ResultsQueueUrl")
        ends_at = time.monotonic() + LIMIT_S
        while time.monotonic() < ends_at:
            interrupts.check()
            answer = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=_SQS_WAIT_S)
            for message in answer.get("Messages", []):
                event = notification(message["Body"])
                if execution_id_of(event) == execution_id:
                    return event
        raise ToolError(f"No notification of {execution_id} after {LIMIT_S:.0f} s")

    def _run_sam(self, command: str, *words: str) -> None:
        """Run the SAM CLI. Raises ToolError, with the end of its log, if it fails."""
        (config, temporary), log = prepare_workdir(WORKDIR), WORKDIR / f"{command}.log"
        folders = ["--cached", "--cache-dir", str(WORKDIR / "cache"), "--build-dir", str(WORKDIR / "build")]
        build = folders if command == "build" else []
        argv = [sys.executable, "-m", "samcli", command, *words, *build, "--config-file", str(config)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        env = {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", "TMPDIR": str(temporary)}
        child = start_process(f"sam {command}", argv, env=env, cwd=WORKDIR, log=log)
        try:
            code = child.wait(DEPLOY_S)
        except TimeoutError as error:
            raise ToolError(f"{error}\n{child.log_tail()}") from None
        finally:
            end_processes([child.identity])
        if code:
            raise ToolError(f"sam {command} failed:\n{child.log_tail()}")


def delete_everything(deletion: StackDeletion, terminal: Terminal, stack: str, secret: str | None) -> str:
    """Delete a stack, the resources it retains, and a secret. Return what could not be deleted, or an empty text."""
    longest = (STOP_S + 2 * DELETE_S) / 60
    with terminal.step(f"Delete everything, at most {longest:.0f} min (Ctrl-C has no effect)"):
        deletion.delete(stack)
        if secret:
            with deletion.step(f"delete secret {secret}"):
                _delete_secret(deletion.account, secret)
    if not deletion.errors:
        return ""
    errors = ["Not done in the clean-up:", *deletion.errors]
    return "\n  ".join(errors) + f"\nTo clean up again: {_clean_up_command(deletion.stack or stack)}"


def _delete_left_over(account: Account, terminal: Terminal, stack: str) -> None:
    """Delete what an earlier run left. Raises ToolError if something could not be deleted."""
    interrupts.ignore()
    if left := delete_everything(
        StackDeletion(account, terminal.print_line), terminal, stack, _secret_name_of(stack)
    ):
        raise ToolError(left)


def _delete_secret(account: Account, name: str) -> None:
    """Delete a secret by its name: it may exist although the response to its creation was lost."""
    try:
        account.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise


def _clean_up_command(stack: str) -> str:
    return f'make smoke-aws ARGS="--clean-up {stack}"'


def _secret_name_of(stack: str) -> str:
    """Return the name of the secret of a stack, which is given by name or id."""
    return f"{stack.partition('stack/')[2].partition('/')[0] or stack}/waterflai-api-key"


def main(words: Sequence[str] | None = None) -> int:
    """Return 0 if the execution completed and everything is deleted, else 1 with the reason on standard error."""
    arguments = _arguments(words)
    api_key = os.environ.get("WATERFLAI_API_KEY")
    if not (arguments.secret_arn or api_key or arguments.clean_up):
        sys.stderr.write("no API key of Waterflai: add --secret-arn ARN, or set WATERFLAI_API_KEY\n")
        return 1
    interrupts.install()
    terminal = Terminal()
    try:
        account = _account()
        identity = account.client("sts").get_caller_identity()
        terminal.print_line(
            f"Account {identity['Account']}, {account.session.region_name}, as {identity['Arn']}"
        )
        if arguments.clean_up:
            _delete_left_over(account, terminal, arguments.clean_up)
            return 0
        options = SmokeOptions(
            arguments.base_url,
            arguments.chatbot,
            arguments.input,
            dict(arguments.parameter),
            keep=arguments.keep,
        )
        SmokeTest(account, options, terminal).run(arguments.secret_arn, api_key)
    except (ToolError, CommandError, BotoCoreError, ClientError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nInterrupted. The deployed resources are deleted, except those that a line above names.\n"
        )
        return interrupts.EXIT_CODE
    terminal.print_line("One execution, one notification, nothing left.")
    return 0


def _local_endpoint(account: Account) -> str | None:
    """Return the endpoint of a local AWS if AWS_ENDPOINT_URL names one; None on real AWS."""
    endpoint_url = str(account.client("cloudformation").meta.endpoint_url)
    return endpoint_url if endpoint_url.startswith("http://127.0.0.1") else None


def _account() -> Account:
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    if not session.region_name:
        raise ToolError("No region: set AWS_REGION, or one in the profile that AWS_PROFILE names")
    return Account(session)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make smoke-aws ARGS=…", description=__doc__)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--chatbot", help="a chatbot that completes, and that may be run once")
    parser.add_argument("--input", type=_json_object, default="{}", help="input_data of the request, as JSON")
    parser.add_argument("--base-url", default="https://api.waterflai.ai", help="base URL of Waterflai")
    parser.add_argument(
        "--secret-arn",
        help="secret with the API key of Waterflai; without it a temporary secret is created from WATERFLAI_API_KEY",
    )
    parser.add_argument(
        "--parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the template; FollowConcurrency=1 follows the stream if the account's quota allows it",
    )
    parser.add_argument("--keep", action="store_true", help="delete nothing")
    target.add_argument(
        "--clean-up",
        type=_stack_name,
        metavar="STACK",
        help="only delete what an earlier run left, by name or id",
    )
    return parser.parse_args(words)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return value


def _stack_name(text: str) -> str:
    name = text.partition("stack/")[2] if text.startswith("arn:") else text
    if not name.startswith(_PREFIX):
        raise argparse.ArgumentTypeError(f"expected a stack of this test, {_PREFIX}…, got {text}")
    return text


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value
