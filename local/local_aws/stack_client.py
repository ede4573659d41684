"""Client of a deployed stack: its API, state machine, notifications and execution records."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import boto3
import httpx
from boto3.dynamodb.types import TypeDeserializer
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from . import aws_resources
from .stack_outputs import StackOutputs
from .waiting import retry_while, wait_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, HistoryEventTypeDef

_POLL_S = 0.1
_BUSY_POLL_S = 0.3
_HTTP_TIMEOUT_S = 35.0  # API Gateway's own timeout is 29 s
_WAIT_TIMEOUT_S = 120.0  # for jobs of seconds, on a busy machine


class StackClient:
    """Client of one deployed stack. Thread-safe. Methods that wait raise TimeoutError."""

    def __init__(self, outputs: StackOutputs, session: boto3.Session | None = None) -> None:
        """Create the HTTP client. It connects with the first request.

        With AuthMode IAM, requests to the API are signed with the credentials of `session`, by default those of root.
        """
        self.outputs = outputs
        self._session = session or aws_resources.session()
        # Without proxies, because all addresses are on the loopback interface.
        self.http = httpx.Client(timeout=_HTTP_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.http.close()

    @cached_property
    def stepfunctions(self) -> "SFNClient":
        """The Step Functions client."""
        return aws_resources.session().client("stepfunctions", endpoint_url=self.outputs.endpoint_url)

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The DynamoDB client."""
        return aws_resources.session().client("dynamodb", endpoint_url=self.outputs.endpoint_url)

    @cached_property
    def sqs(self) -> "SQSClient":
        """The SQS client."""
        return aws_resources.session().client("sqs", endpoint_url=self.outputs.endpoint_url)

    @cached_property
    def sns(self) -> "SNSClient":
        """The SNS client."""
        return aws_resources.session().client("sns", endpoint_url=self.outputs.endpoint_url)

    # ---- The API ----

    def post(
        self, chatbot_id: str, body: Any, *, idempotency_key: str | None = None, prefer: str | None = None
    ) -> httpx.Response:
        """Send a start request and return the response. `body` is sent as JSON, or unchanged if it is text."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        headers |= {"Prefer": prefer} if prefer else {}
        content = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        headers["Content-Type"] = "application/json"
        return self._request("POST", f"/{chatbot_id}/async", headers, content=content)

    def get(self, execution_id: str, *, wait: str | None = None) -> httpx.Response:
        """Send a status request and return the response."""
        return self._request("GET", f"/{execution_id}", params={} if wait is None else {"wait": wait})

    def delete(self, execution_id: str) -> httpx.Response:
        """Send a cancel request and return the response."""
        return self._request("DELETE", f"/{execution_id}")

    def list_executions(self, **query: str | int | None) -> httpx.Response:
        """Send a list request and return the response. Query: `status`, `limit`, `next` and others."""
        params = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", "", params=params)

    def submit(self, chatbot_id: str, input_data: Mapping[str, Any] | None = None, **request: Any) -> str:
        """Start an execution through the API and return its id. `request` is the rest of the body: `metadata=…`."""
        key = request.pop("idempotency_key", None)
        answer = self.post(chatbot_id, {"input_data": dict(input_data or {}), **request}, idempotency_key=key)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise AssertionError(f"start of {chatbot_id}: {answer.status_code} {answer.text}")
        return str(answer.json()["execution_id"])

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **arguments: Any
    ) -> httpx.Response:
        """Send a request and return the response. Retries 429, because the local AWS limits concurrent functions."""
        url = f"{self.outputs.api_url}/v1/executions{path}"
        auth = self._with_key if self.outputs.api_key else self._sign
        return retry_while(
            lambda answer: answer.status_code == httpx.codes.TOO_MANY_REQUESTS,
            lambda: self.http.request(method, url, headers=headers, auth=auth, **arguments),
            timeout_s=_WAIT_TIMEOUT_S,
            interval_s=_BUSY_POLL_S,
        )

    def _with_key(self, request: httpx.Request) -> httpx.Request:
        request.headers["x-api-key"] = self.outputs.api_key
        return request

    def _sign(self, request: httpx.Request) -> httpx.Request:
        unsigned = AWSRequest(request.method, str(request.url), data=request.content)
        credentials: Any = self._session.get_credentials()
        SigV4Auth(credentials, "execute-api", self.outputs.region).add_auth(unsigned)
        request.headers.update(dict(unsigned.headers))
        return request

    # ---- The state machine ----

    def start_execution(self, request: Mapping[str, Any], *, name: str | None = None) -> str:
        """Start the state machine, as EventBridge or a parent does. Return the ARN of the state machine execution."""
        machine = self.outputs.state_machine_arn
        named = {"name": name} if name else {}
        started = self.stepfunctions.start_execution(
            stateMachineArn=machine, input=json.dumps(request), **named
        )
        return started["executionArn"]

    def execution_arn(self, execution_id: str) -> str | None:
        """Return the ARN of the state machine execution that the API started for this id; None if there is none yet.

        Its name begins with the id.
        """
        pages = self.stepfunctions.get_paginator("list_executions").paginate(
            stateMachineArn=self.outputs.state_machine_arn
        )
        runs = (run for page in pages for run in page["executions"])
        return next((run["executionArn"] for run in runs if run["name"].startswith(execution_id)), None)

    def wait_for_end(
        self, execution_arn: str, timeout_s: float = _WAIT_TIMEOUT_S
    ) -> "DescribeExecutionOutputTypeDef":
        """Wait until a state machine execution has ended, and return its description."""

        def ended() -> "DescribeExecutionOutputTypeDef | None":
            run = self.stepfunctions.describe_execution(executionArn=execution_arn)
            return None if run["status"] == "RUNNING" else run

        return wait_for(
            ended, timeout_s=timeout_s, interval_s=_POLL_S, message=f"{execution_arn} is still running"
        )

    def history(self, execution_arn: str) -> "list[HistoryEventTypeDef]":
        """Return all events of a state machine execution, oldest first."""
        pages = self.stepfunctions.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
        return [event for page in pages for event in page["events"]]

    def states(self, execution_arn: str) -> list[str]:
        """Return the names of the entered states of a state machine execution, in order."""
        details = (event.get("stateEnteredEventDetails") for event in self.history(execution_arn))
        return [entered["name"] for entered in details if entered]

    # ---- Notifications and records ----

    def peek(self, execution_id: str) -> list[dict[str, Any]]:
        """Return the notifications of an execution in the results queue, oldest first, and leave them there."""
        return [notification(body) for body in self.notification_bodies(execution_id)]

    def notification_bodies(self, execution_id: str) -> list[str]:
        """Return the message bodies of these notifications, unchanged."""
        bodies = (str(message["Body"]) for message in self.messages())
        return [body for body in bodies if execution_id_of(notification(body)) == execution_id]

    def messages(self) -> list[dict[str, Any]]:
        """Return every message in the results queue, with `Body` and `MessageAttributes`.

        Read through MiniStack's own API, so concurrent tests do not hide messages from each other.
        """
        answer = self.http.get(
            f"{self.outputs.endpoint_url}/_ministack/sqs/messages",
            params={"QueueUrl": self.outputs.results_queue_url},
        )
        accounts = answer.raise_for_status().json()["messages"].values()
        queues = [queue for regions in accounts for region in regions.values() for queue in region.values()]
        return [message for queue in queues for message in queue]

    def wait_for_status(self, execution_id: str, status: str, timeout_s: float = _WAIT_TIMEOUT_S) -> None:
        """Wait until the API returns `status` for an execution."""
        wait_for(
            lambda: self.get(execution_id).json().get("status") == status,
            timeout_s=timeout_s,
            interval_s=_POLL_S,
            message=f"{execution_id} is not {status}",
        )

    def wait_for_notification(self, execution_id: str, timeout_s: float = _WAIT_TIMEOUT_S) -> dict[str, Any]:
        """Wait for the first notification of an execution and return it."""
        notifications = wait_for(
            lambda: self.peek(execution_id),
            timeout_s=timeout_s,
            interval_s=_POLL_S,
            message=f"no notification of {execution_id}",
        )
        return notifications[0]

    def item(self, execution_id: str) -> dict[str, Any] | None:
        """Return the record of an execution, with numbers as Decimal; None if there is no record."""
        answer = self.dynamodb.get_item(
            TableName=self.outputs.table_name, Key={"execution_id": {"S": execution_id}}, ConsistentRead=True
        )
        read = TypeDeserializer().deserialize
        return {name: read(value) for name, value in answer["Item"].items()} if "Item" in answer else None

    # ---- The simulated Waterflai ----

    def waterflai(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the control API of the simulator: GET `path`, or POST with a body. Return the response."""
        url = f"{self.outputs.waterflai_base_url}/_control/{path}"
        answer = self.http.get(url) if body is None else self.http.post(url, json=dict(body))
        return answer.raise_for_status().json()


def notification(body: str) -> dict[str, Any]:
    """Return the CloudEvent in a queue message, raw or in the SNS envelope."""
    document: dict[str, Any] = json.loads(body)
    if document.get("Type") == "Notification":
        document = json.loads(document["Message"])
    return document


def execution_id_of(event: Mapping[str, Any]) -> str | None:
    """Return the execution id of a notification; None if it has no id."""
    data = event.get("data")
    return data.get("execution_id") if isinstance(data, dict) else None
