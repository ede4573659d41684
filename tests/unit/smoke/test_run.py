"""`make smoke-aws` checks its options before it changes an account, and deletes what it has created."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from local.local_aws import interrupts
from local.local_aws.errors import ToolError
from local.terminal import Terminal
from tests.fakes.aws import client_error
from tests.smoke import run as smoke
from tests.smoke import stack_deletion
from tests.support.builders import KEY
from waterhook_cli.api_client import ApiClient

CHATBOT_OPTION = ["--chatbot", "instant"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--chatbot"),
        ([*CHATBOT_OPTION, "--input", "{"], "invalid JSON"),
        ([*CHATBOT_OPTION, "--input", "[]"], "expected a JSON object"),
        ([*CHATBOT_OPTION, "--parameter", "FollowConcurrency"], "expected NAME=VALUE, got FollowConcurrency"),
        ([*CHATBOT_OPTION, "--clean-up", "waterhook-smoke-1"], "not allowed with argument"),
        # The clean-up also deletes retained data, so it accepts only stacks of this test.
        (["--clean-up", "waterhook"], "expected a stack of this test"),
        (
            ["--clean-up", "arn:aws:cloudformation:eu-west-1:1:stack/waterhook/1"],
            "expected a stack of this test",
        ),
    ],
)
def test_an_invalid_option_is_a_usage_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        smoke.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_key_nothing_is_deployed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WATERFLAI_API_KEY", raising=False)
    assert smoke.main(CHATBOT_OPTION) == 1
    shown = capsys.readouterr()
    assert "--secret-arn ARN, or set WATERFLAI_API_KEY" in shown.err
    assert shown.out == ""


class Secrets:
    """Secrets Manager."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def create_secret(self, *, Name: str, SecretString: str) -> dict[str, str]:  # noqa: N803
        assert SecretString == KEY
        self.names.append(Name)
        return {"ARN": f"arn:of:{Name}"}

    def delete_secret(self, *, SecretId: str, ForceDeleteWithoutRecovery: bool) -> None:  # noqa: N803
        assert ForceDeleteWithoutRecovery
        if SecretId not in self.names:
            raise client_error("ResourceNotFoundException")
        self.names.remove(SecretId)


class Account:
    """An AWS account with this many unreserved concurrent executions; None if its user may not read the quota."""

    session = SimpleNamespace(region_name="us-east-1")

    def __init__(self, unreserved: int | None = 10) -> None:
        self._unreserved = unreserved
        self.secrets = Secrets()

    def client(self, name: str) -> Any:
        if name == "secretsmanager":
            return self.secrets
        return SimpleNamespace(
            meta=SimpleNamespace(endpoint_url=f"https://{name}.us-east-1.amazonaws.com"),
            get_account_settings=self._settings,
        )

    def _settings(self) -> dict[str, Any]:
        if self._unreserved is None:
            raise client_error("AccessDeniedException", 403)
        quota = max(self._unreserved, 10)
        return {
            "AccountLimit": {
                "ConcurrentExecutions": quota,
                "UnreservedConcurrentExecutions": self._unreserved,
            }
        }


class FakeStackDeletion(stack_deletion.StackDeletion):
    """Records the stacks to delete, and fails to delete `left`."""

    deleted: ClassVar[list[str]] = []
    left: ClassVar[list[str]] = []

    def failed_events(self, stack: str, *, deleting: bool = False) -> list[str]:
        return [f"Storage/Table of {stack} CREATE_FAILED: limit exceeded"]

    def delete(self, stack: str) -> None:
        self.deleted.append(stack)
        self.stack = f"arn:aws:cloudformation:us-east-1:123456789012:stack/{stack}/1"
        self.errors += self.left


class Executions:
    """The API of the stack."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def submit(self, chatbot: str, request: object, key: None) -> Any:
        return SimpleNamespace(fields={"execution_id": "e1"})

    def cancel(self, execution_id: str) -> None:
        self.cancelled.append(execution_id)


@dataclass
class Run:
    """One smoke test with fakes of AWS."""

    account: Account = field(default_factory=Account)
    api: Executions = field(default_factory=Executions)
    commands: list[list[str]] = field(default_factory=list)
    ignores_interrupts: bool = False

    def smoke(
        self,
        parameters: Mapping[str, str] | None = None,
        *,
        keep: bool = False,
        secret_arn: str | None = None,
    ) -> dict[str, Any]:
        account: Any = self.account
        options = smoke.SmokeOptions("https://api.waterflai.test", "instant", {}, parameters or {}, keep=keep)
        return smoke.SmokeTest(account, options, Terminal()).run(secret_arn, KEY)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    run = Run()
    monkeypatch.setattr(smoke, "WORKDIR", tmp_path)

    def ignore() -> None:
        run.ignores_interrupts = True

    monkeypatch.setattr(smoke, "StackDeletion", FakeStackDeletion)
    monkeypatch.setattr(FakeStackDeletion, "deleted", [])
    monkeypatch.setattr(FakeStackDeletion, "left", [])
    monkeypatch.setattr(interrupts, "ignore", ignore)
    monkeypatch.setattr(smoke.SmokeTest, "_run_sam", lambda _, *words: run.commands.append([*words]))
    monkeypatch.setattr(smoke.SmokeTest, "_describe_stack", lambda _: None)
    monkeypatch.setattr(ApiClient, "for_stack", lambda _: run.api)
    set_notification(monkeypatch, {"data": {"status": "COMPLETED"}})
    return run


def set_notification(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """Return this notification of the execution, or raise this exception while waiting for it."""

    def notification(*_: object) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(smoke.SmokeTest, "_notification", notification)


def fail_sam(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> None:
    """Raise this error from a command of the SAM CLI."""

    def sam(_: object, name: str, *__: str) -> None:
        if name == command:
            raise error

    monkeypatch.setattr(smoke.SmokeTest, "_run_sam", sam)


def test_a_successful_run_deletes_its_stack_and_its_secret(run: Run) -> None:
    assert run.smoke() == {"data": {"status": "COMPLETED"}}
    (stack,) = FakeStackDeletion.deleted
    assert stack.startswith("waterhook-smoke-")
    assert run.account.secrets.names == run.api.cancelled == []
    assert run.ignores_interrupts


def test_a_secret_of_the_user_is_not_deleted(run: Run) -> None:
    run.account.secrets.names.append("mine")
    run.smoke(secret_arn="arn:of:mine")
    assert run.account.secrets.names == ["mine"]


def test_a_failed_deployment_is_reported_and_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_sam(monkeypatch, "deploy", ToolError("sam deploy failed"))
    with pytest.raises(ToolError, match="sam deploy failed"):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []
    assert "CREATE_FAILED: limit exceeded" in capsys.readouterr().out


def test_a_failed_execution_is_reported_after_the_clean_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    set_notification(monkeypatch, {"data": {"status": "FAILED", "error": {"code": "x"}}})
    with pytest.raises(ToolError, match="The execution ended FAILED"):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.api.cancelled == []  # it has ended


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ToolError("No notification")])
def test_an_execution_without_a_notification_is_cancelled_and_the_stack_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    set_notification(monkeypatch, error)
    with pytest.raises(type(error)):
        run.smoke()
    assert run.api.cancelled == ["e1"]
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []


def test_ctrl_c_during_the_deployment_deletes_the_stack(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_sam(monkeypatch, "deploy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []
    assert run.ignores_interrupts


def test_a_failed_clean_up_fails_the_run_and_prints_the_command_to_repeat_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeStackDeletion, "left", ["delete AWS::S3::Bucket outputs: AccessDenied"])
    with pytest.raises(ToolError) as raised:
        run.smoke()
    (stack,) = FakeStackDeletion.deleted
    stack_id = f"arn:aws:cloudformation:us-east-1:123456789012:stack/{stack}/1"
    assert str(raised.value).splitlines() == [
        "Not done in the clean-up:",
        "  delete AWS::S3::Bucket outputs: AccessDenied",
        f'To clean up again: make smoke-aws ARGS="--clean-up {stack_id}"',
    ]
    assert run.account.secrets.names == []


def test_a_failed_deployment_and_a_failed_clean_up_are_both_reported(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeStackDeletion, "left", ["delete stack: its status is DELETE_FAILED"])
    fail_sam(monkeypatch, "deploy", ToolError("sam deploy failed"))
    with pytest.raises(ToolError, match="sam deploy failed"):
        run.smoke()
    assert "delete stack: its status is DELETE_FAILED" in capsys.readouterr().out


def test_keep_deletes_nothing_and_prints_the_command_that_does(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.smoke(keep=True)
    assert FakeStackDeletion.deleted == []
    assert len(run.account.secrets.names) == 1
    assert 'make smoke-aws ARGS="--clean-up waterhook-smoke-' in capsys.readouterr().out


@pytest.mark.parametrize(
    "stack",
    ["waterhook-smoke-1", "arn:aws:cloudformation:us-east-1:123456789012:stack/waterhook-smoke-1/abc"],
)
def test_clean_up_deletes_the_stack_of_an_earlier_run_by_name_or_id(
    run: Run, monkeypatch: pytest.MonkeyPatch, stack: str
) -> None:
    run.account.secrets.names.append("waterhook-smoke-1/waterflai-api-key")
    caller = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/me"}
    sts = SimpleNamespace(get_caller_identity=lambda: caller)
    of_account = run.account.client
    monkeypatch.setattr(run.account, "client", lambda name: sts if name == "sts" else of_account(name))
    monkeypatch.setattr(smoke, "_account", lambda: run.account)
    monkeypatch.setattr(interrupts, "install", lambda: None)
    monkeypatch.delenv("WATERFLAI_API_KEY", raising=False)
    assert smoke.main(["--clean-up", stack]) == 0
    assert FakeStackDeletion.deleted == [stack]
    assert run.account.secrets.names == []


# ---- Lambda's quota ----


def overrides(run: Run) -> list[str]:
    """Return the command line of the deployment."""
    (deploy,) = (command for command in run.commands if command[0] == "deploy")
    return deploy


def test_no_concurrency_is_reserved_in_a_new_account_with_a_quota_of_10(run: Run) -> None:
    run.smoke()
    assert not [word for word in overrides(run) if "FollowConcurrency" in word]


def test_the_quota_is_printed_before_the_build(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_sam(monkeypatch, "build", ToolError("sam build failed"))
    with pytest.raises(ToolError, match="sam build failed"):
        run.smoke()
    assert "Lambda: 10 concurrent executions in this region, 10 unreserved" in capsys.readouterr().out
    assert FakeStackDeletion.deleted == []  # nothing was created


def test_concurrency_is_reserved_if_100_stay_unreserved(run: Run) -> None:
    run.account = Account(150)
    run.smoke({"FollowConcurrency": "50"})
    assert 'FollowConcurrency="50"' in overrides(run)


@pytest.mark.parametrize(
    ("unreserved", "possible", "enough"), [(10, 0, 1000), (149, 49, 1000), (1000, 900, 2100)]
)
def test_concurrency_above_the_quota_is_refused_before_the_build(
    run: Run, unreserved: int, possible: int, enough: int
) -> None:
    run.account = Account(unreserved)
    with pytest.raises(ToolError) as raised:
        run.smoke({"FollowConcurrency": "2000" if unreserved == 1000 else "50"})
    assert f"of {unreserved} unreserved concurrent executions, Lambda keeps 100" in str(raised.value)
    assert f"so {possible} can be reserved" in str(raised.value)
    assert str(raised.value).endswith(f"--quota-code L-B99A9384 --desired-value {enough}")
    assert (run.commands, run.account.secrets.names, FakeStackDeletion.deleted) == ([], [], [])


def test_a_follow_concurrency_that_is_no_number_is_refused(run: Run) -> None:
    with pytest.raises(ToolError, match="FollowConcurrency=many: expected a whole number"):
        run.smoke({"FollowConcurrency": "many"})
    assert run.commands == []


@pytest.mark.parametrize(
    ("parameters", "consequence"),
    [({}, "The defaults need none."), ({"FollowConcurrency": "50"}, "fails if fewer than 150 concurrent")],
)
def test_the_test_continues_if_access_to_the_quota_is_denied(
    run: Run, parameters: dict[str, str], consequence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.account = Account(None)
    run.smoke(parameters)
    printed = capsys.readouterr().out
    assert "not checked: lambda:GetAccountSettings is denied" in printed
    assert consequence in printed
