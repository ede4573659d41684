"""One execution from the request to the notification, told while it happens."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.demo.scenarios import Scenario
from local.local_aws.deployment import LocalStack
from local.local_aws.errors import RunnerError
from local.local_aws.interrupts import pause
from local.local_aws.stack_client import StackClient, execution_id_of, notification
from local.local_aws.stack_outputs import Outputs
from local.terminal import Screen

_LIMIT_S = 60.0
_PACE_S = 0.2
_ON_ITS_WAY_S = 5.0
_NEXT = [
    ('eval "$(make -s env)"', "aws, sam and waterhook for it"),
    ("waterhook submit support-chat --follow", "a request of your own"),
    ("make demo SCENARIO=failure", "or timeout, cancel, flaky"),
    ("docs/recipes.md", "queue, function, mail, Slack, HTTPS"),
    ('README.md, "Deploy it to AWS"', "the same on AWS"),
]


def run(stack: LocalStack, screen: Screen, scenario: Scenario) -> None:
    """Return once the notification has arrived and been shown; raises RunnerError when it does not come."""
    screen.line(scenario.title, "bold")
    screen.line()
    stays = False
    try:
        outputs = stack.up()
        stays = not stack.started_here
        event = show(outputs, screen, scenario)
    except (httpx.HTTPError, BotoCoreError, ClientError) as error:
        raise RunnerError(f"The local stack has stopped answering: {error}") from error
    finally:
        if stack.started_here:
            with screen.step("Stop everything"):
                stack.down()
    # Last, so that it is what the reader sees.
    finish(screen, event, stays=stays)


def show(outputs: Outputs, screen: Screen, scenario: Scenario) -> dict[str, Any]:
    """Show one execution on a running stack and return its notification; raises RunnerError when that does not come."""
    with StackClient(outputs) as client:
        return _Demo(client, screen, scenario).show()


def finish(screen: Screen, event: dict[str, Any], *, stays: bool) -> None:
    """Show the notification, and what to do next; `stays`: whether the stack is still running."""
    screen.line()
    screen.line("The notification, from the results queue", "bold")
    screen.document(event)
    screen.line()
    screen.line("What to do next", "bold")
    start = [] if stays else [("make up", "a stack that keeps running, then:")]
    for command, does in [*start, *_NEXT]:
        screen.line(f"  {command:40}{does}")


class _Demo:
    """The story of one execution, each line with the seconds since its request."""

    def __init__(self, client: StackClient, screen: Screen, scenario: Scenario) -> None:
        self._client = client
        self._screen = screen
        self._scenario = scenario
        self._cancelled = False
        self._held: list[str] = []
        self._began = time.monotonic()
        self._alive_at = self._began
        self._states_told = 0
        self._status_told = ""

    def show(self) -> dict[str, Any]:
        """Show request, progress and record, and return the notification; raises RunnerError when one is missing."""
        self._screen.line()
        self._screen.line(f"POST /v1/executions/{self._scenario.chatbot}/async", "bold")
        self._screen.document(self._scenario.request)
        self._screen.line()
        asked = self._asked()
        execution_id = self._submit()
        try:
            with self._screen.busy("Waiting for the notification"):
                event = self._follow(execution_id)
        finally:
            self._give_back()
        self._screen.line()
        self._screen.line("The record, from the executions table", "bold")
        self._screen.document(self._client.item(execution_id))
        self._screen.line()
        self._tell_asked(asked)
        return event

    def _submit(self) -> str:
        self._began = time.monotonic()
        answer = self._client.post(self._scenario.chatbot, self._scenario.request)
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
            self._cancel_when_due(execution_id)
            event = self._receive(execution_id)
            if event:
                if arn:
                    self._tell_states(arn)
                self._say("Notification", f"{event.get('type')}{_delay(event)}")
                if arn:
                    self._tell_end(arn)
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

    def _cancel_when_due(self, execution_id: str) -> None:
        due_s = self._scenario.cancel_after_s
        if due_s is None or self._cancelled or time.monotonic() - self._began < due_s:
            return
        self._cancelled = True
        answer = self._client.delete(execution_id)
        self._say("DELETE", f"{answer.status_code} {answer.json().get('message') or answer.text}")

    def _tell_end(self, arn: str) -> None:
        """How the state machine ends: red for whoever watches it, unless the job has completed."""
        ended = self._client.wait_for_end(arn)
        self._tell_states(arn)
        self._say("Execution", " ".join([ended["status"], *([ended["error"]] if "error" in ended else [])]))

    def _asked(self) -> Counter[str]:
        """How often the simulated Waterflai gave which answer so far; nothing of a real one."""
        if not self._scenario.simulated:
            return Counter()
        counts = self._client.waterflai("requests")["counts"]
        return Counter({f"{what} {code}": n for what, codes in counts.items() for code, n in codes.items()})

    def _tell_asked(self, before: Counter[str]) -> None:
        asked = self._asked() - before
        if asked:
            self._screen.line("What Waterflai was asked, and answered", "bold")
            for answer, count in sorted(asked.items()):
                self._screen.line(f"  {answer:24} {count}")
            self._screen.line()

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
        """Our notification, taken from the queue, if it is there. What is another's is held until we are done.

        Given back at once it would be in front of ours again, and after five times among the dead letters.
        """
        sqs, queue = self._client.sqs, self._client.outputs.results_queue_url
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            ours = None
            for message in messages:
                event = notification(message["Body"])
                if execution_id_of(event) == execution_id:
                    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                    ours = event
                else:
                    self._held.append(message["ReceiptHandle"])
            if ours:
                return ours
        return None

    def _give_back(self) -> None:
        sqs, queue = self._client.sqs, self._client.outputs.results_queue_url
        for receipt in self._held:
            # One that its own reader has deleted meanwhile is nobody's any more.
            with suppress(ClientError):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        self._held.clear()

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
