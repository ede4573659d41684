"""The command line: exit codes, errors, help, pipes and Ctrl-C."""

import re
import shlex
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner

from tests.fakes.deployed_stack import ApiResponse, DeployedStack, status_document
from tests.support.builders import ID
from tests.unit.waterhook_cli.command_line import COMMAND, environment, run, run_in_pipe
from waterhook_cli import commands
from waterhook_cli.main import COMMANDS, cli

ACCEPTED: ApiResponse = (202, {"execution_id": ID, "status": "ACCEPTED", "status_url": "", "cancel_url": ""})
EMPTY_LIST: ApiResponse = (200, {"executions": [], "next": None})

EXIT_CODES: dict[str, tuple[list[str], list[ApiResponse], int]] = {
    "a start": (["submit", "bot"], [ACCEPTED], 0),
    "a list": (["list"], [EMPTY_LIST], 0),
    "a status, also of a failed execution": (["status", ID], [(200, status_document("FAILED"))], 0),
    "an invalid request": (["submit", "bot"], [(400, {"detail": "timeout_seconds: no"})], 2),
    "the key of another request": (["submit", "bot", "--key", "k"], [(409, {"detail": "no"})], 2),
    "a request that is too large": (["submit", "bot"], [(413, {"message": "Request Too Long"})], 2),
    "an unknown id": (["status", ID], [(404, {"detail": "no execution"})], 3),
    "access denied by the API": (["list"], [(403, {"detail": "not authorized"})], 4),
    "a failure of the API": (["status", ID], [(500, "<html>oh</html>")], 4),
    "the API of another application": (["status", ID], [(200, "[]")], 4),
    "a cancellation that Waterflai refuses": (
        ["cancel", ID, "--yes"],
        [(502, {"detail": "not cancelled"})],
        4,
    ),
    "an unknown command": (["frobnicate"], [], 2),
    "an invalid region": (["list", "--region", "x y"], [], 4),
    "a local stack on AWS": (["list", "--local", "--stack", "a"], [], 2),
    "an unknown stack": (["list", "--stack", "other"], [], 3),
    "no local stack": (["list", "--local"], [], 3),
    "an unknown profile": (["list", "--profile", "missing"], [], 4),
}


@pytest.mark.parametrize("case", EXIT_CODES)
def test_each_result_has_its_exit_code_and_errors_go_to_standard_error(
    stack: DeployedStack, case: str
) -> None:
    arguments, responses, code = EXIT_CODES[case]
    stack.api_responses = responses or stack.api_responses
    result = run(*arguments, on=stack)
    assert result.exit_code == code, result.stderr
    if code:
        assert result.stdout == ""
        assert result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ExpiredToken", "does not accept these credentials"),
        ("InvalidClientTokenId", "does not accept these credentials"),
        ("AccessDenied", "not allowed: DescribeStacks"),
        ("SomethingElse", "SomethingElse: refused"),
    ],
)
def test_an_error_of_aws_is_explained(stack: DeployedStack, error: str, message: str) -> None:
    stack.cloudformation_error = error
    result = run("list", "--quiet", on=stack)
    assert (result.exit_code, result.stdout) == (4, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, "no AWS region is set"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, "can't be reached"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense"),
        ({"AWS_REGION": "x y"}, "Check --region, AWS_REGION and"),
        ({"AWS_CONFIG_FILE": __file__}, "Unable to parse config file"),
        ({"AWS_PROFILE": "missing"}, "no AWS profile 'missing' is configured"),
    ],
)
def test_a_missing_or_wrong_setting_is_explained(
    stack: DeployedStack, env: dict[str, Any], message: str
) -> None:
    result = run("list", on=stack, env=env)
    assert (result.exit_code, result.stdout) == (4, ""), result.stderr
    assert message in result.stderr


def test_an_unexpected_exception_is_reported_as_a_bug(stack: DeployedStack) -> None:
    stack.api_responses = [(200, {"executions": [{}], "next": None})]
    result = run("list", on=stack)
    assert result.exit_code == 70
    assert "bug in the command itself: KeyError" in result.stderr


def test_each_module_in_commands_is_a_command_under_its_name() -> None:
    modules = {path.stem for path in Path(*commands.__path__).glob("*.py")} - {"__init__"}
    names = {name.replace("_", "-") for name in modules}
    assert {name: command.name for name, command in cli.commands.items()} == {name: name for name in names}
    assert [*cli.commands] == [*COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_example_in_the_help_is_a_valid_command(command: str) -> None:
    epilog = cli.commands[command].epilog or ""
    examples = [line.strip() for line in epilog.splitlines() if line.strip().startswith("waterhook ")]
    assert examples
    with CliRunner().isolated_filesystem():
        for name in ("request.json", "data.json", "letter.txt"):
            Path(name).write_text("{}", encoding="utf-8")
        for example in examples:
            _, name, *arguments = shlex.split(example.partition(" >")[0])
            assert name == command
            cli.commands[name].make_context(name, arguments)


def test_the_help_lists_each_command_once_with_its_whole_first_sentence() -> None:
    text = run("--help").stdout
    sections = text[text.index("Executions:") : text.index("Examples:")]
    assert re.findall(r"^  ([a-z-]+)  ", sections, re.MULTILINE) == [*COMMANDS]
    assert "..." not in sections


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns(command: str) -> None:
    text = run(command, "--help").stdout
    assert text.startswith(f"Usage: waterhook {command}")
    assert max(map(len, (text + run("--help").stdout).splitlines())) <= 80


def entries(count: int) -> ApiResponse:
    executions = [
        {"execution_id": f"{number:032x}", "status": "FAILED", "created_at": "2026-01-01T00:00:00.000Z"}
        for number in range(count)
    ]
    return 200, {"executions": executions, "next": None}


@pytest.mark.parametrize("arguments", [["list", "--all"], ["list", "--all", "--json"], ["status", ID]])
def test_a_reader_that_stops_early_causes_no_traceback(stack: DeployedStack, arguments: list[str]) -> None:
    large = status_document(final_output=["x" * 100] * 5000)
    stack.api_responses = [entries(5000) if arguments[0] == "list" else (200, large)]
    codes, stderr = run_in_pipe(*arguments, "--quiet", on=stack, reader="head -n 1")
    assert (codes[0] in {0, 1}, codes[1], stderr) == (True, 0, "")


def test_a_reader_that_ends_before_the_first_line_causes_no_traceback(stack: DeployedStack) -> None:
    stack.api_responses = [entries(1)]
    assert run_in_pipe("list", "-q", on=stack, reader="true")[1] == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_reported(stack: DeployedStack) -> None:
    stack.api_responses = [entries(1)]
    codes, stderr = run_in_pipe("list", "-q", on=stack, reader="true", target="/dev/full")
    assert codes[0] == 4
    assert stderr == "waterhook: [Errno 28] No space left on device\n"


def test_ctrl_c_prints_how_to_continue_and_no_traceback(stack: DeployedStack) -> None:
    stack.api_responses = [(200, status_document("RUNNING"))]
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*COMMAND, "status", ID, "--follow"],
            cwd=folder,
            env=environment(stack),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while "RUNNING" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"To follow it again: waterhook status {ID} --follow\n" in stderr
    assert "Traceback" not in stderr
