"""`python -m local.smoke`: deploy to the account of whoever runs it, run one execution, delete all of it again.

The one place where the project meets the real AWS. It needs credentials that may create the stack, and a Waterflai to
ask; what it costs is one execution and a few minutes of what the stack holds. Only the SAM CLI's own bucket for code
stays (its stack is aws-sam-cli-managed-default).
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

from local.runner import environment, interrupts
from local.runner.account import reachable_api_url
from local.runner.client import execution_id_of, notification
from local.runner.definition import write_for_local_aws
from local.runner.errors import RunnerError
from local.runner.files import locked
from local.runner.processes import end, start
from local.runner.sam import desk, override
from local.runner.screen import Screen
from local.teardown import DELETE_S, STOP_S, Teardown, code_of, is_missing
from waterhook_cli.api_client import ApiClient
from waterhook_cli.checks.concurrency import MIN_UNRESERVED, quota_request, reservable
from waterhook_cli.errors import CommandError, is_access_denied
from waterhook_cli.stack import Account, Stack

WORKSHOP = environment.ROOT / ".local" / "smoke"
# Cold starts, a first TLS handshake, and whatever the chatbot itself takes.
LIMIT_S = 900.0
DEPLOY_S = 1800.0
_SQS_WAIT_S = 5
_PREFIX = "waterhook-smoke-"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run, and against which Waterflai."""

    base_url: str
    chatbot: str
    input_data: Mapping[str, Any]
    parameters: Mapping[str, str]
    keep: bool = False


class Smoke:
    """One deployment under a name of its own, from its creation to its deletion."""

    def __init__(self, account: Account, wish: Wish, screen: Screen) -> None:
        """Touch nothing yet."""
        self._account = account
        self._wish = wish
        self._screen = screen
        self._name = f"{_PREFIX}{uuid.uuid4().hex[:8]}"
        self._secret_name = _secret_of(self._name)
        self._running: tuple[ApiClient, str] | None = None

    def run(self, secret_arn: str | None, api_key: str | None) -> dict[str, Any]:
        """Return the notification of a COMPLETED execution.

        All that was created is deleted again, whatever happens, unless it is to be kept. Raises RunnerError where
        the execution did not complete, or where something could not be deleted.
        """
        self._require_quota()
        # Also for the case that this process is killed.
        self._screen.line(f"Stack {self._name}; to delete what is left of it: {_again(self._name)}")
        with ExitStack() as workshop:
            # Two runs at the same time would share its build folder.
            workshop.enter_context(locked(WORKSHOP / "lock"))
            with self._screen.step("Build (sam build)"):
                self._sam("build", "--template-file", str(environment.ROOT / "template.yaml"))
            try:
                secret = secret_arn or self._create_secret(api_key)
                with self._screen.step(f"Deploy {self._name} (sam deploy), at most {DEPLOY_S / 60:.0f} min"):
                    self._deploy(secret)
                workshop.close()
                event = self._one_execution(self._found())
            except BaseException:
                workshop.close()
                self._end(own_secret=not secret_arn, failed=True)
                raise
        if left := self._end(own_secret=not secret_arn):
            raise RunnerError(left)
        return event

    def _end(self, *, own_secret: bool, failed: bool = False) -> str:
        """Delete everything; return what could not be done as one text, empty where all was.

        Ctrl-C has no effect meanwhile.
        """
        interrupts.ignore()
        teardown = Teardown(self._account, self._screen.line)
        if failed:
            with teardown.step("read the events of the stack"):
                self._show_failures(teardown)
        if self._wish.keep:
            self._screen.line(f"{self._name} is kept. To delete it: {_again(self._name)}")
            return ""
        if self._running:
            api, execution_id = self._running
            with teardown.step(f"cancel execution {execution_id}, whose job may still run"):
                api.cancel(execution_id)
        left = clean_up(teardown, self._screen, self._name, self._secret_name if own_secret else None)
        if left and failed:
            self._screen.line(left)
        return left

    def _show_failures(self, teardown: Teardown) -> None:
        try:
            failures = teardown.failures(self._name)
        except ClientError as error:
            if is_missing(error):
                return  # it was never created
            raise
        for failure in failures:
            self._screen.line(f"  {failure}")

    def _require_quota(self) -> None:
        """Print Lambda's quota. Raises RunnerError if FollowConcurrency does not fit: the deployment would fail."""
        given = self._wish.parameters.get("FollowConcurrency", "0")
        if not given.isdecimal():
            raise RunnerError(f"FollowConcurrency={given}: expected a whole number")
        wanted = int(given)
        try:
            limits = self._account.client("lambda").get_account_settings()["AccountLimit"]
        except ClientError as error:
            if not is_access_denied(error):
                raise
            self._screen.line(
                "Lambda's quota is not checked: lambda:GetAccountSettings is denied. The deployment fails "
                f"if fewer than {MIN_UNRESERVED + wanted} concurrent executions are unreserved."
                if wanted
                else "Lambda's quota is not checked: lambda:GetAccountSettings is denied. The defaults need none."
            )
            return
        quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
        self._screen.line(f"Lambda: {quota} concurrent executions in this region, {unreserved} unreserved")
        possible = reservable(unreserved)
        if wanted > possible and not _local_endpoint(self._account):
            raise RunnerError(
                f"FollowConcurrency={wanted} does not fit: of {unreserved} unreserved concurrent executions, Lambda "
                f"keeps {MIN_UNRESERVED}, so {possible} can be reserved. Leave FollowConcurrency out, or request a "
                f"higher quota: {quota_request(quota, unreserved, wanted)}"
            )

    def _create_secret(self, api_key: str | None) -> str:
        """Return the ARN of a secret with the API key."""
        secrets = self._account.client("secretsmanager")
        return str(secrets.create_secret(Name=self._secret_name, SecretString=api_key)["ARN"])

    def _deploy(self, secret_arn: str) -> None:
        template = WORKSHOP / "build" / "template.yaml"
        if _local_endpoint(self._account):
            # AWS gets the template as it was built.
            inlined = template.with_name("template-inlined.json")
            write_for_local_aws(template, inlined)
            template = inlined
        parameters = {
            "WaterflaiBaseUrl": self._wish.base_url,
            "WaterflaiApiKeySecretArn": secret_arn,
            "CreateResultsQueue": "true",
            **self._wish.parameters,
        }
        overrides = [override(name, value) for name, value in parameters.items()]
        self._sam(
            *("deploy", "--template-file", str(template), "--stack-name", self._name, "--resolve-s3"),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-confirm-changeset"),
            *("--region", str(self._account.session.region_name)),
            *("--no-progressbar", "--parameter-overrides", *overrides),
        )

    def _found(self) -> Stack:
        answer = self._account.client("cloudformation").describe_stacks(StackName=self._name)
        stack = Stack.from_description(self._account, answer["Stacks"][0])
        if endpoint_url := _local_endpoint(self._account):
            api_url = reachable_api_url(endpoint_url, stack.output("ApiUrl"))
            stack = replace(stack, local_outputs={"api_url": api_url})
        return stack

    def _one_execution(self, stack: Stack) -> dict[str, Any]:
        """Return what a subscriber is told of one execution, started through the API with our own credentials."""
        request = {"input_data": dict(self._wish.input_data), "metadata": {"smoke": self._name}}
        with self._screen.step(f"Run {self._wish.chatbot}, at most {LIMIT_S / 60:.0f} min"):
            api = ApiClient.for_stack(stack)
            execution_id = str(api.submit(self._wish.chatbot, request, None).fields["execution_id"])
            self._running = api, execution_id
            event = self._notification(stack, execution_id)
            self._running = None
        self._screen.document(event)
        status = event.get("data", {}).get("status")
        if status != "COMPLETED":
            raise RunnerError(f"The execution ended {status}: {event['data'].get('error')}")
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
        raise RunnerError(f"No notification of {execution_id} after {LIMIT_S:.0f} s")

    def _sam(self, command: str, *words: str) -> None:
        """Run the SAM CLI as a user would. Raises RunnerError with the end of its log."""
        (config, temporary), log = desk(WORKSHOP), WORKSHOP / f"{command}.log"
        folders = ["--cached", "--cache-dir", str(WORKSHOP / "cache"), "--build-dir", str(WORKSHOP / "build")]
        build = folders if command == "build" else []
        argv = [sys.executable, "-m", "samcli", command, *words, *build, "--config-file", str(config)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        env = {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", "TMPDIR": str(temporary)}
        child = start(f"sam {command}", argv, env=env, cwd=WORKSHOP, log=log)
        try:
            code = child.wait(DEPLOY_S)
        except TimeoutError as error:
            raise RunnerError(f"{error}\n{child.trail()}") from None
        finally:
            end([child.identity])
        if code:
            raise RunnerError(f"sam {command} failed:\n{child.trail()}")


def clean_up(teardown: Teardown, screen: Screen, stack: str, secret: str | None) -> str:
    """Delete a stack with all that it retains, and a secret; return what could not be done, empty where all was."""
    longest = (STOP_S + 2 * DELETE_S) / 60
    with screen.step(f"Delete everything, at most {longest:.0f} min (Ctrl-C has no effect)"):
        teardown.delete(stack)
        if secret:
            with teardown.step(f"delete secret {secret}"):
                _delete_secret(teardown.account, secret)
    if not teardown.faults:
        return ""
    faults = ["Not done in the clean-up:", *teardown.faults]
    return "\n  ".join(faults) + f"\nTo clean up again: {_again(teardown.stack or stack)}"


def _clean_up_again(account: Account, screen: Screen, stack: str) -> None:
    """Delete what an earlier run has left. Raises RunnerError where something could not be deleted."""
    interrupts.ignore()
    if left := clean_up(Teardown(account, screen.line), screen, stack, _secret_of(stack)):
        raise RunnerError(left)


def _delete_secret(account: Account, name: str) -> None:
    """Delete a secret by its name: it may exist although the answer to its creation was lost."""
    try:
        account.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise


def _again(stack: str) -> str:
    return f'make smoke-aws ARGS="--clean-up {stack}"'


def _secret_of(stack: str) -> str:
    """Return the name of the secret that belongs to a stack, given by name or id."""
    return f"{stack.partition('stack/')[2].partition('/')[0] or stack}/waterflai-api-key"


def main(words: Sequence[str] | None = None) -> int:
    """Return 0 once everything went well and is deleted, else 1 with the reason on standard error."""
    wanted = _arguments(words)
    api_key = os.environ.get("WATERFLAI_API_KEY")
    if not (wanted.secret_arn or api_key or wanted.clean_up):
        sys.stderr.write("Waterflai's key: --secret-arn ARN, or WATERFLAI_API_KEY in the environment\n")
        return 1
    interrupts.install()
    screen = Screen()
    try:
        account = _account()
        who = account.client("sts").get_caller_identity()
        screen.line(f"Account {who['Account']}, {account.session.region_name}, as {who['Arn']}")
        if wanted.clean_up:
            _clean_up_again(account, screen, wanted.clean_up)
            return 0
        wish = Wish(wanted.base_url, wanted.chatbot, wanted.input, dict(wanted.parameter), keep=wanted.keep)
        Smoke(account, wish, screen).run(wanted.secret_arn, api_key)
    except (RunnerError, CommandError, BotoCoreError, ClientError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nInterrupted; what was deployed has been deleted, unless a line above says otherwise.\n"
        )
        return interrupts.EXIT_CODE
    screen.line("One execution, one notification, nothing left.")
    return 0


def _local_endpoint(account: Account) -> str | None:
    """The address of a local AWS, where that is what AWS_ENDPOINT_URL names; None on the real one."""
    endpoint_url = str(account.client("cloudformation").meta.endpoint_url)
    return endpoint_url if endpoint_url.startswith("http://127.0.0.1") else None


def _account() -> Account:
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    if not session.region_name:
        raise RunnerError("No region: set AWS_REGION, or one in the profile that AWS_PROFILE names")
    return Account(session)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make smoke-aws ARGS=…", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--chatbot", help="a chatbot that completes, and that may be run once")
    parser.add_argument("--input", type=_object, default="{}", help="its input_data, as JSON")
    parser.add_argument("--base-url", default="https://api.waterflai.ai", help="of the Waterflai to ask")
    parser.add_argument(
        "--secret-arn", help="secret with its key; else WATERFLAI_API_KEY is put into one for a while"
    )
    parser.add_argument(
        "--parameter",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the template; FollowConcurrency=1 to follow the event stream, where the account's quota allows it",
    )
    parser.add_argument("--keep", action="store_true", help="delete nothing, to look at it")
    what.add_argument(
        "--clean-up", type=_stack, metavar="STACK", help="only delete what an earlier run left, by name or id"
    )
    return parser.parse_args(words)


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return given


def _stack(text: str) -> str:
    name = text.partition("stack/")[2] if text.startswith("arn:") else text
    if not name.startswith(_PREFIX):
        raise argparse.ArgumentTypeError(f"expected a stack of this test, {_PREFIX}…, got {text}")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
