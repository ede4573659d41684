"""`make smoke-aws`: what is wrong with the way it was called is said before an account is touched."""

from types import SimpleNamespace
from typing import Any

import pytest

from local import smoke
from local.runner.errors import RunnerError
from local.runner.screen import Screen

CALLED = ["--chatbot", "instant"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--chatbot"),
        ([*CALLED, "--input", "{"], "no JSON"),
        ([*CALLED, "--input", "[]"], "expected a JSON object"),
        ([*CALLED, "--parameter", "FollowConcurrency"], "expected NAME=VALUE, got FollowConcurrency"),
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


class Account:
    """An account of AWS with so many unreserved concurrent executions."""

    session = SimpleNamespace(region_name="us-east-1")

    def __init__(self, unreserved: int) -> None:
        self._unreserved = unreserved

    def client(self, name: str) -> Any:
        limit = {"AccountLimit": {"UnreservedConcurrentExecutions": self._unreserved}}
        return SimpleNamespace(
            meta=SimpleNamespace(endpoint_url=f"https://{name}.us-east-1.amazonaws.com"),
            get_account_settings=lambda: limit,
        )


class DeployedError(Exception):
    """Raised instead of deploying."""


def deployed(monkeypatch: pytest.MonkeyPatch, unreserved: int, **parameters: str) -> list[str]:
    """Return the command line of the deployment."""
    commands: list[list[str]] = []

    def sam(_: object, *words: str) -> None:
        commands.append([*words])
        if words[0] == "deploy":
            raise DeployedError

    monkeypatch.setattr(smoke.Smoke, "_sam", sam)
    monkeypatch.setattr(smoke.Smoke, "_delete", lambda _: None)
    account: Any = Account(unreserved)
    wish = smoke.Wish("https://api.waterflai.test", "instant", {}, parameters)
    with pytest.raises(DeployedError):
        smoke.Smoke(account, wish, Screen(silent=True)).run("arn:of:a:secret", None)
    return commands[-1]


def test_a_new_account_with_a_quota_of_10_is_deployed_to_without_reserved_concurrency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not [word for word in deployed(monkeypatch, 10) if "FollowConcurrency" in word]
    assert [word for word in deployed(monkeypatch, 10, FollowConcurrency="0") if "FollowConcurrency=" in word]


def test_concurrency_that_was_asked_for_is_reserved_where_100_stay_unreserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (word,) = [
        word for word in deployed(monkeypatch, 150, FollowConcurrency="50") if "FollowConcurrency" in word
    ]
    assert "50" in word


@pytest.mark.parametrize(("unreserved", "allowed"), [(10, 0), (149, 49)])
def test_concurrency_that_the_quota_does_not_allow_is_refused_before_the_deployment(
    monkeypatch: pytest.MonkeyPatch, unreserved: int, allowed: int
) -> None:
    with pytest.raises(RunnerError, match=f"FollowConcurrency=50: .* allows {allowed}\\."):
        deployed(monkeypatch, unreserved, FollowConcurrency="50")
