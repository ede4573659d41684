"""Which stack a command is about: never another one than its user thinks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ProfileNotFound

from tests.support.builders import MACHINE
from tests.support.deployed import NAME, Deployed
from waterhook_cli.errors import ExitCode, Problem
from waterhook_cli.stack import Wanted, find


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    with Deployed() as stack:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stack.url)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        yield stack


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with nothing in it, inside one where a stack may be up."""
    folder = tmp_path / "checkout" / "docs"
    folder.mkdir(parents=True)
    return folder


def make_up(here: Path, endpoint_url: str, **changes: str) -> Path:
    """What `make up` leaves behind."""
    known = {
        "endpoint_url": endpoint_url,
        "region": "us-east-1",
        "state_machine_arn": MACHINE,
        "api_url": f"{endpoint_url}/by-path",
    }
    file = here.parent / ".local" / "outputs.json"
    file.parent.mkdir()
    file.write_text(json.dumps(known | changes), encoding="utf-8")
    return file


def test_a_stack_on_aws_is_found_by_its_name(deployed: Deployed, here: Path) -> None:
    stack = find(Wanted(stack=NAME), {"AWS_REGION": "eu-west-1"}, here)
    assert str(stack) == f"the stack {NAME} (eu-west-1)"
    assert stack.api_url == f"{deployed.url}/live"
    assert stack.parameters["Delivery"] == "BOTH"


def test_the_environment_names_the_stack_and_an_option_goes_first(deployed: Deployed, here: Path) -> None:
    environ = {"AWS_REGION": "eu-west-1", "WATERHOOK_STACK": NAME}
    assert find(Wanted(), environ, here).name == NAME
    with pytest.raises(Problem, match="there is no stack 'other' in us-west-2"):
        find(Wanted(stack="other", region="us-west-2"), environ, here)
    with pytest.raises(Problem, match="there is no stack 'waterhook' in eu-west-1"):
        find(Wanted(), {"AWS_REGION": "eu-west-1"}, here)


def test_in_a_checkout_the_local_stack_is_meant_with_credentials_of_its_own(
    deployed: Deployed, here: Path
) -> None:
    make_up(here, deployed.url)
    stack = find(Wanted(), {"AWS_REGION": "eu-west-1"}, here)
    assert str(stack) == f"the local stack {NAME} ({deployed.url})"
    assert stack.api_url == f"{deployed.url}/by-path"
    assert stack.region == "us-east-1"
    assert deployed.credentials == {"test"}


def test_nothing_of_the_user_s_own_set_up_keeps_the_local_stack_away(
    deployed: Deployed, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_up(here, deployed.url)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    (here / "config").write_text("[default]\nregion = broken", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(here / "config"))
    assert find(Wanted(), {}, here).region == "us-east-1"
    assert deployed.credentials == {"test"}


@pytest.mark.parametrize("wanted", [Wanted(stack=NAME), Wanted(region="eu-west-1")])
def test_whoever_names_something_on_aws_does_not_mean_the_local_one(
    deployed: Deployed, here: Path, wanted: Wanted
) -> None:
    make_up(here, "http://127.0.0.1:1")
    assert not find(wanted, {"WATERHOOK_STACK": NAME, "AWS_REGION": "eu-west-1"}, here).local


def test_a_profile_is_never_that_of_the_local_stack(deployed: Deployed, here: Path) -> None:
    make_up(here, deployed.url)
    with pytest.raises(ProfileNotFound):
        find(Wanted(profile="nobody"), {}, here)


def test_a_local_stack_that_is_gone_is_not_replaced_by_one_on_aws(deployed: Deployed, here: Path) -> None:
    make_up(here, "http://127.0.0.1:1")
    with pytest.raises(Problem, match="does not answer") as caught:
        find(Wanted(), {"WATERHOOK_STACK": NAME, "AWS_REGION": "eu-west-1"}, here)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert deployed.credentials == set()


def test_a_local_aws_with_another_stack_in_it_is_not_taken(deployed: Deployed, here: Path) -> None:
    make_up(here, deployed.url, state_machine_arn="another")
    with pytest.raises(Problem, match="there is no stack any more"):
        find(Wanted(local=True), {}, here)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"endpoint_url": "x"}'])
def test_a_broken_file_is_said_to_be_one(here: Path, content: str) -> None:
    make_up(here, "").write_text(content, encoding="utf-8")
    with pytest.raises(Problem, match=r"outputs\.json can't be read"):
        find(Wanted(local=True), {}, here)


def test_its_folder_can_be_named(deployed: Deployed, here: Path, tmp_path: Path) -> None:
    folder = make_up(here, deployed.url).parent
    assert find(Wanted(), {"WATERHOOK_LOCAL": str(folder)}, tmp_path).local


def test_a_stack_of_something_else_is_said_to_be_one(deployed: Deployed, here: Path) -> None:
    stack = find(Wanted(stack=NAME), {"AWS_REGION": "eu-west-1"}, here)
    with pytest.raises(Problem, match="has no output TopicArn") as caught:
        stack.output("TopicArn")
    assert caught.value.exit_code == ExitCode.NOT_FOUND
