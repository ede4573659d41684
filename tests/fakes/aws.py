"""AWS simulated by moto, which evaluates the condition expressions of DynamoDB."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.fakes.clock import NOW
from tests.support.builders import KEY, REGION
from waterhook.domain.status import Status
from waterhook.storage.execution_lists import CALLER_INDEX, TIME_INDEX, ExecutionLists
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.unfinished_index import UNFINISHED_INDEX
from waterhook.storage.webhook_deliveries import UNDELIVERED_INDEX, WebhookDeliveries

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient


def client_error(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "AnyOperation")


def cancelled_transaction(*codes: str) -> ClientError:
    """Return the refusal of a transaction, with the reason for each of its writes."""
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": ""},
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return ClientError(response, "TransactWriteItems")


class FailingClient:
    """A client that raises `faults` by operation. With `after`, the call is made first, as with a lost response."""

    def __init__(self, real: Any, faults: Mapping[str, Exception], *, after: bool = False) -> None:
        self._real = real
        self.faults = dict(faults)
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(*args: Any, **arguments: Any) -> Any:
            if name not in self.faults:
                return method(*args, **arguments)
            if self._after:
                method(*args, **arguments)
            raise self.faults[name]

        return call


class RepeatingClient:
    """A client that sends every write twice and returns the second response, as botocore does after a lost response.

    `meanwhile` is called between the two.
    """

    def __init__(self, real: Any, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._real = real
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(**arguments: Any) -> Any:
            if name in {"put_item", "update_item", "delete_item"}:
                method(**arguments)
                self._meanwhile()
            return method(**arguments)

        return call


@dataclass(frozen=True)
class Table:
    """An executions table that only one test uses."""

    name: str
    client: "DynamoDBClient"

    @property
    def records(self) -> ExecutionsTable:
        return ExecutionsTable(self.name, self.client)

    def records_over(self, client: Any) -> ExecutionsTable:
        return ExecutionsTable(self.name, client)

    def lists_over(self, client: Any) -> ExecutionLists:
        return ExecutionLists(self.name, client)

    def put(self, record: ExecutionRecord) -> ExecutionRecord:
        self.client.put_item(TableName=self.name, Item=record.to_item())
        return record

    def delete(self, record: ExecutionRecord) -> None:
        self.client.delete_item(TableName=self.name, Key={"execution_id": {"S": record.execution_id}})

    def set(self, execution_id: str, **attributes: str) -> None:
        """Change text attributes without a condition."""
        self.client.update_item(
            TableName=self.name,
            Key={"execution_id": {"S": execution_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in attributes.items()},
        )

    def all(self) -> list[ExecutionRecord]:
        items = self.client.scan(TableName=self.name, ConsistentRead=True)["Items"]
        # The items with slots or with the position of a sweep have no status.
        return [ExecutionRecord.from_item(item) for item in items if "status" in item]

    def only(self) -> ExecutionRecord:
        (record,) = self.all()
        return record

    def get(self, execution_id: str, now: float = NOW) -> ExecutionRecord:
        record = self.records.get(execution_id, now)
        assert record is not None
        return record

    def status(self, execution_id: str) -> Status:
        return self.get(execution_id).status


@dataclass(frozen=True)
class WebhookTable:
    """A table of deliveries and hosts that only one test uses."""

    name: str
    client: "DynamoDBClient"

    @property
    def deliveries(self) -> WebhookDeliveries:
        return WebhookDeliveries(self.name, self.client)

    def items(self) -> list[dict[str, Any]]:
        """Return every item with its attribute values as DynamoDB has them."""
        return [dict(item) for item in self.client.scan(TableName=self.name, ConsistentRead=True)["Items"]]


@dataclass(frozen=True)
class Queue:
    """A queue that only one test uses."""

    url: str
    client: "SQSClient"

    def messages(self) -> list[Any]:
        """Return the messages that are visible, and delete them."""
        bodies = []
        while received := self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            for message in received:
                bodies.append(json.loads(message["Body"]))
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return bodies


@dataclass(frozen=True)
class Topic:
    """A topic, and a queue that is subscribed to it."""

    arn: str
    sns: "SNSClient"
    sqs: "SQSClient"
    queue_url: str

    def envelopes(self) -> list[dict[str, Any]]:
        """Return what SNS delivered since the last call: `Message` and `MessageAttributes`."""
        envelopes: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            for message in messages:
                envelopes.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return envelopes

    def messages(self) -> list[str]:
        return [envelope["Message"] for envelope in self.envelopes()]


@dataclass(frozen=True)
class Bucket:
    name: str
    client: "S3Client"

    def text(self, uri: str) -> str:
        key = uri.removeprefix(f"s3://{self.name}/")
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read().decode()

    def keys(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]


@dataclass(frozen=True)
class Secret:
    arn: str
    client: "SecretsManagerClient"

    def rotate(self, value: str) -> None:
        self.client.put_secret_value(SecretId=self.arn, SecretString=value)


@dataclass(frozen=True)
class Machine:
    """A state machine that starts executions and runs none of them."""

    arn: str
    client: "SFNClient"

    def executions(self) -> dict[str, dict[str, Any]]:
        """Return the input of every execution by its name."""
        return {name: json.loads(text) for name, text in self._texts().items()}

    def inputs(self) -> list[str]:
        """Return the input of every execution as the text that it was started with."""
        return list(self._texts().values())

    def _texts(self) -> dict[str, str]:
        listed = self.client.list_executions(stateMachineArn=self.arn)["executions"]
        described = (self.client.describe_execution(executionArn=item["executionArn"]) for item in listed)
        return {execution["name"]: execution["input"] for execution in described}


@pytest.fixture(scope="session")
def aws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_LAMBDA_FUNCTION_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_REGION", REGION)
        yield


def refuse_empty_maps(params: Mapping[str, Any], **_: Any) -> None:
    """Refuse empty maps as DynamoDB does. Moto accepts them."""
    for name in ("ExpressionAttributeNames", "ExpressionAttributeValues"):
        assert params.get(name) != {}, f"{name} must not be empty"


@pytest.fixture(scope="session")
def dynamodb(aws: None) -> "DynamoDBClient":
    client = boto3.client("dynamodb", region_name=REGION)
    client.meta.events.register("provide-client-params.dynamodb", refuse_empty_maps)
    return client


@pytest.fixture
def table(dynamodb: "DynamoDBClient") -> Table:
    name = f"executions-{uuid4().hex}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"}
            for name in ("execution_id", "caller", "created_at", "shard", "unfinished")
        ],
        KeySchema=[{"AttributeName": "execution_id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index,
                "KeySchema": [
                    {"AttributeName": key, "KeyType": "HASH"},
                    {"AttributeName": "created_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, key in (
                (CALLER_INDEX, "caller"),
                (TIME_INDEX, "shard"),
                (UNFINISHED_INDEX, "unfinished"),
            )
        ],
    )
    return Table(name, dynamodb)


@pytest.fixture
def webhook_table(dynamodb: "DynamoDBClient") -> WebhookTable:
    name = f"deliveries-{uuid4().hex}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
            {"AttributeName": "undelivered", "AttributeType": "S"},
            {"AttributeName": "next_at", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": UNDELIVERED_INDEX,
                "KeySchema": [
                    {"AttributeName": "undelivered", "KeyType": "HASH"},
                    {"AttributeName": "next_at", "KeyType": "RANGE"},
                ],
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": ["queued", "status", "host"],
                },
            }
        ],
    )
    return WebhookTable(name, dynamodb)


@pytest.fixture
def queue(messaging: "tuple[SNSClient, SQSClient]") -> Queue:
    _, sqs = messaging
    return Queue(sqs.create_queue(QueueName=uuid4().hex)["QueueUrl"], sqs)


@pytest.fixture(scope="session")
def messaging(aws: None) -> "tuple[SNSClient, SQSClient]":
    return boto3.client("sns", region_name=REGION), boto3.client("sqs", region_name=REGION)


@pytest.fixture
def topic(messaging: "tuple[SNSClient, SQSClient]") -> Topic:
    sns, sqs = messaging
    name = uuid4().hex
    arn = sns.create_topic(Name=name)["TopicArn"]
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    return Topic(arn, sns, sqs, url)


@pytest.fixture(scope="session")
def s3(aws: None) -> "S3Client":
    return boto3.client("s3", region_name=REGION)


@pytest.fixture
def bucket(s3: "S3Client") -> Bucket:
    name = f"results-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return Bucket(name, s3)


@pytest.fixture(scope="session")
def secretsmanager(aws: None) -> "SecretsManagerClient":
    return boto3.client("secretsmanager", region_name=REGION)


@pytest.fixture
def secret(secretsmanager: "SecretsManagerClient") -> Secret:
    arn = secretsmanager.create_secret(Name=uuid4().hex, SecretString=KEY)["ARN"]
    return Secret(arn, secretsmanager)


@pytest.fixture(scope="session")
def stepfunctions(aws: None) -> "SFNClient":
    return boto3.client("stepfunctions", region_name=REGION)


@pytest.fixture
def machine(stepfunctions: "SFNClient") -> Machine:
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    arn = stepfunctions.create_state_machine(
        name=f"waterhook-{uuid4().hex}",
        definition=json.dumps(definition),
        roleArn="arn:aws:iam::123456789012:role/any",
    )["stateMachineArn"]
    return Machine(arn, stepfunctions)
