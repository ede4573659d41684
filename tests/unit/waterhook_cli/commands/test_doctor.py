"""`waterhook doctor`: the order of the checks, what is printed, and the exit code."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from tests.fakes.aws import Secret, Topic, client_error
from tests.fakes.deployed_stack import DeployedStack
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support.aws_commands import refused
from tests.support.builders import REGION
from tests.unit.waterhook_cli.checks.helpers import FOLLOW_FUNCTION, LambdaQuota, create_queue
from tests.unit.waterhook_cli.command_line import run as run_command
from waterhook_cli.api_client import http_sender
from waterhook_cli.checks.concurrency import check_concurrency
from waterhook_cli.checks.dead_letters import check_dead_letters
from waterhook_cli.checks.finding import Check, Finding, deploy_hint
from waterhook_cli.checks.secret import check_secret
from waterhook_cli.checks.stack_status import check_stack_status
from waterhook_cli.checks.subscriptions import check_subscriptions
from waterhook_cli.checks.upstream import check_upstream
from waterhook_cli.commands.doctor import checks_of_stack, run_checks
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.hints import CommandOptions
from waterhook_cli.output import Output, OutputFormat
from waterhook_cli.stack import Account, Stack, StackResource


def test_the_quota_is_reported_before_a_stack_exists() -> None:
    limits = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
    with DeployedStack([(200, {"AccountLimit": limits})]) as deployed:
        result = run_command("doctor", "--stack", "other", on=deployed)
    assert result.exit_code == 3
    printed = " ".join(result.stdout.split())
    assert "Lambda's quota of concurrent executions is 10" in printed
    assert "aws service-quotas request-service-quota-increase" in printed
    assert "there is no stack 'other'" in result.stderr


def test_the_quota_is_the_first_check_and_a_denied_call_stops_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    services: list[str] = []

    class Denying:
        def client(self, service: str) -> Any:
            services.append(service)
            raise client_error("AccessDeniedException", 403)

    account: Any = Denying()
    outputs = {"TopicArn": "arn:of:a:topic", "TableName": "table", "ApiUrl": "https://api.test/live"}
    first, second, *_ = checks_of_stack(Stack("shop", account, "CREATE_COMPLETE", outputs, {}))
    assert (first.name, second.name) == ("concurrency", "the stack")
    stack_is_fine = Check("the stack", lambda: [Finding.ok("fine")])
    assert run_checks([first, stack_is_fine], Output()) == ExitCode.OK
    assert services == ["lambda"]
    marks = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert marks == ["unknown", "ok"]


def test_each_hint_has_a_command_that_the_aws_cli_accepts(topic: Topic, secret: Secret) -> None:
    account = Account(boto3.Session(region_name=REGION))
    unsubscribed = topic.sns.create_topic(Name="unsubscribed-too")["TopicArn"]
    full, _ = create_queue(topic, "full", messages=1)
    secret.rotate(" key")
    dead_letters = StackResource("DeadLetterQueue", "AWS::SQS::Queue", full)
    reserved: Any = LambdaQuota(1000, 7)
    low: Any = LambdaQuota(10)
    with ScriptedServer([reply(401)]) as server:
        findings = [
            *check_stack_status(Stack("shop", account, "ROLLBACK_COMPLETE", {}, {})),
            *check_concurrency(reserved, [FOLLOW_FUNCTION], {"FollowConcurrency": "50"}, is_local=False),
            *check_concurrency(low, [FOLLOW_FUNCTION], {}, is_local=False),
            *check_subscriptions(topic.sns, unsubscribed, "sns,dynamodb"),
            *check_subscriptions(topic.sns, topic.arn, "sns,dynamodb"),
            *check_dead_letters(topic.sqs, topic.sns, topic.arn, [dead_letters]),
            *check_secret(secret.client, secret.arn, REGION),
            *check_upstream(server.url, http_sender(server.url, 1), secret.client, secret.arn),
        ]
    secret.client.delete_secret(SecretId=secret.arn)
    findings += check_secret(secret.client, secret.arn, REGION)
    commands = [finding.hint[finding.hint.index("aws ") :] for finding in findings if "aws " in finding.hint]
    assert len(commands) == 9
    assert refused(commands) == {}


def raising(error: Exception) -> Callable[[], list[Finding]]:
    def run() -> list[Finding]:
        raise error

    return run


def test_a_check_that_fails_is_reported_and_the_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    def failing_later() -> Iterator[Finding]:
        yield Finding.ok("one is fine")
        raise client_error("AuthorizationError", 403)

    checks = [
        Check("subscriptions", failing_later),
        Check("alarms", raising(client_error("Throttling"))),
        Check("concurrency", raising(EndpointConnectionError(endpoint_url="http://lambda"))),
        Check("dead letters", raising(CommandError(ExitCode.NOT_FOUND, "it has no output"))),
        Check("records", lambda: [Finding.ok("all are fine")]),
    ]
    assert run_checks(checks, Output()) == ExitCode.OK
    printed = capsys.readouterr()
    marks = [line.split()[0] for line in printed.out.splitlines() if line[0] != " "]
    assert marks == ["ok", "unknown", "unknown", "unknown", "unknown", "ok"]
    assert "subscriptions: not checked, you are not allowed to (AnyOperation)" in printed.out
    assert "concurrency: not checked, http://lambda can't be reached" in printed.out
    assert printed.err == "4 not checked\n"


def test_only_a_problem_changes_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    warning = Check("a", lambda: [Finding.warning("so so " * 29 + "so so", "do " * 39 + "do")])
    problem = Check("b", lambda: [Finding.problem("bad", "fix it")])
    aligned = Output(OutputFormat.TABLE)
    assert run_checks([warning], aligned) == ExitCode.OK
    assert run_checks([warning, problem], aligned) == ExitCode.PROBLEMS
    printed = capsys.readouterr()
    assert printed.err == "1 warning\n1 problem, 1 warning\n"
    # A line each: a hint is often a command to copy.
    assert printed.out.splitlines()[:2] == [
        "warning  " + "so so " * 29 + "so so",
        "         -> " + "do " * 39 + "do",
    ]
    assert run_checks([problem], Output(OutputFormat.TEXT)) == ExitCode.PROBLEMS
    assert capsys.readouterr().out == "problem\tbad\tfix it\n"
    assert run_checks([warning, problem], Output(OutputFormat.JSON)) == ExitCode.PROBLEMS
    printed_json = json.loads(capsys.readouterr().out)
    assert printed_json["findings"][1] == {"check": "b", "level": "problem", "what": "bad", "do": "fix it"}
    assert printed_json["count"] == {"ok": 0, "note": 0, "warning": 1, "problem": 1, "unknown": 0}


def test_a_command_in_a_hint_has_the_options_of_the_stack(capsys: pytest.CaptureFixture[str]) -> None:
    subscribe = Check(
        "a", lambda: [Finding.warning("odd", "Subscribe: aws service-quotas get-x --quota-code 1")]
    )
    deploy = Check("b", lambda: [Finding.note("low", deploy_hint("A=1", "to fix it"))])
    on_aws = CommandOptions(aws="--region eu-west-1", sam="--stack-name shop --region eu-west-1")
    assert run_checks([subscribe, deploy], Output(), on_aws) == ExitCode.OK
    printed = capsys.readouterr()
    assert "Subscribe: aws --region eu-west-1 service-quotas get-x --quota-code 1\n" in printed.out
    assert "sam deploy --stack-name shop --region eu-west-1 --parameter-overrides A=1\n" in printed.out
    assert "samconfig.toml" in printed.err
    locally = CommandOptions(setup='eval "$(make -s env)"')
    assert run_checks([subscribe], Output(), locally) == ExitCode.OK
    assert 'run in this shell: eval "$(make -s env)"\n' in capsys.readouterr().err
