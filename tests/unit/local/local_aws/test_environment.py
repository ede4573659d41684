"""The environment variables of local commands and of MiniStack."""

from pathlib import Path

import pytest

from local.local_aws import environment


def test_isolation_removes_the_settings_of_the_users_account() -> None:
    environ = {
        "AWS_PROFILE": "production",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_ENDPOINT_URL_S3": "https://elsewhere.example",
        "SAM_CLI_TELEMETRY": "1",
        "NO_PROXY": "intranet.example",
        "HOME": "/home/user",
    }
    environment.isolate(environ)
    assert "real" not in environ.values()
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "SAM_CLI_TELEMETRY"} & environ.keys()
    assert environ["AWS_CONFIG_FILE"] == environ["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert environ["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"
    assert environ["HOME"] == "/home/user"


def test_handlers_do_not_inherit_the_users_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "private")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    env = environment.for_ministack(4566, tmp_path, auth=False)
    assert not {"DATABASE_PASSWORD", "AWS_PROFILE", "PYTHONPATH"} & env.keys()
    assert env["BIND_HOST"] == "127.0.0.1"
    assert env["TMPDIR"] == env["HOME"] == str(tmp_path)


def test_tools_keep_the_users_environment_without_aws_and_python_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    monkeypatch.setenv("AWS_PROFILE", "production")
    env = environment.for_tools("http://127.0.0.1:4566")
    assert env["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert not {"VIRTUAL_ENV", "AWS_PROFILE"} & env.keys()
