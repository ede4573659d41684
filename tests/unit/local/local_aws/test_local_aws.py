"""The runner around its processes: what it reads, writes and hands on."""

import json
import stat
from pathlib import Path

import pytest

from local.local_aws import environment
from local.local_aws.errors import CommandError
from local.local_aws.files import write_json_file
from local.local_aws.servers import WaterflaiEndpoint
from local.local_aws.stack_client import execution_id_of, notification
from local.local_aws.stack_outputs import StackOutputs
from local.terminal import WIDTH, Terminal

OUTPUTS = StackOutputs(
    endpoint_url="http://127.0.0.1:4566",
    region="us-east-1",
    api_url="http://127.0.0.1:4566/_aws/execute-api/abc/live",
    api_key="key",
    state_machine_arn="arn:machine",
    topic_arn="arn:topic",
    results_queue_url="http://127.0.0.1:4566/000000000000/queue",
    table_name="table",
    waterflai_base_url="http://127.0.0.1:8000",
)


def test_outputs_are_read_as_they_were_written_and_by_their_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    OUTPUTS.save(path)
    assert StackOutputs.load(path) == OUTPUTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["outputs.json"]


def test_outputs_of_another_version_are_none(tmp_path: Path) -> None:
    write_json_file(tmp_path / "outputs.json", {"api_url": "http://127.0.0.1"})
    assert StackOutputs.load(tmp_path / "outputs.json") is None


def test_no_account_of_the_users_is_in_reach() -> None:
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


def test_handlers_inherit_nothing_from_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "private")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    env = environment.for_ministack(4566, tmp_path, auth=False)
    assert not {"DATABASE_PASSWORD", "AWS_PROFILE", "PYTHONPATH"} & env.keys()
    assert env["BIND_HOST"] == "127.0.0.1"
    assert env["TMPDIR"] == env["HOME"] == str(tmp_path)


def test_tools_keep_the_users_environment_less_what_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    monkeypatch.setenv("AWS_PROFILE", "production")
    env = environment.for_tools("http://127.0.0.1:4566")
    assert env["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert not {"VIRTUAL_ENV", "AWS_PROFILE"} & env.keys()


def test_another_waterflai_needs_its_address_and_its_key() -> None:
    both = {"WATERFLAI_BASE_URL": "https://api.example/", "WATERFLAI_API_KEY": "k"}
    assert WaterflaiEndpoint.from_env(both) == WaterflaiEndpoint("https://api.example", "k")
    assert WaterflaiEndpoint.from_env({}) is None
    with pytest.raises(CommandError, match="WATERFLAI_API_KEY is not set"):
        WaterflaiEndpoint.from_env({"WATERFLAI_BASE_URL": "https://api.example"})
    with pytest.raises(CommandError, match="WATERFLAI_BASE_URL is not set"):
        WaterflaiEndpoint.from_env({"WATERFLAI_API_KEY": "k"})


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "in SNS's envelope"])
def test_a_notification_is_read_however_the_subscription_delivers_it(raw: bool) -> None:
    event = {"id": "e/1767225600000/COMPLETED", "data": {"execution_id": "e"}}
    body = json.dumps(event if raw else {"Type": "Notification", "Message": json.dumps(event)})
    assert notification(body) == event
    assert execution_id_of(event) == "e"


def test_a_message_of_somebody_else_is_nobodys_notification() -> None:
    assert execution_id_of({"data": "text"}) is None
    assert execution_id_of({}) is None


def test_a_document_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print_json({"final_output": "word " * 40, "[red]": "no markup"})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == WIDTH
    assert "…" in lines[1]
    assert '    "[red]": "no markup"' in lines
