"""Everything that processes a request, in one process: state machine, functions, table, topic, scripted upstream."""

import importlib
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto.awslambda_simple.models import LambdaSimpleBackend

from tests.fakes.scripted_waterflai import API_KEY, ScriptedWaterflai
from tests.support.builders import environment
from tests.workflow import interpreter
from tests.workflow.clock import WorkflowClock
from tests.workflow.functions_in_process import STEPS, Functions
from tests.workflow.run import Notification, Run
from waterhook import dependencies
from waterhook.api.service import ExecutionService
from waterhook.dependencies import Dependencies
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.upstream.event_stream import EventStream, StreamEnd, StreamEvent

ASL = Path(__file__).parents[2] / "statemachine" / "execution.asl.yaml"
REGION = "us-east-1"
_ROLE = "arn:aws:iam::123456789012:role/machine"
_PATIENCE_S = 60.0
_next_event = EventStream.next


def _with_virtual_time(
    clock: WorkflowClock,
) -> Callable[[EventStream, float], StreamEvent | StreamEnd | None]:
    """Return a method of streams that lets virtual time pass where no event arrives within a real second.

    Also where no virtual time is left: an event that the upstream has sent may still be on its way.
    """

    def next_event(stream: EventStream, timeout_s: float) -> StreamEvent | StreamEnd | None:
        event = _next_event(stream, 1.0)
        if event is None:
            clock.sleep(timeout_s)
        return event

    return next_event


def definition() -> dict[str, Any]:
    """Return the state machine's definition as it is deployed, with the functions filled in."""
    text = ASL.read_text().replace("${Partition}", "aws")
    for step in STEPS:
        arn = f"arn:aws:lambda:{REGION}:123456789012:function:{step}"
        text = text.replace(f"${{{step.capitalize()}FunctionArn}}", arn)
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def request(**fields: object) -> dict[str, Any]:
    """Return a valid request."""
    return {"chatbot_id": "support-chat", "input_data": {"question": "why?"}} | fields


def new_container(step: str) -> None:
    """Let a function build what it needs anew."""
    app: Any = importlib.import_module(f"functions.{step}.app")
    app.dependencies = Dependencies(app.telemetry)


def service() -> ExecutionService:
    """Return the service behind the API's routes: its handler needs an HTTP event."""
    built: ExecutionService = importlib.import_module("functions.api.app").dependencies.service
    return built


class World:
    """Everything around one state machine. `run` is all that most tests need."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock = WorkflowClock()
        self.functions = Functions()
        self.upstream = ScriptedWaterflai()
        self.upstream.open()
        self._ended: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        interpreter.install(patch, self.clock, lambda arn: self._ended[arn].set())
        patch.setattr(LambdaSimpleBackend, "invoke", self.functions.invoke)
        self.states = boto3.client("stepfunctions")
        self._sqs, self._s3 = boto3.client("sqs"), boto3.client("s3")
        self._secrets = boto3.client("secretsmanager")
        self._inbox: list[Notification] = []
        self._make_resources(patch)
        patch.setattr(dependencies, "time", self.clock)
        patch.setattr(EventStream, "next", _with_virtual_time(self.clock))
        self.rewire()

    def _make_resources(self, patch: pytest.MonkeyPatch) -> None:
        machine = self.states.create_state_machine(
            name="waterhook", definition=json.dumps(definition()), roleArn=_ROLE
        )
        self.machine_arn = machine["stateMachineArn"]
        self.secret_arn = self._secrets.create_secret(Name="key", SecretString=API_KEY)["ARN"]
        self._s3.create_bucket(Bucket="results")
        boto3.client("dynamodb").create_table(
            TableName="executions",
            AttributeDefinitions=[{"AttributeName": "execution_id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "execution_id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        sns = boto3.client("sns")
        topic_arn = sns.create_topic(Name="notifications")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName="results")["QueueUrl"]
        sns.subscribe(
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:{REGION}:123456789012:results",
            Attributes={"RawMessageDelivery": "true"},
        )
        variables = environment(
            WATERFLAI_BASE_URL=f"http://127.0.0.1:{self.upstream.port}",
            WATERFLAI_API_KEY_SECRET_ARN=self.secret_arn,
            WATERHOOK_TOPIC_ARN=topic_arn,
            WATERHOOK_STATE_MACHINE_ARN=self.machine_arn,
        )
        for name, value in variables.items():
            patch.setenv(name, value)

    def rewire(self) -> None:
        """Let the functions read their settings anew, as a new deployment would."""
        for step in (*STEPS, "api"):
            new_container(step)

    @contextmanager
    def deployed_with(self, **settings: str) -> Iterator[None]:
        """Run with other settings: `START_SEMANTICS="AT_LEAST_ONCE"`."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"WATERHOOK_{name}", value)
            self.rewire()
            yield
        self.rewire()

    def reset(self) -> None:
        """Make it midnight again, forget all plans, and empty the inbox."""
        self.clock.reset()
        self.functions.reset()
        self.upstream.reset()
        self.notifications()
        self._inbox.clear()

    def end(self) -> None:
        """Leave nothing behind for other tests."""
        self.upstream.close()
        self.rewire()

    def start(self, given: object, name: str | None = None) -> str:
        """Start an execution and return its ARN; unnamed, moto would call it None."""
        answer = self.states.start_execution(
            stateMachineArn=self.machine_arn,
            name=name or f"run-{uuid.uuid4()}",
            input=json.dumps(given, ensure_ascii=False),
        )
        return answer["executionArn"]

    def accept(self, given: object) -> str:
        """Accept a request as the API does, and return its id."""
        execution_id: str = service().accept(given, "caller").execution_id
        return execution_id

    def run(self, given: object, name: str | None = None) -> Run:
        """Run an execution to its end."""
        return self.finished(self.start(given, name))

    def finished(self, arn: str) -> Run:
        """Return how an execution ended, once it has."""
        assert self._ended[arn].wait(_PATIENCE_S), f"{arn} has not ended"
        now = self.states.describe_execution(executionArn=arn)
        output = now.get("output")
        return Run(
            arn,
            now["status"],
            now.get("error"),
            now.get("cause"),
            json.loads(output) if output is not None else None,
        )

    def notifications(self) -> list[Notification]:
        """Return everything that was published since the test began."""
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                given = message.get("MessageAttributes", {})
                values = {name: value["StringValue"] for name, value in given.items()}
                self._inbox.append(Notification(message["Body"], values))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self._inbox

    def record(self, execution_id: str) -> ExecutionRecord:
        """Return the record of an execution."""
        record = ExecutionsTable("executions", boto3.client("dynamodb")).get(execution_id, self.clock.now)
        assert record is not None
        return record

    def erase(self, execution_id: str) -> None:
        """Delete the record of an execution."""
        boto3.client("dynamodb").delete_item(
            TableName="executions", Key={"execution_id": {"S": execution_id}}
        )

    def stored(self, output_ref: str) -> str:
        """Return an output that waits in the bucket."""
        bucket, _, key = output_ref.removeprefix("s3://").partition("/")
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def new_containers(self, *steps: str) -> None:
        """Let functions start in new containers, which read the secret again."""
        for step in steps:
            new_container(step)

    def put_secret(self, text: str, *, after: str | None = None) -> None:
        """Change the secret, now or once a step was called for the first time."""
        if after is None:
            self._secrets.put_secret_value(SecretId=self.secret_arn, SecretString=text)
            return
        changed: list[str] = []

        def change(answer: Any) -> Any:
            if not changed:
                changed.append(text)
                self.put_secret(text)
            return answer

        self.functions.alter(after, change)

    def rotate_key(self, key: str) -> None:
        """Change the key at the upstream and in the secret."""
        self.upstream.key = key
        self._secrets.put_secret_value(SecretId=self.secret_arn, SecretString=key)
