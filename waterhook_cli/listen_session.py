"""The loop of `waterhook listen`: receives notifications through a temporary queue, and prints and forwards them."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from waterhook.errors import THROTTLING_CODES, aws_error_code
from waterhook.webhooks.sender import TIMEOUT_S
from waterhook_cli.errors import CommandError, ExitCode, is_access_denied
from waterhook_cli.forward import MAX_WAITING, WORKERS, Forwarder
from waterhook_cli.interrupts import Interrupts
from waterhook_cli.notification import Notification, NotificationFilter
from waterhook_cli.output import Output
from waterhook_cli.temporary_queue import LEASE_S, QueueLostError, TemporaryQueue, is_missing_queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_MAX_MESSAGES, _WAIT_S = 10, 20  # the limits of SQS
# The session itself repeats a call, and reports that it does.
LONG_POLL = Config(read_timeout=_WAIT_S + 10, retries={"mode": "standard", "total_max_attempts": 1})
# Twice the longest time that a message waits for a slow server. After it, SQS delivers the message again.
VISIBILITY_S = round(2 * TIMEOUT_S * (MAX_WAITING + _MAX_MESSAGES) / WORKERS)
RENEW_INTERVAL_S = 60.0
MAX_UNAVAILABLE_S, MAX_LOCAL_UNAVAILABLE_S = 300.0, 15.0
_MAX_PAUSE_S, _NEW_PAUSE_S = 10.0, 0.5
_ROOM_WAIT_S = 1.0
# Repetitions are recognized among so many notifications.
_MAX_IDS = 10_000
_RETRIED_CODES = THROTTLING_CODES | {"Throttling", "RequestThrottled", "ThrottledException"}


class Printer(Protocol):
    """Prints notifications."""

    def print_notification(self, notification: Notification) -> None:
        """Print one notification."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session does."""

    selection: NotificationFilter = field(default_factory=NotificationFilter)
    count: int | None = None
    """The session ends after so many notifications. None: never."""
    is_local: bool = False
    """Whether the stack is the local one, which is gone if it does not answer."""


class ListenSession:
    """Receives notifications until an interrupt, an error or the last one of `count`. Removes its queue at the end."""

    def __init__(
        self,
        new_queue: Callable[[], TemporaryQueue],
        sqs: "SQSClient",
        printer: Printer,
        output: Output,
        options: SessionOptions,
        forwarder: Forwarder | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`sqs` receives messages, with the configuration LONG_POLL."""
        self._new_queue = new_queue
        self._queue = new_queue()
        self._sqs = sqs
        self._printer = printer
        self._output = output
        self._options = options
        self._forwarder = forwarder
        self._clock = clock
        self._sleep = sleep
        self._left = options.count
        self._ids: dict[str, None] = {}
        self._renewed_at = 0.0
        self._unavailable_since: float | None = None
        self._pause_s = 1.0

    def run(self, interrupts: Interrupts, on_ready: Callable[[], None] = lambda: None) -> None:
        """Create the queue, receive notifications, and remove the queue. `on_ready` is called before the first receive.

        Raises KeyboardInterrupt after a signal, CommandError, and boto3's errors.
        """
        try:
            self._create()
            on_ready()
            while True:
                try:
                    with interrupts.allowed():
                        self._receive_all()
                        return
                except QueueLostError:
                    self._output.warning(
                        "Another program has deleted the temporary queue or its subscription. Continuing with a new "
                        "queue: notifications since the last one may be missing."
                    )
                    self._remove(interrupts)
                    self._queue = self._new_queue()
                    self._create()
        finally:
            self._remove(interrupts)
            self._report_unfinished()

    def _create(self) -> None:
        self._queue.create()
        self._renewed_at = self._clock()

    def _receive_all(self) -> None:
        while self._left != 0:
            if self._forwarder is None or self._forwarder.has_room(_ROOM_WAIT_S):
                messages = self._receive()
                self._delete([message for message in messages if self._handle(message)])
            if self._clock() - self._renewed_at > RENEW_INTERVAL_S:
                self._renew()
        if self._forwarder is not None:
            self._forwarder.drain()

    def _handle(self, message: Any) -> bool:
        """Print and forward a message, unless it is a repetition. Return whether it can be deleted now."""
        if self._left == 0:
            return False
        notification = Notification.parse(message["Body"])
        if notification is None:
            self._output.warning("A message that is not a notification was skipped.")
        elif notification.id not in self._ids and self._options.selection.matches(notification):
            self._ids[notification.id] = None
            if len(self._ids) > _MAX_IDS:
                del self._ids[next(iter(self._ids))]
            self._printer.print_notification(notification)
            self._left = None if self._left is None else self._left - 1
            if self._forwarder is not None:
                self._forwarder.submit(notification, lambda: self._delete([message]))
                return False
        return True

    def _delete(self, messages: list[Any]) -> None:
        entries: list[Any] = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        if entries:
            with suppress(ClientError, BotoCoreError):  # they arrive again, as repetitions
                self._sqs.delete_message_batch(QueueUrl=self._queue.url, Entries=entries)

    def _receive(self) -> list[Any]:
        """Return up to ten messages, or none if SQS does not answer for the moment."""
        try:
            response: Any = self._sqs.receive_message(
                QueueUrl=self._queue.url,
                MaxNumberOfMessages=_MAX_MESSAGES,
                WaitTimeSeconds=_WAIT_S,
                VisibilityTimeout=VISIBILITY_S,
            )
        except ClientError as error:
            if is_missing_queue(error) and self._queue.is_new:
                self._sleep(_NEW_PAUSE_S)
                return []
            if is_missing_queue(error):
                raise QueueLostError from error
            if not _is_temporary(error):
                raise
            self._wait_for_aws(error)
            return []
        except (BotocoreConnectionError, HTTPClientError) as error:
            self._wait_for_aws(error)
            return []
        if self._unavailable_since is not None:
            self._output.info("SQS answers again.")
        self._unavailable_since, self._pause_s = None, 1.0
        messages: list[Any] = response.get("Messages", [])
        return messages

    def _wait_for_aws(self, error: Exception) -> None:
        """Pause before the next call. Raises the error if calls have failed for too long."""
        now, is_local = self._clock(), self._options.is_local
        limit_s = MAX_LOCAL_UNAVAILABLE_S if is_local else MAX_UNAVAILABLE_S
        if self._unavailable_since is None:
            self._unavailable_since = now
            self._output.warning(
                f"SQS does not answer ({_name(error)}); trying again for up to {limit_s:.0f} s."
            )
        elif now - self._unavailable_since > limit_s:
            if is_local:
                raise CommandError(
                    ExitCode.UNAVAILABLE,
                    "the local stack does not answer any more",
                    "Start it again: make up",
                ) from error
            raise error
        self._sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _renew(self) -> None:
        """Renew the lease of the queue. Raises QueueLostError, and CommandError if the topic is deleted."""
        self._renewed_at = self._clock()
        with suppress(ClientError, BotoCoreError):  # tried again after the interval; the lease is much longer
            self._queue.renew()

    def _remove(self, interrupts: Interrupts) -> None:
        """Remove the queue. Prints a warning if that fails."""
        with interrupts.cleaning_up():
            try:
                self._queue.remove()
            except (ClientError, BotoCoreError, KeyboardInterrupt) as error:
                if self._options.is_local and isinstance(error, BotocoreConnectionError):
                    return  # the queue is gone with the local stack
                self._output.warning(
                    f"The queue {self._queue.name} and its subscription may remain ({_name(error)}). `waterhook "
                    f"listen` removes them when it starts {LEASE_S / 60:.0f} min from now or later."
                )

    def _report_unfinished(self) -> None:
        if self._forwarder is not None and (unfinished := self._forwarder.unfinished):
            self._output.warning(f"Not forwarded: {unfinished} of the printed notifications.")


def _is_temporary(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or aws_error_code(error) in _RETRIED_CODES


def _name(error: BaseException) -> str:
    if isinstance(error, ClientError) and is_access_denied(error):
        return f"not allowed: {error.operation_name}"
    return aws_error_code(error) if isinstance(error, Exception) else "interrupted"
