"""Runs a scenario on the local stack and prints each step, from the request to the notification and the webhook."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.demo.scenarios import Scenario
from local.local_aws.deployment import LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient, execution_id_of, notification
from local.local_aws.stack_outputs import StackOutputs
from local.terminal import WIDTH, Terminal
from local.webhook_receiver import ReceivedWebhook, WebhookReceiver
from local.webhook_receiver.stack_receiver import receiver_for

_TIMEOUT_S = 60.0
_POLL_INTERVAL_S = 0.2
# How long a notification may take to reach the queue after the state machine execution has ended.
_MAX_DELIVERY_S = 5.0
# The same for a webhook. About 5 s after a failed attempt the next one follows.
_MAX_WEBHOOK_S = 20.0
_INTRODUCTION = """\
Waterhook starts a job at Waterflai, waits for its end and publishes the result.
This demo runs on this computer, with a local AWS and a simulated Waterflai.
"""
_LEGEND = """\
Request        a request to Waterhook's API, and the response
State machine  the state that the AWS Step Functions state machine enters
Status         the status that GET /v1/executions/ID returns
Notification   the message with the result, received from a queue
"""
_WEBHOOK_LEGEND = "Webhook        the signed HTTPS request with the result, received by this demo"
_START_STEP = ("make up", "start a stack that keeps running")
_NEXT_STEPS = [
    ('eval "$(make -s env)"', "use it with aws, sam and waterhook"),
    ("waterhook submit support-chat --follow", "send a request of your own"),
    ("make demo SCENARIO=failure", "other outcomes: timeout, cancel, flaky"),
    ("docs/recipes.md", "subscribe a queue, mail address, Slack"),
    ("docs/deploy.md", "deploy Waterhook to your AWS account"),
]


@dataclass(frozen=True, slots=True)
class ShownExecution:
    """What one execution published."""

    event: dict[str, Any]
    """The notification."""
    webhook: ReceivedWebhook | None
    """None if the request named no webhook."""


def run(stack: LocalDeployment, terminal: Terminal, scenario: Scenario) -> None:
    """Start the stack if necessary, show one execution, and stop what was started.

    Raises ToolError if no notification or no webhook arrives.
    """
    for line in _INTRODUCTION.splitlines():
        terminal.print_line(line)
    terminal.print_line()
    terminal.print_line(f"Scenario: {scenario.title}", "bold")
    terminal.print_line()
    keeps_running = False
    try:
        outputs = stack.up()
        keeps_running = not stack.started_here
        shown = show_execution(outputs, terminal, scenario)
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        raise ToolError(
            f"The local stack stopped responding: {error}. Start it again: make down demo"
        ) from error
    finally:
        if stack.started_here:
            with terminal.step("Stop the local AWS and the simulated Waterflai"):
                stack.down()
    # Printed last, so that the notification is still on the screen.
    print_result(terminal, shown, keeps_running=keeps_running)


def show_execution(outputs: StackOutputs, terminal: Terminal, scenario: Scenario) -> ShownExecution:
    """Show one execution on a running stack and return its notification and its webhook.

    Raises ToolError if one of them does not arrive.
    """
    with StackClient(outputs) as client, started_receiver(outputs, scenario) as receiver:
        return ExecutionView(client, terminal, scenario, receiver).show()


def started_receiver(
    outputs: StackOutputs, scenario: Scenario
) -> AbstractContextManager[WebhookReceiver | None]:
    """Return the receiver for the webhook of the scenario; None if there is none or webhooks are off."""
    if not (scenario.has_webhook and outputs.has_webhooks):
        return nullcontext()
    return receiver_for(outputs)


def print_result(terminal: Terminal, shown: ShownExecution, *, keeps_running: bool) -> None:
    """Print what was published, and the next steps. `keeps_running`: the stack has been running before the demo."""
    terminal.print_line()
    terminal.print_line("The notification, published to an SNS topic and received from an SQS queue", "bold")
    terminal.print_json(shown.event)
    if shown.webhook:
        _print_webhook(terminal, shown.webhook, shown.event)
    terminal.print_line()
    terminal.print_line("What to do next", "bold")
    steps = _NEXT_STEPS if keeps_running else [_START_STEP, *_NEXT_STEPS]
    for command, purpose in steps:
        terminal.print_line(f"  {command:40}{purpose}")


def _print_webhook(terminal: Terminal, webhook: ReceivedWebhook, event: dict[str, Any]) -> None:
    """Print the headers of a webhook, and its body if it differs from the notification."""
    terminal.print_line()
    terminal.print_line(f"The webhook, received over HTTPS: signature {webhook.verification}", "bold")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        line = f"  {name}: {webhook.headers.get(name, '')}"
        terminal.print_line(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")
    if webhook.event == event:
        terminal.print_line("  The body is the same CloudEvent.")
    else:
        terminal.print_json(webhook.event)


class ExecutionView:
    """Prints what happens to one execution. Each line begins with the seconds since the request."""

    def __init__(
        self,
        client: StackClient,
        terminal: Terminal,
        scenario: Scenario,
        receiver: WebhookReceiver | None,
        *,
        webhook_timeout_s: float = _MAX_WEBHOOK_S,
    ) -> None:
        """Prepare the request. With a receiver, it names a webhook."""
        self._webhook_timeout_s = webhook_timeout_s
        self._client = client
        self._terminal = terminal
        self._scenario = scenario
        self._receiver = receiver
        self._request = dict(scenario.request)
        if receiver:
            self._request["webhook"] = {"url": receiver.url}
        self._cancelled = False
        self._foreign_receipts: list[str] = []
        self._started_at = time.monotonic()
        self._last_running_at = self._started_at
        self._states_printed = 0
        self._last_status = ""

    def show(self) -> ShownExecution:
        """Print request, progress and record, and return what was published.

        Raises ToolError without a notification, and without a webhook if there is a receiver.
        """
        self._terminal.print_line()
        self._terminal.print_line(
            f"The request to Waterhook's API: POST /v1/executions/{self._scenario.chatbot}/async", "bold"
        )
        self._terminal.print_json(self._request)
        self._terminal.print_line()
        self._terminal.print_line("What happens, with the seconds since the request", "bold")
        for line in [*_LEGEND.splitlines(), *([_WEBHOOK_LEGEND] if self._receiver else [])]:
            self._terminal.print_line(f"  {line}", "dim")
        self._terminal.print_line()
        counts_before = self._request_counts()
        execution_id = self._submit()
        try:
            with self._terminal.spinner("Waiting for the notification"):
                shown = self._follow(execution_id)
        finally:
            self._release_messages()
        self._terminal.print_line()
        self._terminal.print_line("The record of the execution, an item in a DynamoDB table", "bold")
        self._terminal.print_json(self._client.item(execution_id))
        self._terminal.print_line()
        self._print_request_counts(counts_before)
        return shown

    def _submit(self) -> str:
        self._started_at = time.monotonic()
        response = self._client.post(self._scenario.chatbot, self._request)
        if response.status_code != 202:  # noqa: PLR2004  # HTTP status 202 Accepted
            raise ToolError(f"The API returned status {response.status_code}, expected 202: {response.text}")
        execution_id = str(response.json()["execution_id"])
        self._print_event("Request", f"202 Accepted, id {execution_id}")
        return execution_id

    def _follow(self, execution_id: str) -> ShownExecution:
        arn, event, webhook = None, None, None
        while time.monotonic() - self._started_at < _TIMEOUT_S:
            arn = arn or self._client.execution_arn(execution_id)
            if arn:
                self._print_new_states(arn)
            self._print_status(execution_id)
            self._cancel_if_due(execution_id)
            event = event or self._receive_and_print(execution_id, arn)
            webhook = webhook or self._print_received_webhook(execution_id)
            if event and (webhook or not self._receiver):
                if arn:
                    self._print_end(arn)
                return ShownExecution(event, webhook)
            if arn:
                self._fail_if_ended(arn, execution_id, has_event=event is not None)
            pause(_POLL_INTERVAL_S)
        missing = "webhook" if event else "notification"
        raise ToolError(
            f"No {missing} of execution {execution_id} was received within {_TIMEOUT_S:.0f} s. "
            "The logs are in .local/log/."
        )

    def _receive_and_print(self, execution_id: str, arn: str | None) -> dict[str, Any] | None:
        event = self._receive(execution_id)
        if event:
            # The webhook may take longer. Other consumers of the queue do not have to wait for it.
            self._release_messages()
            if arn:
                self._print_new_states(arn)
            self._print_event("Notification", f"{event.get('type')}{_delay(event, time.time())}")
        return event

    def _print_received_webhook(self, execution_id: str) -> ReceivedWebhook | None:
        """Print this execution's webhook and return it; None if there is none yet.

        The port may get a repeated webhook of an earlier execution.
        """
        received = self._receiver.requests if self._receiver else []
        for webhook in received:
            if webhook.webhook_id.startswith(f"{execution_id}/"):
                delay = _delay(webhook.event, webhook.received_at)
                self._print_event("Webhook", f"{webhook.event.get('type')}{delay}")
                self._print_event("Webhook", f"signature {webhook.verification}")
                return webhook
        return None

    def _fail_if_ended(self, arn: str, execution_id: str, *, has_event: bool) -> None:
        """Raise ToolError if the state machine execution ended so long ago that the rest can't be expected."""
        execution = self._client.stepfunctions.describe_execution(executionArn=arn)
        if execution["status"] == "RUNNING":
            self._last_running_at = time.monotonic()
            return
        since_end_s = time.monotonic() - self._last_running_at
        ended = f"The state machine execution ended with status {execution['status']}, but"
        if not has_event and since_end_s > _MAX_DELIVERY_S:
            cause = f"{execution.get('error', '')} {execution.get('cause', '')}".strip()
            raise ToolError(f"{ended} no notification was received. {cause}")
        if since_end_s > self._webhook_timeout_s:
            delivery = self._client.get(execution_id).json().get("webhook") or {}
            raise ToolError(
                f"{ended} no webhook was received. Status of its delivery: {delivery.get('status')}, "
                f"last error: {delivery.get('last_error')}"
            )

    def _cancel_if_due(self, execution_id: str) -> None:
        due_s = self._scenario.cancel_after_s
        if due_s is None or self._cancelled or time.monotonic() - self._started_at < due_s:
            return
        self._cancelled = True
        response = self._client.delete(execution_id)
        message = response.json().get("message") or response.text
        self._print_event("Request", f"DELETE: {response.status_code} {message}")

    def _print_end(self, arn: str) -> None:
        """Print the status of the state machine execution, which is FAILED unless the job completed."""
        ended = self._client.wait_for_end(arn)
        self._print_new_states(arn)
        error = f" {ended['error']}" if "error" in ended else ""
        self._print_event("State machine", f"ended: {ended['status']}{error}")

    def _request_counts(self) -> Counter[str]:
        """Return the number of responses of the simulated Waterflai by operation and status code."""
        if not self._scenario.simulated:
            return Counter()
        responses = self._client.waterflai("requests")["responses"]
        return Counter(
            {
                f"{operation} {code}": count
                for operation, by_code in responses.items()
                for code, count in by_code.items()
            }
        )

    def _print_request_counts(self, before: Counter[str]) -> None:
        counts = self._request_counts() - before
        if counts:
            self._terminal.print_line(
                "Requests to the simulated Waterflai, by operation and HTTP status", "bold"
            )
            for response, count in sorted(counts.items()):
                self._terminal.print_line(f"  {response:24} {count}")
            self._terminal.print_line()

    def _print_new_states(self, arn: str) -> None:
        states = self._client.states(arn)
        for name in states[self._states_printed :]:
            self._print_event("State machine", name)
        self._states_printed = len(states)

    def _print_status(self, execution_id: str) -> None:
        """Print the status that the API returns, or its error, if it has changed."""
        response = self._client.get(execution_id)
        if response.is_success:
            document = response.json()
            status = ", ".join([str(document.get("status")), *_progress_details(document)])
        else:
            status = f"{response.status_code} {response.text}"
        if status != self._last_status:
            self._print_event("Status", status)
            self._last_status = status

    def _receive(self, execution_id: str) -> dict[str, Any] | None:
        """Return this execution's notification and delete it from the queue; None if the queue does not have it yet.

        Messages of other executions stay invisible until the end. If they were released earlier, they would be
        received again, and move to the dead-letter queue after five times.
        """
        sqs, queue = self._client.sqs, self._client.outputs.results_queue_url
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            own = None
            for message in messages:
                event = notification(message["Body"])
                if execution_id_of(event) == execution_id:
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                    own = event
                else:
                    self._foreign_receipts.append(message["ReceiptHandle"])
            if own:
                return own
        return None

    def _release_messages(self) -> None:
        sqs, queue = self._client.sqs, self._client.outputs.results_queue_url
        for receipt in self._foreign_receipts:
            # Another consumer may have deleted the message.
            with suppress(ClientError):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        self._foreign_receipts.clear()

    def _print_event(self, source: str, text: str) -> None:
        self._terminal.print_line(f"{time.monotonic() - self._started_at:6.1f} s  {source:13}  {text}")


def _delay(event: dict[str, Any], received_at: float) -> str:
    """Return the seconds from the job's end to `received_at` as text; an empty text without `completed_at`."""
    try:
        completed_at = datetime.fromisoformat(event["data"]["timing"]["completed_at"])
        seconds = (datetime.fromtimestamp(received_at, UTC) - completed_at).total_seconds()
    except (KeyError, TypeError, ValueError):
        return ""
    return f", {seconds:.1f} s after job end"


def _progress_details(document: dict[str, Any]) -> Iterator[str]:
    progress = document.get("progress")
    if isinstance(progress, int | float):
        yield f"{progress:.0f} %"
    if document.get("current_node"):
        yield f"current node {document['current_node']}"
