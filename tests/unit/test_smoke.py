"""`make smoke-aws`: what is wrong with the way it was called is said before an account is touched."""

import pytest

from local import smoke

CALLED = ["--chatbot", "instant"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--chatbot"),
        ([*CALLED, "--input", "{"], "no JSON"),
        ([*CALLED, "--input", "[]"], "expected a JSON object"),
        ([*CALLED, "--parameter", "FollowMode"], "expected NAME=VALUE, got FollowMode"),
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
