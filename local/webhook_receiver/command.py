"""The command `python -m local webhook-receiver`: prints each webhook that arrives."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.terminal import Terminal

from .received import ReceivedWebhook
from .receiver import WebhookReceiver

_POLL_S = 0.1


def receive_webhooks(create_receiver: Callable[[], WebhookReceiver], terminal: Terminal) -> None:
    """Print the address of a receiver, and each webhook that it receives, until Ctrl-C.

    Raises ToolError if the host is not on the loopback interface, or the port can't be used.
    """
    with ExitStack() as stack:
        try:
            receiver = stack.enter_context(create_receiver())
        except ValueError as error:
            raise ToolError(f"--host: {error}") from error
        except OSError as error:
            raise ToolError(f"The receiver can't use the port: {error.strerror}") from error
        _print_address(receiver, terminal)
        with suppress(KeyboardInterrupt):
            _print_webhooks(receiver, terminal)


def _print_address(receiver: WebhookReceiver, terminal: Terminal) -> None:
    terminal.print_line(f"Receiver   {receiver.url}")
    terminal.print_line(f"Secret     {receiver.secret}")
    terminal.print_line('Send a request to the local stack with "webhook": {"url": "' + receiver.url + '"}.')
    terminal.print_line("Ctrl-C ends the receiver.")


def _print_webhooks(receiver: WebhookReceiver, terminal: Terminal) -> None:
    printed = 0
    while True:
        for webhook in receiver.requests[printed:]:
            print_webhook(webhook, terminal)
            printed += 1
        pause(_POLL_S)


def print_webhook(webhook: ReceivedWebhook, terminal: Terminal) -> None:
    """Print time, type, id, verification and body of a webhook."""
    terminal.print_line()
    arrived = time.strftime("%H:%M:%S", time.localtime(webhook.received_at))
    terminal.print_line(f"{arrived}  {webhook.event.get('type', 'no CloudEvent')}", "bold")
    terminal.print_line(f"  webhook-id  {webhook.webhook_id or 'missing'}")
    terminal.print_line(f"  signature   {webhook.verification}", "" if webhook.verified else "red")
    if webhook.event:
        terminal.print_json(webhook.event)
    else:
        terminal.print_line(f"  body        {webhook.body[:200]!r}")
