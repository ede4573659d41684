"""One execution from the request to the notification, told while it happens."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from .client import StackClient, execution_id_of, notification
from .errors import RunnerError
from .interrupts import pause
from .screen import Screen
from .stack import LocalStack

CHATBOT = "support-chat"
REQUEST = {
    "input_data": {"message": "Where is my order?", "language": "en"},
    "metadata": {"ticket": "T-1001"},
}
_LIMIT_S = 60.0
_PACE_S = 0.2
_ON_ITS_WAY_S = 5.0


def run(stack: LocalStack, screen: Screen) -> None:
    """Return once the notification has arrived and been shown; raises RunnerError when it does not come."""
    try:
        with StackClient(stack.up()) as client:
            _Demo(client, screen).tell()
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        raise RunnerError(f"The local stack has stopped answering: {error}") from error
    finally:
        if stack.started_here:
            with screen.step("Stop everything"):
                stack.down()


class _Demo:
    """The story of one execution, each line with the seconds since its request."""

    def __init__(self, client: StackClient, screen: Screen) -> None:
        self._client = client
        self._screen = screen
        self._began = time.monotonic()
        self._alive_at = self._began
        self._states_told = 0
        self._status_told = ""

    def tell(self) -> None:
        """Request, progress, notification, record; raises RunnerError when one of them fails to come."""
        self._screen.line()
        self._screen.line(f"POST /v1/executions/{CHATBOT}/async", "bold")
        self._screen.document(REQUEST)
        self._screen.line()
        execution_id = self._submit()
        with self._screen.busy("Waiting for the notification"):
            event = self._follow(execution_id)
        self._screen.line()
        self._screen.line("The notification, from the results queue", "bold")
        self._screen.document(event)
        self._screen.line()
        self._screen.line("The record, from the executions table", "bold")
        self._screen.document(self._client.item(execution_id))
        self._screen.line()

    def _submit(self) -> str:
        self._began = time.monotonic()
        answer = self._client.post(CHATBOT, REQUEST)
        if answer.status_code != 202:  # noqa: PLR2004  # HTTP's own number
            raise RunnerError(f"The API answered {answer.status_code}: {answer.text}")
        execution_id = str(answer.json()["execution_id"])
        self._say("POST", f"202 Accepted: execution {execution_id}")
        return execution_id

    def _follow(self, execution_id: str) -> dict[str, Any]:
        arn = None
        while time.monotonic() - self._began < _LIMIT_S:
            arn = arn or self._client.execution_arn(execution_id)
            if arn:
                self._tell_states(arn)
            self._tell_status(execution_id)
            event = self._receive(execution_id)
            if event:
                if arn:
                    self._tell_states(arn)
                self._say("Notification", f"{event.get('type')}{_delay(event)}")
                return event
            if arn:
                self._give_up_when_ended(arn)
            pause(_PACE_S)
        raise RunnerError(f"No notification of {execution_id} after {_LIMIT_S:.0f} s. See .local/log/.")

    def _give_up_when_ended(self, arn: str) -> None:
        """An execution that has ended notifies nobody any more: what is on its way gets a moment."""
        run = self._client.stepfunctions.describe_execution(executionArn=arn)
        if run["status"] == "RUNNING":
            self._alive_at = time.monotonic()
        elif time.monotonic() - self._alive_at > _ON_ITS_WAY_S:
            why = f"{run.get('error', '')} {run.get('cause', '')}".strip()
            raise RunnerError(f"The state machine ended {run['status']} without a notification. {why}")

    def _tell_states(self, arn: str) -> None:
        states = self._client.states(arn)
        for name in states[self._states_told :]:
            self._say("State", name)
        self._states_told = len(states)

    def _tell_status(self, execution_id: str) -> None:
        """Ask as a user would; a refusal is told too, it may pass."""
        answer = self._client.get(execution_id)
        if answer.is_success:
            document = answer.json()
            told = " ".join([str(document.get("status")), *_details(document)])
        else:
            told = f"{answer.status_code} {answer.text}"
        if told != self._status_told:
            self._say("GET", told)
            self._status_told = told

    def _receive(self, execution_id: str) -> dict[str, Any] | None:
        """Our notification, taken from the queue, if it is there. What is another's is left there."""
        sqs, queue = self._client.sqs, self._client.outputs.results_queue_url
        ours = None
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            receipt = message["ReceiptHandle"]
            event = notification(message["Body"])
            if execution_id_of(event) == execution_id:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt)
                ours = event
            else:
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        return ours

    def _say(self, who: str, what: str) -> None:
        self._screen.line(f"{time.monotonic() - self._began:6.1f} s  {who:12}  {what}")


def _delay(event: dict[str, Any]) -> str:
    """How long after the job's end the notification is here; nothing where it doesn't say when that was."""
    try:
        ended = datetime.fromisoformat(event["data"]["timing"]["completed_at"])
        return f", {(datetime.now(UTC) - ended).total_seconds():.1f} s after the job's end"
    except (KeyError, TypeError, ValueError):
        return ""


def _details(document: dict[str, Any]) -> Iterator[str]:
    progress = document.get("progress")
    if isinstance(progress, int | float):
        yield f"{progress:.0f} %"
    if document.get("current_node"):
        yield f"at {document['current_node']}"
