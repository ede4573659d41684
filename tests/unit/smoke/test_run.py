"""`make smoke-aws`: what it checks before it touches an account, and that it deletes what it has created."""

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

CALLED = ["--chatbot", "instant"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--chatbot"),
        ([*CALLED, "--input", "{"], "no JSON"),
        ([*CALLED, "--input", "[]"], "expected a JSON object"),
        ([*CALLED, "--parameter", "FollowConcurrency"], "expected NAME=VALUE, got FollowConcurrency"),
        ([*CALLED, "--clean-up", "waterhook-smoke-1"], "not allowed with argument"),
        # It deletes what a stack retains, too: only what this test has created.
        (["--clean-up", "waterhook"], "expected a stack of this test"),
        (
            ["--clean-up", "arn:aws:cloudformation:eu-west-1:1:stack/waterhook/1"],
            "expected a stack of this test",
        ),
    ],
)
def test_a_wrong_word_is_told_of(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        smoke.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_key_nothing_is_deployed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WATERFLAI_API_KEY", raising=False)
    assert smoke.main(CALLED) == 1
    shown = capsys.readouterr()
    assert "--secret-arn ARN, or WATERFLAI_API_KEY" in shown.err
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
    """An account of AWS with so many unreserved concurrent executions; None: its user may not read that."""

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
    """A clean-up that notes what it is to delete, and leaves `left`."""

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
    """One smoke test, deployed to nowhere."""

    account: Account = field(default_factory=Account)
    api: Executions = field(default_factory=Executions)
    commands: list[list[str]] = field(default_factory=list)
    interrupted_no_more: bool = False

    def smoke(
        self,
        parameters: Mapping[str, str] | None = None,
        *,
        keep: bool = False,
        secret_arn: str | None = None,
    ) -> dict[str, Any]:
        account: Any = self.account
        wish = smoke.SmokeOptions("https://api.waterflai.test", "instant", {}, parameters or {}, keep=keep)
        return smoke.SmokeTest(account, wish, Terminal()).run(secret_arn, KEY)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    it = Run()
    monkeypatch.setattr(smoke, "WORKDIR", tmp_path)

    def ignore() -> None:
        it.interrupted_no_more = True

    monkeypatch.setattr(smoke, "StackDeletion", FakeStackDeletion)
    monkeypatch.setattr(FakeStackDeletion, "deleted", [])
    monkeypatch.setattr(FakeStackDeletion, "left", [])
    monkeypatch.setattr(interrupts, "ignore", ignore)
    monkeypatch.setattr(smoke.SmokeTest, "_run_sam", lambda _, *words: it.commands.append([*words]))
    monkeypatch.setattr(smoke.SmokeTest, "_describe_stack", lambda _: None)
    monkeypatch.setattr(ApiClient, "for_stack", lambda _: it.api)
    ends(monkeypatch, {"data": {"status": "COMPLETED"}})
    return it


def ends(monkeypatch: pytest.MonkeyPatch, how: Any) -> None:
    """Let the execution end with this notification, or the wait for it with this exception."""

    def notification(*_: object) -> Any:
        if isinstance(how, BaseException):
            raise how
        return how

    monkeypatch.setattr(smoke.SmokeTest, "_notification", notification)


def fails(monkeypatch: pytest.MonkeyPatch, command: str, error: BaseException) -> None:
    """Let a command of the SAM CLI end with this error."""

    def sam(_: object, name: str, *__: str) -> None:
        if name == command:
            raise error

    monkeypatch.setattr(smoke.SmokeTest, "_run_sam", sam)


def test_a_run_that_goes_well_deletes_its_stack_and_its_secret(run: Run) -> None:
    assert run.smoke() == {"data": {"status": "COMPLETED"}}
    (stack,) = FakeStackDeletion.deleted
    assert stack.startswith("waterhook-smoke-")
    assert run.account.secrets.names == run.api.cancelled == []
    assert run.interrupted_no_more


def test_a_secret_that_the_user_names_is_left_alone(run: Run) -> None:
    run.account.secrets.names.append("mine")
    run.smoke(secret_arn="arn:of:mine")
    assert run.account.secrets.names == ["mine"]


def test_a_deployment_that_fails_is_explained_and_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, "deploy", ToolError("sam deploy failed"))
    with pytest.raises(ToolError, match="sam deploy failed"):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []
    assert "CREATE_FAILED: limit exceeded" in capsys.readouterr().out


def test_an_execution_that_fails_is_reported_after_everything_is_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(monkeypatch, {"data": {"status": "FAILED", "error": {"code": "x"}}})
    with pytest.raises(ToolError, match="The execution ended FAILED"):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.api.cancelled == []  # it has ended


@pytest.mark.parametrize("how", [KeyboardInterrupt(), ToolError("No notification")])
def test_an_execution_that_is_not_waited_for_any_longer_is_cancelled_and_everything_deleted(
    run: Run, monkeypatch: pytest.MonkeyPatch, how: BaseException
) -> None:
    ends(monkeypatch, how)
    with pytest.raises(type(how)):
        run.smoke()
    assert run.api.cancelled == ["e1"]
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []


def test_ctrl_c_during_the_deployment_deletes_what_there_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "deploy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.smoke()
    assert len(FakeStackDeletion.deleted) == 1
    assert run.account.secrets.names == []
    assert run.interrupted_no_more


def test_what_could_not_be_deleted_fails_a_run_that_went_well_and_is_named_with_the_command_to_repeat_it(
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


def test_a_failure_and_what_could_not_be_deleted_are_both_reported(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeStackDeletion, "left", ["delete stack: its status is DELETE_FAILED"])
    fails(monkeypatch, "deploy", ToolError("sam deploy failed"))
    with pytest.raises(ToolError, match="sam deploy failed"):
        run.smoke()
    assert "delete stack: its status is DELETE_FAILED" in capsys.readouterr().out


def test_what_is_kept_is_not_deleted_and_the_command_that_deletes_it_is_printed(
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
def test_what_an_earlier_run_has_left_is_deleted_by_the_name_or_id_of_its_stack(
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


def test_a_new_account_with_a_quota_of_10_is_deployed_to_without_reserved_concurrency(run: Run) -> None:
    run.smoke()
    assert not [word for word in overrides(run) if "FollowConcurrency" in word]


def test_the_quota_is_printed_before_anything_is_built(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, "build", ToolError("sam build failed"))
    with pytest.raises(ToolError, match="sam build failed"):
        run.smoke()
    assert "Lambda: 10 concurrent executions in this region, 10 unreserved" in capsys.readouterr().out
    assert FakeStackDeletion.deleted == []  # nothing was created


def test_concurrency_that_was_asked_for_is_reserved_where_100_stay_unreserved(run: Run) -> None:
    run.account = Account(150)
    run.smoke({"FollowConcurrency": "50"})
    assert 'FollowConcurrency="50"' in overrides(run)


@pytest.mark.parametrize(
    ("unreserved", "possible", "enough"), [(10, 0, 1000), (149, 49, 1000), (1000, 900, 2100)]
)
def test_concurrency_that_the_quota_does_not_allow_is_refused_with_the_numbers_before_anything_is_built(
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
def test_a_quota_that_may_not_be_read_is_reported_and_the_test_goes_on(
    run: Run, parameters: dict[str, str], consequence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.account = Account(None)
    run.smoke(parameters)
    printed = capsys.readouterr().out
    assert "not checked: lambda:GetAccountSettings is denied" in printed
    assert consequence in printed
