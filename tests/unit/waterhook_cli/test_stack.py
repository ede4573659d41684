"""The selection of the stack: it never uses another stack than the selected one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ProfileNotFound

from tests.fakes.deployed_stack import STACK_NAME, DeployedStack
from tests.support.builders import MACHINE
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.stack import StackSelection, find_stack


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeployedStack]:
    with DeployedStack() as stack:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stack.url)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        yield stack


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return an empty folder inside a checkout."""
    folder = tmp_path / "checkout" / "docs"
    folder.mkdir(parents=True)
    return folder


def write_outputs(here: Path, endpoint_url: str, **changes: str) -> Path:
    """Write the file that `make up` writes."""
    outputs = {
        "endpoint_url": endpoint_url,
        "region": "us-east-1",
        "state_machine_arn": MACHINE,
        "api_url": f"{endpoint_url}/by-path",
    }
    file = here.parent / ".local" / "outputs.json"
    file.parent.mkdir()
    file.write_text(json.dumps(outputs | changes), encoding="utf-8")
    return file


def test_a_stack_on_aws_is_found_by_its_name(deployed: DeployedStack, here: Path) -> None:
    stack = find_stack(StackSelection(STACK_NAME), {"AWS_REGION": "eu-west-1"}, here)
    assert str(stack) == f"the stack {STACK_NAME} (eu-west-1)"
    assert stack.api_url == f"{deployed.url}/live"
    assert stack.parameters["DefaultDeliverTo"] == "sns,dynamodb"


def test_an_option_takes_precedence_over_the_environment(deployed: DeployedStack, here: Path) -> None:
    environ = {"AWS_REGION": "eu-west-1", "WATERHOOK_STACK": STACK_NAME}
    assert find_stack(StackSelection(), environ, here).name == STACK_NAME
    with pytest.raises(CommandError, match="there is no stack 'other' in us-west-2"):
        find_stack(StackSelection("other", region="us-west-2"), environ, here)
    with pytest.raises(CommandError, match="there is no stack 'waterhook' in eu-west-1"):
        find_stack(StackSelection(), {"AWS_REGION": "eu-west-1"}, here)


def test_in_a_checkout_the_local_stack_is_found_with_its_own_credentials(
    deployed: DeployedStack, here: Path
) -> None:
    write_outputs(here, deployed.url)
    stack = find_stack(StackSelection(), {"AWS_REGION": "eu-west-1"}, here)
    assert str(stack) == f"the local stack {STACK_NAME} ({deployed.url})"
    assert stack.api_url == f"{deployed.url}/by-path"
    assert stack.region == "us-east-1"
    assert deployed.access_keys == {"test"}


def test_the_users_aws_settings_do_not_apply_to_the_local_stack(
    deployed: DeployedStack, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_outputs(here, deployed.url)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "missing")
    (here / "config").write_text("[default]\nregion = broken", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(here / "config"))
    assert find_stack(StackSelection(), {}, here).region == "us-east-1"
    assert deployed.access_keys == {"test"}


@pytest.mark.parametrize("selection", [StackSelection(STACK_NAME), StackSelection(region="eu-west-1")])
def test_an_option_of_aws_excludes_the_local_stack(
    deployed: DeployedStack, here: Path, selection: StackSelection
) -> None:
    write_outputs(here, "http://127.0.0.1:1")
    assert not find_stack(
        selection, {"WATERHOOK_STACK": STACK_NAME, "AWS_REGION": "eu-west-1"}, here
    ).is_local


def test_an_unknown_profile_does_not_select_the_local_stack(deployed: DeployedStack, here: Path) -> None:
    write_outputs(here, deployed.url)
    with pytest.raises(ProfileNotFound):
        find_stack(StackSelection(profile="missing"), {}, here)


def test_no_stack_on_aws_replaces_a_local_stack_that_no_longer_runs(
    deployed: DeployedStack, here: Path
) -> None:
    write_outputs(here, "http://127.0.0.1:1")
    with pytest.raises(CommandError, match="does not answer") as caught:
        find_stack(StackSelection(), {"WATERHOOK_STACK": STACK_NAME, "AWS_REGION": "eu-west-1"}, here)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert deployed.access_keys == set()


def test_another_stack_of_the_local_aws_is_not_used(deployed: DeployedStack, here: Path) -> None:
    write_outputs(here, deployed.url, state_machine_arn="another")
    with pytest.raises(CommandError, match="no longer has the stack"):
        find_stack(StackSelection(local=True), {}, here)


@pytest.mark.parametrize("content", ["", "[]", '{"endpoint_url": "x"}'])
def test_an_unreadable_outputs_file_is_reported(here: Path, content: str) -> None:
    write_outputs(here, "").write_text(content, encoding="utf-8")
    with pytest.raises(CommandError, match=r"outputs\.json can't be read"):
        find_stack(StackSelection(local=True), {}, here)


def test_the_environment_names_the_folder_of_the_outputs_file(
    deployed: DeployedStack, here: Path, tmp_path: Path
) -> None:
    folder = write_outputs(here, deployed.url).parent
    assert find_stack(StackSelection(), {"WATERHOOK_LOCAL": str(folder)}, tmp_path).is_local


def test_a_stack_of_another_application_is_reported(deployed: DeployedStack, here: Path) -> None:
    stack = find_stack(StackSelection(STACK_NAME), {"AWS_REGION": "eu-west-1"}, here)
    with pytest.raises(CommandError, match="has no output TopicArn") as caught:
        stack.output("TopicArn")
    assert caught.value.exit_code == ExitCode.NOT_FOUND
