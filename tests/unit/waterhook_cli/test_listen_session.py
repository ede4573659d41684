"""The loop of `waterhook listen`: what it prints and deletes, and what is left of its queue after each end."""

import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.fakes.clock import Clock
from tests.fakes.topic import TOPIC_ARN, AwsError, FakeTopic
from tests.support.builders import SOURCE, final_record
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import outcome_event
from waterhook.webhooks.sender import Attempt
from waterhook_cli.errors import CommandError
from waterhook_cli.forward import Forwarder
from waterhook_cli.interrupts import Interrupts
from waterhook_cli.listen_session import (
    MAX_LOCAL_UNAVAILABLE_S,
    MAX_UNAVAILABLE_S,
    RENEW_INTERVAL_S,
    VISIBILITY_S,
    ListenSession,
    SessionOptions,
)
from waterhook_cli.notification import Notification, NotificationFilter
from waterhook_cli.output import Output
from waterhook_cli.temporary_queue import TemporaryQueue

COMPLETED = outcome_event(final_record(final_output_json='"card 4711"'), SOURCE)
FAILED = outcome_event(final_record(Status.FAILED, execution_id="ab" * 16), SOURCE)
UNREACHABLE = EndpointConnectionError(endpoint_url="https://sqs.test")


@dataclass
class Run:
    """A session at a fake topic. `printed` has the statuses of the printed notifications."""

    topic: FakeTopic = field(default_factory=FakeTopic)
    clock: Clock = field(default_factory=Clock)
    printed: list[str] = field(default_factory=list)
    forwarder: Forwarder | None = None

    def print_notification(self, notification: Notification) -> None:
        self.printed.append(notification.text_of("status"))

    def publish(self, *messages: str) -> None:
        """Publish messages when the queue is subscribed."""

        def publish() -> None:
            for message in messages:
                self.topic.publish(message)

        self.topic.after["Subscribe"] = publish

    def __call__(self, **options: Any) -> None:
        client: Any = self.topic.client()

        def new_queue() -> TemporaryQueue:
            return TemporaryQueue(TOPIC_ARN, "shop", client, client, filter_policy={}, clock=self.clock)

        session = ListenSession(
            new_queue,
            client,
            self,
            Output(),
            SessionOptions(**options),
            self.forwarder,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        with Interrupts() as interrupts:
            session.run(interrupts)


@pytest.fixture
def listen() -> Run:
    run = Run()
    run.publish(COMPLETED)
    return run


def fail(error: BaseException, *, times: int = 10_000) -> Callable[[], None]:
    left = iter(range(times))

    def hook() -> None:
        if next(left, None) is not None:
            raise error

    return hook


def test_the_session_ends_after_the_given_number_and_leaves_nothing(listen: Run) -> None:
    listen.publish(COMPLETED, FAILED, COMPLETED.replace("COMPLETED", "LOST"))
    listen(count=2)
    assert listen.printed == ["COMPLETED", "FAILED"]
    assert listen.topic.is_empty
    assert listen.topic.calls[-2:] == ["Unsubscribe", "DeleteQueue"]


def test_a_repeated_notification_is_printed_once_and_deleted(listen: Run) -> None:
    listen.publish(COMPLETED, COMPLETED, COMPLETED, FAILED)
    listen(count=2)
    assert listen.printed == ["COMPLETED", "FAILED"]
    assert len(listen.topic.requests["DeleteMessageBatch"]["Entries"]) == 4


def test_what_does_not_match_and_what_is_no_notification_is_skipped(
    listen: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    listen.publish(COMPLETED, "not JSON, card 4711", FAILED)
    listen(count=1, selection=NotificationFilter(statuses=["FAILED"]))
    assert listen.printed == ["FAILED"]
    assert capsys.readouterr().err == "A message that is not a notification was skipped.\n"


def test_a_message_that_is_not_deleted_ends_nothing(listen: Run) -> None:
    listen.topic.before["DeleteMessageBatch"] = fail(UNREACHABLE)
    listen(count=1)
    assert listen.topic.is_empty


def test_a_message_is_deleted_after_it_was_forwarded(listen: Run) -> None:
    in_queue: list[bool] = []

    def send(_: Notification) -> Attempt:
        (queue,) = listen.topic.queues.values()
        in_queue.append(COMPLETED in queue.received.values())
        return Attempt(200)

    listen.forwarder = Forwarder(send, lambda *_: None)
    listen(count=1)
    assert in_queue == [True]
    assert listen.topic.calls.count("DeleteMessageBatch") == 1


def test_received_messages_stay_invisible_while_they_wait_for_a_slow_server(listen: Run) -> None:
    # 110 messages of two servers that take 15 s each.
    assert VISIBILITY_S > 110 / 2 * 15
    listen(count=1)
    request = listen.topic.requests["ReceiveMessage"]
    assert (request["VisibilityTimeout"], request["WaitTimeSeconds"]) == (VISIBILITY_S, 20)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", ["CreateQueue", "Subscribe", "ReceiveMessage", "DeleteMessageBatch"])
def test_a_signal_at_any_call_leaves_nothing(
    listen: Run, operation: str, moment: str, signum: signal.Signals
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signum)

    hooks = listen.topic.before if moment == "before" else listen.topic.after
    previous = hooks.get(operation, lambda: None)

    def then_interrupt() -> None:
        previous()
        interrupt()

    hooks[operation] = then_interrupt
    # More signals arrive during the clean-up.
    listen.topic.before["Unsubscribe"] = listen.topic.before["DeleteQueue"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        listen()
    assert listen.topic.is_empty
    assert listen.topic.calls[-2:] == ["Unsubscribe", "DeleteQueue"]


def test_a_clean_up_that_hangs_can_be_ended(listen: Run, capsys: pytest.CaptureFixture[str]) -> None:
    listen.topic.before["Unsubscribe"] = fail(KeyboardInterrupt())  # the signal after 5 s
    listen(count=1)
    assert (
        "may remain (interrupted). `waterhook listen` removes them when it starts 45 min"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("operation", ["CreateQueue", "Subscribe", "ReceiveMessage"])
def test_a_denied_call_leaves_nothing(listen: Run, operation: str) -> None:
    listen.topic.before[operation] = fail(AwsError("AccessDenied", 403))
    with pytest.raises(ClientError, match=operation):
        listen()
    assert listen.topic.is_empty


@pytest.mark.parametrize("operation", ["Unsubscribe", "DeleteQueue"])
def test_a_failed_removal_is_reported(
    listen: Run, operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listen.topic.before[operation] = fail(AwsError("AccessDenied", 403))
    listen(count=1)
    message = capsys.readouterr().err
    assert message.startswith("The queue waterhook-listen-shop-")
    assert f"(not allowed: {operation})" in message


def test_a_bug_in_printing_leaves_nothing(listen: Run) -> None:
    listen.printed = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        listen()
    assert listen.topic.is_empty


@pytest.mark.parametrize("operation", ["TagQueue", "ListSubscriptionsByTopic"])
def test_a_lease_that_is_not_renewed_once_ends_nothing(listen: Run, operation: str) -> None:
    listen.topic.before[operation] = fail(AwsError("AccessDenied", 403))
    listen.topic.before["DeleteMessageBatch"] = lambda: listen.clock.advance(RENEW_INTERVAL_S + 1)
    listen.publish(COMPLETED)
    listen.topic.after["DeleteMessageBatch"] = lambda: listen.topic.publish(FAILED)
    listen(count=2)
    assert operation in listen.topic.calls


def test_a_topic_that_is_deleted_ends_the_session(listen: Run) -> None:
    def delete() -> None:
        listen.topic.has_topic = False
        listen.clock.advance(RENEW_INTERVAL_S + 1)

    listen.topic.after["DeleteMessageBatch"] = delete
    with pytest.raises(CommandError, match="the notification topic of the stack does not exist"):
        listen()
    assert listen.topic.queues == {}


@pytest.mark.parametrize("part", ["queues", "subscriptions"])
def test_a_queue_that_is_deleted_is_replaced(
    listen: Run, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def delete() -> None:
        listen.topic.after.pop("DeleteMessageBatch")
        getattr(listen.topic, part).clear()
        listen.clock.advance(RENEW_INTERVAL_S + 1)
        listen.publish(COMPLETED, FAILED)

    listen.topic.after["DeleteMessageBatch"] = delete
    listen(count=2)
    assert listen.printed == ["COMPLETED", "FAILED"]
    assert "Continuing with a new queue" in capsys.readouterr().err
    assert listen.topic.is_empty


def test_a_queue_that_sqs_does_not_find_in_its_first_seconds_is_used(listen: Run) -> None:
    missing = AwsError("AWS.SimpleQueueService.NonExistentQueue")
    listen.topic.before["ReceiveMessage"] = fail(missing, times=1)
    listen(count=1)
    assert listen.topic.calls.count("CreateQueue") == 1


@pytest.mark.parametrize(
    "failure",
    [
        UNREACHABLE,
        ConnectionClosedError(endpoint_url="https://sqs.test"),
        ReadTimeoutError(endpoint_url="https://sqs.test"),
        AwsError("ServiceUnavailable", 503),
        AwsError("RequestThrottled", 400),
    ],
    ids=lambda failure: str(getattr(failure, "code", type(failure).__name__)),
)
def test_an_interruption_is_reported_once_and_waited_for(
    listen: Run, failure: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    listen.topic.before["ReceiveMessage"] = fail(failure, times=10)
    listen(count=1)
    assert listen.printed == ["COMPLETED"]
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"SQS does not answer \(\w+\); trying again for up to 300 s\.", first)
    assert second == "SQS answers again."


@pytest.mark.parametrize(
    ("is_local", "limit_s", "error"),
    [
        (False, MAX_UNAVAILABLE_S, EndpointConnectionError),
        (True, MAX_LOCAL_UNAVAILABLE_S, CommandError),
    ],
)
def test_a_long_interruption_ends_the_session(
    listen: Run, limit_s: float, error: type[Exception], *, is_local: bool
) -> None:
    began_at = listen.clock()
    listen.topic.before["ReceiveMessage"] = fail(UNREACHABLE)
    with pytest.raises(error):
        listen(is_local=is_local)
    assert limit_s < listen.clock() - began_at < limit_s + 15
    assert listen.topic.is_empty


def test_a_local_stack_that_was_stopped_leaves_no_warning(
    listen: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for operation in ("ReceiveMessage", "Unsubscribe", "DeleteQueue"):
        listen.topic.before[operation] = fail(UNREACHABLE)
    with pytest.raises(CommandError, match="the local stack does not answer any more"):
        listen(is_local=True)
    assert "may remain" not in capsys.readouterr().err


def test_notifications_that_were_not_forwarded_are_counted(
    listen: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()

    def send(_: Notification) -> Attempt:
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(30)
        return Attempt(200)

    listen.forwarder = Forwarder(send, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        listen()
    release.set()
    assert "Not forwarded: 1 of the printed notifications." in capsys.readouterr().err
    assert listen.topic.is_empty
