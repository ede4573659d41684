"""Shows one execution from the request to the notification while it runs."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
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
from local.terminal import Terminal

_LIMIT_S = 60.0
_POLL_S = 0.2
_DELIVERY_S = 5.0
_NEXT_STEPS = [
    ('eval "$(make -s env)"', "aws, sam and waterhook for it"),
    ("waterhook submit support-chat --follow", "a request of your own"),
    ("make demo SCENARIO=failure", "or timeout, cancel, flaky"),
    ("docs/recipes.md", "queue, function, mail, Slack, HTTPS"),
    ('README.md, "Deploy it to AWS"', "the same on AWS"),
]


def run(stack: LocalDeployment, terminal: Terminal, scenario: Scenario) -> None:
    """Start the stack if necessary, show one execution, and stop what was started.

    Raises ToolError if no notification arrives.
    """
    terminal.print_line(scenario.title, "bold")
    terminal.print_line()
    keeps_running = False
    try:
        outputs = stack.up()
        keeps_running = not stack.started_here
        event = show_execution(outputs, terminal, scenario)
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        raise ToolError(f"The local stack does not answer any more: {error}") from error
    finally:
        if stack.started_here:
            with terminal.step("Stop everything"):
                stack.down()
    # Last, so that it stays on the screen.
    print_result(terminal, event, keeps_running=keeps_running)


def show_execution(outputs: StackOutputs, terminal: Terminal, scenario: Scenario) -> dict[str, Any]:
    """Show one execution on a running stack and return its notification.

    Raises ToolError if no notification arrives.
    """
    with StackClient(outputs) as client:
        return _ExecutionView(client, terminal, scenario).show()


def print_result(terminal: Terminal, event: dict[str, Any], *, keeps_running: bool) -> None:
    """Print the notification and the next steps. `keeps_running`: the stack was not stopped."""
    terminal.print_line()
    terminal.print_line("The notification, from the results queue", "bold")
    terminal.print_json(event)
    terminal.print_line()
    terminal.print_line("What to do next", "bold")
    start = [] if keeps_running else [("make up", "a stack that keeps running, then:")]
    for command, does in [*start, *_NEXT_STEPS]:
        terminal.print_line(f"  {command:40}{does}")


class _ExecutionView:
    """Prints the course of one execution, each line with the seconds since its request."""

    def __init__(self, client: StackClient, terminal: Terminal, scenario: Scenario) -> None:
        self._client = client
        self._terminal = terminal
        self._scenario = scenario
        self._cancelled = False
        self._foreign_receipts: list[str] = []
        self._started_at = time.monotonic()
        self._last_running_at = self._started_at
        self._states_printed = 0
        self._last_status = ""

    def show(self) -> dict[str, Any]:
        """Print request, progress and record, and return the notification. Raises ToolError without one."""
        self._terminal.print_line()
        self._terminal.print_line(f"POST /v1/executions/{self._scenario.chatbot}/async", "bold")
        self._terminal.print_json(self._scenario.request)
        self._terminal.print_line()
        counts_before = self._request_counts()
        execution_id = self._submit()
        try:
            with self._terminal.spinner("Waiting for the notification"):
                event = self._follow(execution_id)
        finally:
            self._release_messages()
        self._terminal.print_line()
        self._terminal.print_line("The record, from the executions table", "bold")
        self._terminal.print_json(self._client.item(execution_id))
        self._terminal.print_line()
        self._print_request_counts(counts_before)
        return event

    def _submit(self) -> str:
        self._started_at = time.monotonic()
        answer = self._client.post(self._scenario.chatbot, self._scenario.request)
        if answer.status_code != 202:  # noqa: PLR2004  # HTTP's own number
            raise ToolError(f"The API answered {answer.status_code}: {answer.text}")
        execution_id = str(answer.json()["execution_id"])
        self._print_event("POST", f"202 Accepted: execution {execution_id}")
        return execution_id

    def _follow(self, execution_id: str) -> dict[str, Any]:
        arn = None
        while time.monotonic() - self._started_at < _LIMIT_S:
            arn = arn or self._client.execution_arn(execution_id)
            if arn:
                self._print_new_states(arn)
            self._print_status(execution_id)
            self._cancel_if_due(execution_id)
            event = self._receive(execution_id)
            if event:
                if arn:
                    self._print_new_states(arn)
                self._print_event("Notification", f"{event.get('type')}{_delay(event)}")
                if arn:
                    self._print_end(arn)
                return event
            if arn:
                self._fail_if_ended(arn)
            pause(_POLL_S)
        raise ToolError(f"No notification of {execution_id} after {_LIMIT_S:.0f} s. See .local/log/.")

    def _fail_if_ended(self, arn: str) -> None:
        """Raise ToolError some seconds after the execution has ended without a notification."""
        run = self._client.stepfunctions.describe_execution(executionArn=arn)
        if run["status"] == "RUNNING":
            self._last_running_at = time.monotonic()
        elif time.monotonic() - self._last_running_at > _DELIVERY_S:
            why = f"{run.get('error', '')} {run.get('cause', '')}".strip()
            raise ToolError(f"The state machine ended {run['status']} without a notification. {why}")

    def _cancel_if_due(self, execution_id: str) -> None:
        due_s = self._scenario.cancel_after_s
        if due_s is None or self._cancelled or time.monotonic() - self._started_at < due_s:
            return
        self._cancelled = True
        answer = self._client.delete(execution_id)
        self._print_event("DELETE", f"{answer.status_code} {answer.json().get('message') or answer.text}")

    def _print_end(self, arn: str) -> None:
        """Print how the state machine execution ended: it fails unless the job completed."""
        ended = self._client.wait_for_end(arn)
        self._print_new_states(arn)
        self._print_event(
            "Execution", " ".join([ended["status"], *([ended["error"]] if "error" in ended else [])])
        )

    def _request_counts(self) -> Counter[str]:
        """Return how often the simulated Waterflai sent which response; nothing for a real one."""
        if not self._scenario.simulated:
            return Counter()
        counts = self._client.waterflai("requests")["responses"]
        return Counter({f"{text} {code}": n for text, codes in counts.items() for code, n in codes.items()})

    def _print_request_counts(self, before: Counter[str]) -> None:
        counts = self._request_counts() - before
        if counts:
            self._terminal.print_line("Requests to Waterflai, by response", "bold")
            for answer, count in sorted(counts.items()):
                self._terminal.print_line(f"  {answer:24} {count}")
            self._terminal.print_line()

    def _print_new_states(self, arn: str) -> None:
        states = self._client.states(arn)
        for name in states[self._states_printed :]:
            self._print_event("State", name)
        self._states_printed = len(states)

    def _print_status(self, execution_id: str) -> None:
        """Print the status that the API returns, where it has changed. An error is printed too."""
        answer = self._client.get(execution_id)
        if answer.is_success:
            document = answer.json()
            status = " ".join([str(document.get("status")), *_progress_details(document)])
        else:
            status = f"{answer.status_code} {answer.text}"
        if status != self._last_status:
            self._print_event("GET", status)
            self._last_status = status

    def _receive(self, execution_id: str) -> dict[str, Any] | None:
        """Return this execution's notification and delete it from the queue; None if it is not there.

        Other messages stay invisible until the end: released earlier, they would be received again, and be
        dead-lettered after five times.
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
            # It may have been deleted meanwhile.
            with suppress(ClientError):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        self._foreign_receipts.clear()

    def _print_event(self, source: str, text: str) -> None:
        self._terminal.print_line(f"{time.monotonic() - self._started_at:6.1f} s  {source:12}  {text}")


def _delay(event: dict[str, Any]) -> str:
    """Return how long after the job's end the notification arrived; empty if it holds no `completed_at`."""
    try:
        ended = datetime.fromisoformat(event["data"]["timing"]["completed_at"])
        return f", {(datetime.now(UTC) - ended).total_seconds():.1f} s after the job's end"
    except (KeyError, TypeError, ValueError):
        return ""


def _progress_details(document: dict[str, Any]) -> Iterator[str]:
    progress = document.get("progress")
    if isinstance(progress, int | float):
        yield f"{progress:.0f} %"
    if document.get("current_node"):
        yield f"at {document['current_node']}"
