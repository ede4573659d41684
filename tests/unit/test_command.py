"""The command as people use it: what is printed where, and the exit code of every way it can end."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.builders import ID
from tests.support.deployed import API_KEY, NAME, Answer, Deployed, document
from waterhook.domain.status import Status
from waterhook_cli.cli import cli

ACCEPTED: Answer = (202, {"execution_id": ID, "status": "ACCEPTED", "status_url": "", "cancel_url": ""})
OUTPUT = '{\n  "answer": "At once."\n}\n'


def run(
    *words: str, on: Deployed | None = None, given: str | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """One command line against a stack of that kind."""
    # What a checkout with a running stack would add is kept out: nothing is local but what a test says.
    surroundings = {"WATERHOOK_DEBUG": None, **(on.environment if on else {}), **(env or {})}
    runner = CliRunner(mix_stderr=False, env=surroundings)
    with runner.isolated_filesystem():
        result = runner.invoke(cli, words, input=given, prog_name="waterhook")
    assert "Traceback" not in result.stderr
    return result


def at_terminal(*words: str, on: Deployed, answer: str = "", columns: int = 60) -> tuple[int, str]:
    """The exit code of a command line in a terminal of that width, and what is on the screen in the end.

    `answer` is typed in.
    """
    controller, terminal = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    path = os.pathsep.join(sys.path)
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "waterhook_cli", *words],
            cwd=folder,
            env=os.environ | on.environment | {"PYTHONPATH": path, "TERM": "dumb", "NO_COLOR": "1"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        os.write(controller, answer.encode())
        screen = b""
        with suppress(OSError):  # EIO: the last one with the terminal open has ended
            while read := os.read(controller, 65536):
                screen += read
        os.close(controller)
        return process.wait(), screen.decode().replace("\r\n", "\n")


@pytest.fixture
def stack() -> Iterator[Deployed]:
    with Deployed() as deployed:
        yield deployed


def cancelled(*, cancelled: bool, before: str) -> Answer:
    return 200, {
        "execution_id": ID,
        "cancelled": cancelled,
        "message": None,
        "previous_status": before,
    }


EXITS: dict[str, tuple[list[str], list[Answer], int]] = {
    "a start": (["submit", "bot"], [ACCEPTED], 0),
    "a list": (["list"], [(200, {"executions": [], "next": None})], 0),
    "a status, whatever it is": (["status", ID], [(200, document("FAILED"))], 0),
    "a cancel": (["cancel", ID], [cancelled(cancelled=True, before="RUNNING")], 0),
    "a cancel that will come": (["cancel", ID], [cancelled(cancelled=False, before="STARTING")], 0),
    "a cancel after a lost answer": (["cancel", ID], [cancelled(cancelled=False, before="ACCEPTED")], 1),
    "a cancel before": (["cancel", ID], [cancelled(cancelled=False, before="CANCELLED")], 0),
    "a cancel too late": (["cancel", ID], [cancelled(cancelled=False, before="COMPLETED")], 1),
    "a request that is wrong": (["submit", "bot"], [(400, {"detail": "timeout_seconds: no"})], 2),
    "a key of another request": (["submit", "bot", "--key", "k"], [(409, {"detail": "no"})], 2),
    "a request too large": (["submit", "bot"], [(413, {"message": "Request Too Long"})], 2),
    "an unknown id": (["status", ID], [(404, {"detail": "no execution"})], 3),
    "a caller who may not": (["list"], [(403, {"detail": "not authorized"})], 4),
    "a fault of the stack": (["status", ID], [(500, "<html>oh</html>")], 4),
    "an API of something else": (["status", ID], [(200, "[]")], 4),
    "a cancel that Waterflai refuses": (["cancel", ID], [(502, {"detail": "not cancelled"})], 4),
    "no such command": (["frobnicate"], [], 2),
    "no id": (["status", "nonsense"], [], 2),
    "an input that is no JSON": (["submit", "bot", "--input", "{"], [], 2),
    "an input that is no object": (["submit", "bot", "--input", "[1]"], [], 2),
    "an input that is not there": (["submit", "bot", "--input", "@nowhere.json"], [], 2),
    "a time that is none": (["redeliver", "--since", "yesterday"], [], 2),
    "a time before all times": (["redeliver", "--since", "0001-01-01T00:00+14:00"], [], 2),
    "a time too long ago": (["redeliver", "--since", "999999d"], [], 2),
    "a list without an end": (["list", "--limit", "9" * 30], [], 2),
    "a redelivery of what?": (["redeliver"], [], 2),
    "an erasure that can't be confirmed": (["erase", ID], [], 2),
    "a redelivery that can't be confirmed": (["redeliver", ID], [], 2),
    "a redelivery of nothing": (["redeliver", "--undelivered", "--yes"], [], 0),
    "a redelivery of an unknown id": (["redeliver", ID, "--yes"], [], 3),
    "a region that is none": (["list", "--region", "x y"], [], 4),
    "both here and there": (["list", "--local", "--stack", "a"], [], 2),
    "no such stack": (["list", "--stack", "other"], [], 3),
    "no local stack": (["list", "--local"], [], 3),
    "no such profile": (["list", "--profile", "nobody"], [], 4),
}


@pytest.mark.parametrize("case", EXITS)
def test_each_way_to_end_has_its_exit_code(stack: Deployed, case: str) -> None:
    words, stack.api, code = EXITS[case][0], EXITS[case][1] or stack.api, EXITS[case][2]
    result = run(*words, on=stack)
    assert result.exit_code == code, result.stderr
    if code > 1:
        assert result.stdout == ""
        assert result.stderr


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
def test_following_ends_as_the_execution_does(stack: Deployed, status: Status) -> None:
    stack.api = [ACCEPTED, (200, document(status, error_message="that is why"))]
    result = run("submit", "bot", "--follow", on=stack)
    assert result.exit_code == (0 if status is Status.COMPLETED else 1)
    assert result.stdout == (OUTPUT if status is Status.COMPLETED else "")
    assert f"{status}: that is why" in result.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ExpiredToken", "does not accept these credentials"),
        ("InvalidClientTokenId", "does not accept these credentials"),
        ("AccessDenied", "not allowed: DescribeStacks"),
        ("SomethingElse", "SomethingElse: it is so"),
    ],
)
def test_what_aws_refuses_is_said_in_words(stack: Deployed, error: str, said: str) -> None:
    stack.error = error
    result = run("list", on=stack)
    assert (result.exit_code, result.stdout) == (4, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, "no AWS region is set"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, "can't be reached"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense"),
        ({"AWS_REGION": "x y"}, "Check --region, AWS_REGION and"),
        ({"AWS_CONFIG_FILE": __file__}, "Unable to parse config file"),
        ({"AWS_PROFILE": "nobody"}, "no AWS profile 'nobody' is configured"),
    ],
)
def test_what_is_not_set_up_is_said_in_words(stack: Deployed, env: dict[str, Any], said: str) -> None:
    result = run("list", on=stack, env=env)
    assert (result.exit_code, result.stdout) == (4, ""), result.stderr
    assert said in result.stderr


def test_a_request_carries_what_was_given_and_nothing_else(stack: Deployed, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"ticket": "ß"}', encoding="utf-8")
    stack.api = [ACCEPTED]
    words = ["--input", "-", "--key", "once", "--timeout", "60", "--progress", "--deliver-to", "sns"]
    metadata = f"@{tmp_path / 'metadata.json'}"
    result = run("submit", "a bot", *words, "--metadata", metadata, on=stack, given='{"n": 1}')
    assert result.stdout == f"{ID}\n"
    (asked,) = stack.asked
    assert (asked.method, asked.target) == ("POST", "/live/v1/executions/a%20bot/async")
    assert asked.headers["idempotency-key"] == "once"
    assert asked.body == {
        "input_data": {"n": 1},
        "timeout_seconds": 60,
        "metadata": {"ticket": "ß"},
        "deliver_to": ["sns"],
        "progress_events": True,
    }
    run("submit", "bot", on=stack)
    assert stack.asked[-1].body == {"input_data": {}}


def test_the_api_is_asked_with_a_signature_or_with_its_key(stack: Deployed) -> None:
    run("status", ID, on=stack)
    assert "/execute-api/aws4_request" in stack.asked[-1].headers["authorization"]
    stack.outputs = {"ApiKeyId": "abc"}
    run("status", ID, on=stack)
    assert stack.asked[-1].headers["x-api-key"] == API_KEY
    assert "authorization" not in stack.asked[-1].headers


JSON = {
    "submit": (["submit", "bot"], ACCEPTED),
    "submit --follow": (["submit", "bot", "--follow"], (200, document())),
    "status": (["status", ID], (200, document())),
    "status --follow": (["status", ID, "--follow"], (200, document())),
    "cancel": (["cancel", ID], cancelled(cancelled=True, before="RUNNING")),
}


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize("before", [True, False])
def test_with_json_standard_output_is_the_api_s_own_answer(
    stack: Deployed, case: str, *, before: bool
) -> None:
    words, (_, said) = JSON[case]
    # A number that no float can hold comes through.
    text = json.dumps(said).replace("At once.", "ß").replace("null", "12345678901234567890.10")
    stack.api = [(200, text)]
    assert run(*(["--json", *words] if before else [*words, "--json"]), on=stack).stdout == text + "\n"


def listed(*ids: str) -> list[dict[str, str]]:
    return [
        {"execution_id": one, "status": "FAILED", "created_at": "2026-01-01T00:00:00.000Z"} for one in ids
    ]


def test_a_list_goes_on_from_page_to_page_until_it_has_enough(stack: Deployed) -> None:
    pages: list[Answer] = [
        (200, {"executions": listed("a", "b"), "next": "two"}),
        (200, {"executions": [], "next": "three="}),
        (200, {"executions": listed("c", "d"), "next": None}),
    ]
    stack.api = list(pages)
    said = json.loads(run("list", "--limit", "3", "--status", "failed", "--json", on=stack).stdout)
    assert [entry["execution_id"] for entry in said["executions"]] == ["a", "b", "c"]
    assert said["more"] is True
    assert [asked.target.partition("?")[2] for asked in stack.asked] == [
        "limit=100&status=FAILED",
        "limit=100&status=FAILED&next=two",
        "limit=100&status=FAILED&next=three%3D",
    ]
    stack.api = list(pages)
    assert len(run("list", "--all", on=stack).stdout.splitlines()) == 4
    stack.api = list(pages)
    assert "There are more" in run("list", "--limit", "1", on=stack).stderr


def test_a_status_fits_the_screen(stack: Deployed) -> None:
    running = document(
        "RUNNING",
        completed_nodes=1,
        total_nodes=3,
        current_node="node-2",
        metadata={"ticket": "T-1"},
        waterflai_execution_id="1" * 36,
    )
    stack.api = [(200, running)]
    said = run("status", ID, on=stack).stdout
    assert "progress    33 %, 1/3 nodes, at node-2\n" in said
    assert 'metadata    {"ticket": "T-1"}\n' in said
    assert "output" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_status_shows_why_a_request_waits(stack: Deployed) -> None:
    waiting = {
        "reason": "upstream_busy",
        "since": "2026-01-31T10:00:00.000Z",
        "next_attempt_at": "2026-01-31T10:00:45.000Z",
    }
    stack.api = [(200, document("ACCEPTED", waiting=waiting)), (200, document("RUNNING", waiting=None))]
    said = run("status", ID, on=stack).stdout
    assert "upstream_busy, next attempt " in said
    assert max(map(len, said.splitlines())) <= 80
    assert "next attempt" not in run("status", ID, on=stack).stdout


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_help_fits_the_screen(command: str) -> None:
    said = run(command, "--help").stdout
    assert said.startswith(f"Usage: waterhook {command}")
    assert max(map(len, (said + run("--help").stdout).splitlines())) <= 80


def test_an_output_too_large_for_a_record_is_fetched(stack: Deployed) -> None:
    link = f"{stack.url}/bucket/output.json?signature=x"
    stack.api = [(200, document(final_output=None, final_output_url=link)), (200, {"pages": [1, 2]})]
    result = run("status", ID, "--follow", on=stack)
    assert json.loads(result.stdout) == {"pages": [1, 2]}
    # The link opens it, and nobody's credentials go where it leads.
    assert not {"authorization", "x-api-key"} & stack.asked[-1].headers.keys()
    stack.api = [(200, document(final_output=None, final_output_url=link)), (403, "<Error/>")]
    result = run("status", ID, "--follow", on=stack)
    assert (result.exit_code, result.stdout) == (0, "")
    assert link in result.stderr.replace("\n", "")


def test_a_number_beyond_python_s_own_is_shown_as_it_came(stack: Deployed) -> None:
    stack.api = [(200, json.dumps(document()).replace('"At once."', f"[{'9' * 5000}, 1e999, 2.50]"))]
    shown = json.loads(run("status", ID, "--follow", on=stack).stdout)
    assert shown == {"answer": ["9" * 5000, "1e999", 2.5]}


def test_a_missing_output_is_said(stack: Deployed) -> None:
    stack.api = [(200, document(final_output=None, output_error="too_large"))]
    assert "There is no output: too_large" in run("status", ID, "--follow", on=stack).stderr


def test_what_comes_from_elsewhere_does_not_steer_the_terminal(stack: Deployed) -> None:
    nasty = "\x1b]0;title\x07 \x9b2J \ud800 ß"
    failed = document("FAILED", error_message=nasty, metadata={"note": nasty}, chatbot_id=nasty)
    ended = document(final_output={"answer": nasty})
    stack.api = [(200, failed), (200, failed), (200, ended)]
    results = [run("status", ID, *words, on=stack) for words in ([], ["--follow"], [])]
    for result in results:
        assert not set("\x1b\x07\x9b") & set(result.stdout + result.stderr)
        assert "ß" in result.stdout + result.stderr
    text = results[-1].stdout
    assert json.loads(text[text.index("{") :]) == {"answer": nasty}


def test_a_command_that_is_told_finds_the_same_stack(stack: Deployed) -> None:
    stack.api = [ACCEPTED]
    hint = f"waterhook status {ID} --follow --stack {NAME} --region us-east-1"
    words = ["submit", "bot", "--stack", NAME, "--region", "us-east-1"]
    # In one piece, so that it can be copied: in a pipe, and on a terminal that is not as wide.
    assert hint in run(*words, on=stack).stderr
    assert hint in at_terminal(*words, on=stack, columns=40)[1]


def test_which_stack_is_asked_is_on_standard_error_unless_it_is_quiet(stack: Deployed) -> None:
    stack.api = [(200, {"executions": listed("a"), "next": "more"})]
    result = run("list", "--limit", "1", on=stack)
    assert f"the stack {NAME} (us-east-1)\n" in result.stderr
    assert NAME not in result.stdout
    for quiet in ("--quiet", "-q"):
        silent = run("list", "--limit", "1", quiet, on=stack)
        assert (silent.stdout, silent.stderr) == (result.stdout, "")


def test_following_quietly_prints_nothing_but_the_output_and_what_went_wrong(stack: Deployed) -> None:
    stack.api = [(200, document())]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.stdout, result.stderr) == (OUTPUT, "")
    stack.api = [(200, document("FAILED", error_message="that is why"))]
    result = run("status", ID, "--follow", "--quiet", on=stack)
    assert (result.exit_code, result.stderr) == (1, "FAILED: that is why\n")
    stack.error = "AccessDenied"
    assert "not allowed" in run("status", ID, "--quiet", on=stack).stderr


def test_a_list_has_heads_on_a_terminal_and_tabs_in_a_pipe(stack: Deployed) -> None:
    entries = [
        {
            "execution_id": ID,
            "status": "FAILED",
            "created_at": "2026-01-31T09:00:00.123Z",
            "chatbot_id": "a b",
        },
        {"execution_id": ID, "status": "TIMED_OUT", "created_at": "2026-01-31T10:00:00+01:00"},
    ]
    stack.api = [(200, {"executions": entries, "next": None})]
    assert run("list", on=stack).stdout.splitlines() == [
        f"{ID}\tFAILED\t2026-01-31T09:00:00Z\ta b",
        f"{ID}\tTIMED_OUT\t2026-01-31T09:00:00Z\t",
    ]
    code, screen = at_terminal("list", "-q", on=stack, columns=80)
    assert code == 0
    assert screen.splitlines() == [
        f"{'ID':32}  STATUS     ACCEPTED              CHATBOT",
        f"{ID}  FAILED     2026-01-31T09:00:00Z  a b",
        f"{ID}  TIMED_OUT  2026-01-31T09:00:00Z",
    ]


def ended(execution_id: str) -> dict[str, Any]:
    return {
        "execution_id": {"S": execution_id},
        "status": {"S": "FAILED"},
        "finished_at": {"S": "2026-01-01T00:00:00.000Z"},
        "expires_at": {"N": "99999999999"},
    }


def test_a_redelivery_names_stack_and_number_and_waits_for_a_yes(stack: Deployed) -> None:
    stack.items = [ended(ID), ended("1e" * 16)]
    code, screen = at_terminal("redeliver", "--status", "failed", on=stack, answer="n\n", columns=200)
    assert (code, stack.invoked) == (1, [])
    question = f"Publish 2 notifications again, to every subscriber of the stack {NAME} (us-east-1)? [y/N]"
    assert question in screen
    assert "Nothing was done." in screen
    code, screen = at_terminal("redeliver", ID, on=stack, answer="y\n", columns=200)
    assert (code, stack.invoked) == (0, [{"redeliver": {"execution_id": ID}}])
    assert "Publish 1 notification again" in screen


def test_without_a_terminal_a_redelivery_needs_a_yes_and_a_dry_run_does_not(stack: Deployed) -> None:
    stack.items = [ended(ID)]
    refused = run("redeliver", ID, on=stack)
    assert (refused.exit_code, "add --yes" in refused.stderr, stack.invoked) == (2, True, [])
    assert run("redeliver", ID, "--dry-run", on=stack).stdout == f"{ID}\n"
    assert stack.invoked == []
    assert run("redeliver", ID, "--yes", on=stack).stdout == f"{ID}  COMPLETED\n"
    assert len(stack.invoked) == 1


def test_an_erasure_that_is_not_wanted_ends_without_one(stack: Deployed) -> None:
    code, screen = at_terminal("erase", ID, on=stack, answer="n\n", columns=200)
    assert code == 1
    assert f"Erase {ID} from the stack {NAME} (us-east-1)? It can't be undone. [y/N]" in screen


def piped(*words: str, on: Deployed, reader: str, target: str = "/dev/stdout") -> tuple[list[int], str]:
    """The exit codes of a command line and of what reads it, and what is on standard error."""
    path = os.pathsep.join(sys.path)
    script = f'"$@" > {target} | {reader}; echo "${{PIPESTATUS[@]}}" >&3'
    read, write = os.pipe()
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [  # noqa: S607  # wherever bash is
                "bash",
                "-c",
                f"exec 3>&{write}; {script}",
                "bash",
                sys.executable,
                "-m",
                "waterhook_cli",
                *words,
            ],
            cwd=folder,
            env=os.environ | on.environment | {"PYTHONPATH": path},
            pass_fds=[write],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(write)
        _, stderr = process.communicate(timeout=60)
        with os.fdopen(read) as codes:
            return [int(code) for code in codes.read().split()], stderr


@pytest.mark.parametrize("words", [["list", "--all"], ["list", "--all", "--json"], ["status", ID]])
def test_a_reader_that_has_seen_enough_causes_no_traceback(stack: Deployed, words: list[str]) -> None:
    entries = listed(*(f"{number:032x}" for number in range(5000)))
    large = {"executions": entries, "next": None}
    stack.api = [(200, large if words[0] == "list" else document(final_output=["x" * 100] * 5000))]
    codes, stderr = piped(*words, "--quiet", on=stack, reader="head -n 1")
    assert (codes[0] in {0, 1}, codes[1], stderr) == (True, 0, "")


def test_a_reader_that_has_gone_before_the_first_line_causes_no_traceback(stack: Deployed) -> None:
    stack.api = [(200, {"executions": listed("a"), "next": None})]
    assert piped("list", "-q", on=stack, reader="true")[1] == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_is_full_is_no_fault_of_the_command(stack: Deployed) -> None:
    stack.api = [(200, {"executions": listed("a"), "next": None})]
    codes, stderr = piped("list", "-q", on=stack, reader="true", target="/dev/full")
    assert codes[0] == 4
    assert stderr == "waterhook: [Errno 28] No space left on device\n"


def test_no_command_is_described_by_half_a_sentence() -> None:
    assert "..." not in run("--help").stdout.partition("Commands:")[2]


def test_ctrl_c_is_no_traceback(stack: Deployed) -> None:
    stack.api = [(200, document("RUNNING"))]
    path = os.pathsep.join(sys.path)
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "waterhook_cli", "status", ID, "--follow"],
            cwd=folder,
            env=os.environ | stack.environment | {"PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while "RUNNING" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"To watch it again: waterhook status {ID} --follow\n" in said
    assert "Traceback" not in said


def test_a_fault_of_the_command_is_called_one(stack: Deployed) -> None:
    stack.api = [(200, {"executions": [{}], "next": None})]
    result = run("list", on=stack)
    assert result.exit_code == 70
    assert "fault of the command itself: KeyError" in result.stderr


def test_doctor_reports_the_quota_also_where_nothing_is_deployed_yet() -> None:
    limits = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
    with Deployed(api=[(200, {"AccountLimit": limits})]) as deployed:
        result = run("doctor", "--stack", "other", on=deployed)
    assert result.exit_code == 3
    printed = " ".join(result.stdout.split())
    assert "Lambda's quota of concurrent executions is 10" in printed
    assert "aws service-quotas request-service-quota-increase" in printed
    assert "there is no stack 'other'" in result.stderr
