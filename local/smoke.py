"""`python -m local.smoke`: deploy to the account of whoever runs it, run one execution, delete all of it again.

The one place where the project meets the real AWS. It needs credentials that may create the stack, and a Waterflai to
ask; what it costs is one execution and a few minutes of what the stack holds. Only the SAM CLI's own bucket for code
stays (its stack is aws-sam-cli-managed-default).
"""

import argparse
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from local.runner.sam import desk, override
from local.runner.screen import Screen
from waterhook_cli import target
from waterhook_cli.api import Api
from waterhook_cli.checks_stack import reservable
from waterhook_cli.errors import Problem

WORKSHOP = environment.ROOT / ".local" / "smoke"
# Cold starts, a first TLS handshake, and whatever the chatbot itself takes.
LIMIT_S = 900.0
_SQS_WAIT_S = 5
_LINES_OF_A_LOG = 15
# What stays when a stack is deleted, on purpose; ours was never anybody's.
_KEPT = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run, and against which Waterflai."""

    base_url: str
    chatbot: str
    input_data: Mapping[str, Any]
    parameters: Mapping[str, str]
    keep: bool = False


class Smoke:
    """One deployment of its own name, from its creation to its end."""

    def __init__(self, account: target.Account, wish: Wish, screen: Screen) -> None:
        """Touch nothing yet."""
        self._account = account
        self._wish = wish
        self._screen = screen
        self._name = f"waterhook-smoke-{uuid.uuid4().hex[:8]}"

    def run(self, secret_arn: str | None, api_key: str | None) -> dict[str, Any]:
        """Return the notification of a COMPLETED execution. Raises RunnerError where anything else came of it.

        Whatever happens after the first resource was created, all is deleted again, unless it is to be kept.
        """
        self._require_quota()
        with self._screen.step("Build (sam build)"):
            self._sam("build", "--template-file", str(environment.ROOT / "template.yaml"))
        with self._secret(secret_arn, api_key) as secret, self._deployed(secret) as stack:
            return self._one_execution(stack)

    def _require_quota(self) -> None:
        """Raise RunnerError if Lambda would refuse to reserve FollowConcurrency, which would roll back the stack."""
        wanted = self._wish.parameters.get("FollowConcurrency", "0")
        if wanted == "0" or _local_endpoint(self._account):
            return
        limits = self._account.client("lambda").get_account_settings()["AccountLimit"]
        possible = reservable(limits["UnreservedConcurrentExecutions"])
        if wanted.isdecimal() and int(wanted) > possible:
            raise RunnerError(
                f"FollowConcurrency={wanted}: Lambda's quota in this account and region allows {possible}. "
                "Leave it out, or request a higher quota."
            )

    @contextmanager
    def _secret(self, arn: str | None, api_key: str | None) -> Iterator[str]:
        """The ARN of the key's secret; one of our own making is deleted for good."""
        if arn:
            yield arn
            return
        secrets = self._account.client("secretsmanager")
        made = secrets.create_secret(Name=f"{self._name}/waterflai-api-key", SecretString=api_key)["ARN"]
        try:
            yield made
        finally:
            if not self._wish.keep:
                secrets.delete_secret(SecretId=made, ForceDeleteWithoutRecovery=True)

    @contextmanager
    def _deployed(self, secret_arn: str) -> Iterator[target.Stack]:
        try:
            with self._screen.step(f"Deploy {self._name} (sam deploy)"):
                self._deploy(secret_arn)
            yield self._found()
        finally:
            if self._wish.keep:
                self._screen.line(f"{self._name} is kept. To delete it: sam delete --stack-name {self._name}")
            else:
                with self._screen.step("Delete everything"):
                    self._delete()

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

    def _found(self) -> target.Stack:
        answer = self._account.client("cloudformation").describe_stacks(StackName=self._name)
        stack = target.Stack.described(self._account, answer["Stacks"][0])
        if endpoint_url := _local_endpoint(self._account):
            stack = replace(stack, local={"api_url": reachable_api_url(endpoint_url, stack.output("ApiUrl"))})
        return stack

    def _one_execution(self, stack: target.Stack) -> dict[str, Any]:
        """Return what a subscriber is told of one execution, started through the API with our own credentials."""
        request = {"input_data": dict(self._wish.input_data), "metadata": {"smoke": self._name}}
        with self._screen.step(f"Run {self._wish.chatbot}"):
            accepted = Api.of(stack).submit(self._wish.chatbot, request, None)
            event = self._notification(stack, str(accepted.fields["execution_id"]))
        self._screen.document(event)
        status = event.get("data", {}).get("status")
        if status != "COMPLETED":
            raise RunnerError(f"The execution ended {status}: {event['data'].get('error')}")
        return event

    def _notification(self, stack: target.Stack, execution_id: str) -> dict[str, Any]:
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

    def _delete(self) -> None:
        """Delete the stack, then what it leaves; raises RunnerError naming whatever could not be deleted."""
        stacks = self._account.client("cloudformation")
        try:
            kept = [each for each in self._found().resources() if each.kind in _KEPT and each.physical]
        except ClientError:
            return  # it was never created
        stacks.delete_stack(StackName=self._name)
        waiter = stacks.get_waiter("stack_delete_complete")
        waiter.wait(StackName=self._name, WaiterConfig={"Delay": 2, "MaxAttempts": 300})
        left = []
        for each in kept:
            try:
                self._remove(each)
            except (ClientError, BotoCoreError) as error:
                left.append(f"{each.kind} {each.physical}: {error}")
        if left:
            raise RunnerError("Not deleted:\n  " + "\n  ".join(left))

    def _remove(self, kept: target.Resource) -> None:
        """Delete what the stack has left; a first deployment that failed has left none of it."""
        removers: dict[str, Callable[[str], object]] = {
            "AWS::DynamoDB::Table": lambda name: self._account.client("dynamodb").delete_table(
                TableName=name
            ),
            "AWS::SQS::Queue": lambda url: self._account.client("sqs").delete_queue(QueueUrl=url),
            "AWS::S3::Bucket": self._remove_bucket,
        }
        try:
            removers[kept.kind](kept.physical)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE:
                raise

    def _remove_bucket(self, name: str) -> None:
        bucket = self._account.session.resource(
            "s3", endpoint_url=self._account.client("s3").meta.endpoint_url
        ).Bucket(name)
        bucket.object_versions.delete()
        bucket.delete()

    def _sam(self, command: str, *words: str) -> None:
        """Run the SAM CLI as a user would. Raises RunnerError with the end of its log."""
        (config, temporary), log = desk(WORKSHOP), WORKSHOP / f"{command}.log"
        folders = ["--cached", "--cache-dir", str(WORKSHOP / "cache"), "--build-dir", str(WORKSHOP / "build")]
        build = folders if command == "build" else []
        argv = [sys.executable, "-m", "samcli", command, *words, *build, "--config-file", str(config)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        with log.open("w", encoding="utf-8") as output:
            env = {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", "TMPDIR": str(temporary)}
            done = subprocess.run(argv, cwd=WORKSHOP, env=env, stdout=output, stderr=output, check=False)
        if done.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_OF_A_LOG:]
            raise RunnerError("\n".join([f"sam {command} failed ({log}):", *last]))


_GONE = {
    "ResourceNotFoundException",
    "NoSuchBucket",
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
}


def main(words: Sequence[str] | None = None) -> int:
    """Return 0 once everything went well and is deleted, else 1 with the reason on standard error."""
    wanted = _arguments(words)
    api_key = os.environ.get("WATERFLAI_API_KEY")
    if not (wanted.secret_arn or api_key):
        sys.stderr.write("Waterflai's key: --secret-arn ARN, or WATERFLAI_API_KEY in the environment\n")
        return 1
    interrupts.install()
    screen = Screen()
    try:
        account = _account()
        who = account.client("sts").get_caller_identity()
        screen.line(f"Account {who['Account']}, {account.session.region_name}, as {who['Arn']}")
        wish = Wish(wanted.base_url, wanted.chatbot, wanted.input, dict(wanted.parameter), keep=wanted.keep)
        Smoke(account, wish, screen).run(wanted.secret_arn, api_key)
    except (RunnerError, Problem, BotoCoreError, ClientError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nInterrupted; what was deployed has been deleted, unless a line above says otherwise.\n"
        )
        return interrupts.EXIT_CODE
    screen.line("One execution, one notification, nothing left.")
    return 0


def _local_endpoint(account: target.Account) -> str | None:
    """The address of a local AWS, where that is what AWS_ENDPOINT_URL names; None on the real one."""
    endpoint_url = str(account.client("cloudformation").meta.endpoint_url)
    return endpoint_url if endpoint_url.startswith("http://127.0.0.1") else None


def _account() -> target.Account:
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    if not session.region_name:
        raise RunnerError("No region: set AWS_REGION, or one in the profile that AWS_PROFILE names")
    return target.Account(session)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make smoke-aws ARGS=…", description=__doc__)
    parser.add_argument("--chatbot", required=True, help="a chatbot that completes, and that may be run once")
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
    return parser.parse_args(words)


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return given


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
