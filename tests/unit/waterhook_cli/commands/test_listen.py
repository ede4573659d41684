"""`waterhook listen`: its options, what it prints, and the signals that end it."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from click.testing import Result

from local.local_aws.local_authority import LocalAuthority
from local.webhook_receiver import WebhookReceiver, slow
from local.webhook_receiver import status as answer_status
from tests.fakes.deployed_stack import DeployedStack
from tests.fakes.topic import TOPIC_ARN, AwsError, TopicServer
from tests.support.builders import ID, SOURCE, final_record, running_record
from tests.support.waiting import until
from tests.unit.waterhook_cli.command_line import COMMAND, environment, run, run_in_terminal
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import outcome_event, progress_event
from waterhook.webhooks.signature import derive_key, shown_secret
from waterhook_cli.temporary_queue import EXPIRY_TAG

OTHER_ID = "ab" * 16
ERROR = {"code": "unexpected", "message": "card 4711"}
COMPLETED = outcome_event(final_record(final_output_json='{"answer": "card 4711"}'), SOURCE)
FAILED = outcome_event(final_record(Status.ERROR, execution_id=OTHER_ID, error=ERROR), SOURCE)
PROGRESS = progress_event(running_record(progress_sequence=3), SOURCE, {"progress": 50}, 0.0)
SECRET = shown_secret(bytes(range(32)))
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class WithTopic(DeployedStack):
    """A deployed stack with its topic."""

    topic: TopicServer

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.topic.environment


@pytest.fixture
def deployed() -> Iterator[WithTopic]:
    with WithTopic(outputs={"TopicArn": TOPIC_ARN}) as stack, TopicServer() as topic:
        stack.topic = topic
        yield stack


@pytest.fixture
def topic(deployed: WithTopic) -> TopicServer:
    return deployed.topic


@pytest.fixture
def listen(deployed: WithTopic) -> Callable[..., Result]:
    """Return a function that runs the command, and publishes messages when it has subscribed."""

    def listen(*options: str, messages: tuple[str, ...] = (COMPLETED,), env: Any = None) -> Result:
        publish_when_subscribed(deployed.topic, messages)
        result = run("listen", *options, on=deployed, env=env)
        assert "4711" not in result.stderr
        return result

    return listen


def publish_when_subscribed(topic: TopicServer, messages: tuple[str, ...]) -> None:
    def publish() -> None:
        for message in messages:
            topic.publish(message)

    topic.after["Subscribe"] = publish


@pytest.fixture
def receiver(receiver_authority: LocalAuthority) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(receiver_authority, secret=SECRET, tls=False) as server:
        yield server


def test_a_notification_is_one_line_without_customer_data(
    topic: TopicServer, listen: Callable[..., Result]
) -> None:
    result = listen("--count", "3", messages=(COMPLETED, FAILED, PROGRESS))
    assert result.exit_code == 0
    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    first, second, third = result.stdout.splitlines()
    assert re.fullmatch(rf"{at}\tCOMPLETED\t{ID}\tsupport-chat", first)
    assert re.fullmatch(rf"{at}\tERROR\t{OTHER_ID}\tsupport-chat\tunexpected", second)
    assert third == f"1970-01-01T00:00:00Z\tRUNNING\t{ID}\tsupport-chat\t50 %"
    assert topic.is_empty
    assert "Waiting for notifications." in result.stderr


def test_a_terminal_gets_aligned_columns(deployed: WithTopic) -> None:
    publish_when_subscribed(deployed.topic, (COMPLETED, FAILED))
    code, screen = run_in_terminal("listen", "--count", "2", "-q", on=deployed)
    assert code == 0
    assert [line[20:33] for line in screen.splitlines()] == ["  COMPLETED  ", "  ERROR      "]


def test_json_is_the_event_as_it_was_published(listen: Callable[..., Result]) -> None:
    spread = COMPLETED.replace('{"answer": ', '{\n  "answer":\r\n ').replace("/COMPLETED", "/again")
    result = listen("--json", "--count", "3", "-q", messages=(COMPLETED, FAILED, spread))
    assert result.stderr == ""
    assert result.stdout.startswith(f"{COMPLETED}\n{FAILED}\n")
    assert json.loads(result.stdout.splitlines()[2]) == json.loads(spread)


def test_the_filters_are_those_of_the_subscription(topic: TopicServer, listen: Callable[..., Result]) -> None:
    listen(
        *("--status", "completed", "--status", "RUNNING", "--type", "completed"),
        *("--type", "waterhook.execution.lost", "--chatbot", "support-chat", "--count", "1"),
    )
    request = topic.requests["Subscribe"]
    names = [name for name in request if name.startswith("Attributes.entry") and name.endswith("key")]
    attributes = {request[name]: request[name.replace("key", "value")] for name in names}
    assert attributes["RawMessageDelivery"] == "true"
    assert json.loads(attributes["FilterPolicy"]) == {
        "type": ["waterhook.execution.completed", "waterhook.execution.lost"],
        "status": ["COMPLETED", "RUNNING"],
        "chatbot_id": ["support-chat"],
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--type", "nonsense"], "'nonsense' is not a type"),
        (["--forward-to", "http://example.com/the-token"], "example.com is not this computer"),
        (["--forward-to", "localhost:1", "--secret", "whsec_the-token"], "expected whsec_"),
        (["--secret", SECRET], "--secret requires --forward-to"),
        (["--count", "0"], "--count"),
        (
            [word for number in range(76) for word in ("--chatbot", str(number))]
            + ["--status", "LOST", "--status", "ERROR"],
            "152 combinations",
        ),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_created(
    topic: TopicServer, listen: Callable[..., Result], options: list[str], message: str
) -> None:
    result = listen(*options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "the-token" not in result.stderr
    assert topic.calls == []


def test_the_answer_of_a_server_is_printed(
    topic: TopicServer, listen: Callable[..., Result], receiver: WebhookReceiver
) -> None:
    receiver.answers.next(slow(0.3))
    options = ["--forward-to", f"localhost:{receiver.port}/hook", "--secret", SECRET, "--count", "2"]
    result = listen(*options, messages=(COMPLETED, FAILED))
    assert result.exit_code == 0
    assert {one.body for one in receiver.requests if one.verified} == {COMPLETED.encode(), FAILED.encode()}
    # The second notification is printed before the first answer.
    assert [line.split("\t")[2] for line in result.stdout.splitlines()][:2] == [ID, OTHER_ID]
    assert re.search(rf"Z\t-> 200\t{ID}\t\d+ ms\n", result.stdout)
    assert topic.is_empty


def test_with_json_the_answer_is_on_standard_error(
    listen: Callable[..., Result], receiver: WebhookReceiver
) -> None:
    receiver.answers.next(answer_status(503))
    options = ["--forward-to", f"localhost:{receiver.port}", "--count", "1", "--json", "-q"]
    result = listen(*options, env={"WATERHOOK_WEBHOOK_SECRET": SECRET})
    assert (result.exit_code, result.stdout) == (1, f"{COMPLETED}\n")
    assert re.search(rf"Z  -> 503  {ID}  \d+ ms\n$", result.stderr)
    assert receiver.requests[0].verified


def test_without_webhooks_a_new_secret_signs_and_is_printed(
    listen: Callable[..., Result], receiver: WebhookReceiver
) -> None:
    result = listen("--forward-to", f"localhost:{receiver.port}", "--count", "1", "-q")
    (secret,) = re.findall(r"^whsec_\S+$", result.stderr, re.MULTILINE)
    (received,) = receiver.requests
    receiver.secret = secret
    assert receiver.receive("POST", "/", dict(received.headers), received.body).verified


def test_with_webhooks_the_secret_of_localhost_signs(
    deployed: WithTopic, listen: Callable[..., Result], receiver: WebhookReceiver
) -> None:
    deployed.outputs["WebhookSecretArn"] = "arn"
    deployed.secret_text = '{"key": "master"}'
    receiver.secret = shown_secret(derive_key("master", "localhost"))
    result = listen("--forward-to", f"http://127.0.0.1:{receiver.port}", "--count", "1")
    assert receiver.requests[0].verified
    assert "waterhook webhook-secret localhost\n" in result.stderr
    assert "whsec_" not in result.stderr


def test_a_secret_that_can_not_be_read_ends_the_command_before_a_queue_exists(
    deployed: WithTopic, listen: Callable[..., Result]
) -> None:
    deployed.outputs["WebhookSecretArn"] = "arn"
    deployed.secret_text = "damaged"
    result = listen("--forward-to", "localhost:1")
    assert result.exit_code == 4
    assert "set your own secret in WATERHOOK_WEBHOOK_SECRET" in result.stderr
    assert deployed.topic.calls == []


def start(deployed: WithTopic) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "listen"],
        cwd="/",
        env=environment(deployed),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_signal_removes_the_queue_and_a_kill_leaves_it_for_the_next_command(
    deployed: WithTopic, topic: TopicServer, listen: Callable[..., Result]
) -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for background jobs
    with ExitStack() as processes:
        started = [processes.enter_context(start(deployed)) for _ in range(len(SIGNALS) + 1)]
        signal.signal(signal.SIGINT, previous)
        until(lambda: topic.calls.count("ReceiveMessage") >= len(started), pause_s=0.02)
        for process, signum in zip(started, [*SIGNALS, signal.SIGKILL], strict=True):
            process.send_signal(signum)
        ends = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [130, 130, 130, -signal.SIGKILL]
    for _, stderr in ends[:3]:
        assert stderr.endswith("Ctrl-C ends the command.\nInterrupted.\n")
    (left,) = topic.queues
    assert "Removed" not in listen("--count", "1").stderr
    assert [*topic.queues] == [left], "its lease has not expired"
    topic.queues[left].tags[EXPIRY_TAG] = str(int(time.time()) - 1)
    assert f"Removed what earlier runs have left: {left}." in listen("--count", "1").stderr
    assert topic.is_empty


def refuse(code: str) -> Callable[[], None]:
    def hook() -> None:
        raise AwsError(code, 403)

    return hook


@pytest.mark.parametrize(
    ("operation", "code", "action"),
    [
        ("CreateQueue", "AccessDenied", "sqs:CreateQueue"),
        ("Subscribe", "AuthorizationError", "sns:Subscribe"),
    ],
)
def test_a_missing_permission_is_named(
    topic: TopicServer, listen: Callable[..., Result], operation: str, code: str, action: str
) -> None:
    topic.before[operation] = refuse(code)
    result = listen()
    assert result.exit_code == 4
    assert f"waterhook: not allowed: {action}\n" in result.stderr
    assert topic.is_empty


def test_without_permission_to_find_leftovers_notifications_are_printed(
    topic: TopicServer, listen: Callable[..., Result]
) -> None:
    topic.before["ListQueues"] = refuse("AccessDenied")
    result = listen("--count", "1")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert "were not removed: not allowed: sqs:ListQueues." in result.stderr
