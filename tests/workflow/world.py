"""State machine, functions, table, topic, bucket, secret and scripted upstream in one process."""

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
from tests.support.schemas import require_valid_event
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
    """Return a replacement of EventStream.next that advances the clock if no event arrives within a real second.

    The real second is also needed with no virtual time left: an event may still be on its way.
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
    """Build the dependencies of a function anew, as in a new container."""
    app: Any = importlib.import_module(f"functions.{step}.app")
    app.dependencies = Dependencies(app.telemetry)


def service() -> ExecutionService:
    """Return the execution service of the API function."""
    built: ExecutionService = importlib.import_module("functions.api.app").dependencies.service
    return built


class World:
    """One state machine and everything that it uses. Most tests only call `run`."""

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
        """Build the dependencies of all functions anew, as a deployment does."""
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
        """Reset the clock, the planned faults and the scripts, and delete all notifications."""
        self.clock.reset()
        self.functions.reset()
        self.upstream.reset()
        self.notifications()
        self._inbox.clear()

    def end(self) -> None:
        """Close the upstream and reset the functions."""
        self.upstream.close()
        self.rewire()

    def start(self, execution_input: object, name: str | None = None) -> str:
        """Start an execution and return its ARN. Without a name, moto would name it None."""
        answer = self.states.start_execution(
            stateMachineArn=self.machine_arn,
            name=name or f"run-{uuid.uuid4()}",
            input=json.dumps(execution_input, ensure_ascii=False),
        )
        return answer["executionArn"]

    def accept(self, execution_input: object) -> str:
        """Accept a request as the API does, and return its id."""
        execution_id: str = service().accept(execution_input, "caller").execution_id
        return execution_id

    def run(self, execution_input: object, name: str | None = None) -> Run:
        """Run an execution to its end."""
        return self.finished(self.start(execution_input, name))

    def finished(self, arn: str) -> Run:
        """Wait until an execution has ended and return it."""
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
        """Return everything that was published since the test began. Each message is as its JSON Schema describes."""
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                values = {name: value["StringValue"] for name, value in attributes.items()}
                require_valid_event(message["Body"])
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
        """Return the output at this reference in the bucket."""
        bucket, _, key = output_ref.removeprefix("s3://").partition("/")
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def new_containers(self, *steps: str) -> None:
        """Start functions in new containers, which read the secret again."""
        for step in steps:
            new_container(step)

    def put_secret(self, text: str, *, after: str | None = None) -> None:
        """Change the secret, now or after the first call of a step."""
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
