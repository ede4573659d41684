"""A deployed stack on a loopback port: the AWS services that the CLI calls, and the stack's API by script."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.builders import ID, MACHINE, REGION

type ApiResponse = tuple[int, object]
"""Status and body. A body that is not a text is sent as JSON."""
STACK_NAME = "shop"
API_KEY = "the-key-of-the-api"
PARAMETERS = {"DefaultDeliverTo": "sns,dynamodb", "FollowConcurrency": "50", "LogRetentionDays": "14"}
WEBHOOK_OUTPUTS = {"WebhookTableName": "deliveries", "DeliverFunctionName": "deliver"}
_XMLNS = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def status_document(status: str = "COMPLETED", **changes: Any) -> dict[str, Any]:
    """A status document of the API."""
    fields = {
        "execution_id": ID,
        "status": status,
        "chatbot_id": "support-chat",
        "created_at": "2026-01-01T00:00:00.000Z",
        "final_output": {"answer": "Immediately."} if status == "COMPLETED" else None,
    }
    return fields | changes


@dataclass(frozen=True)
class ApiRequest:
    """A request to the API."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class DeployedStack:
    """The stack STACK_NAME, and the requests that it received."""

    api_responses: list[ApiResponse] = field(default_factory=lambda: [(200, status_document())])
    """In order; the last one is repeated."""
    status: str = "CREATE_COMPLETE"
    outputs: dict[str, str] = field(default_factory=dict)
    cloudformation_error: str | None = None
    """The error code of every answer of CloudFormation."""
    table_items: list[dict[str, Any]] = field(default_factory=list)
    """The items of the table, in the JSON of DynamoDB."""
    secret_text: str = "{}"
    """The current value of the secret. PutSecretValue replaces it."""
    api_requests: list[ApiRequest] = field(default_factory=list)
    invocations: list[Any] = field(default_factory=list)
    """The payloads of NotifyFunction and DeliverFunction. NotifyFunction states that COMPLETED was published."""
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    """The items of the table of deliveries. Conditions on times are ignored."""
    deliver: Callable[[Any], object] = lambda _payload: {"resent": True, "outcome": "COMPLETED"}
    """Returns the result of DeliverFunction for a payload. If it raises ConnectionError, there is no answer."""
    resources: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Type and physical id of each resource by its logical id."""
    log_events: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    """The pages of FilterLogEvents by log group. Of other log groups, CloudWatch Logs answers that there are none."""
    log_requests: list[dict[str, Any]] = field(default_factory=list)
    """The requests of FilterLogEvents. Patterns and times are ignored."""
    access_keys: set[str] = field(default_factory=set)
    """The first characters of the access keys that CloudFormation was called with."""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stack": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which AWS clients and the CLI use this stack."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "WATERHOOK_STACK": STACK_NAME}

    def respond(self, request: ApiRequest) -> ApiResponse:
        self.api_requests.append(request)
        return self.api_responses.pop(0) if len(self.api_responses) > 1 else self.api_responses[0]

    def dynamodb(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        items = self.deliveries if request["TableName"] == "deliveries" else self.table_items
        wanted = request.get("Key", {})
        values = request.get("ExpressionAttributeValues", {})
        if operation == "Query" and ":shard" in values:
            wanted = {"undelivered": values[":shard"]}
        elif operation == "Query":
            wanted = {"pk": next(iter(values.values()))}
        matching = [item for item in items if wanted.items() <= item.items()]
        if operation in {"Scan", "Query"}:
            return {"Items": matching}
        return {"Item": matching[0]} if matching else {}

    def secretsmanager(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if operation == "PutSecretValue":
            self.secret_text = request["SecretString"]
            return {"VersionId": request["ClientRequestToken"]}
        return (
            {"VersionId": "0" * 36, "SecretString": self.secret_text} if operation == "GetSecretValue" else {}
        )

    def filter_log_events(self, request: dict[str, Any]) -> tuple[int, Mapping[str, Any]]:
        self.log_requests.append(request)
        if (pages := self.log_events.get(request["logGroupName"])) is None:
            return 400, {"__type": "ResourceNotFoundException", "message": "no such log group"}
        number = int(request.get("nextToken", "0"))
        more = {"nextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return 200, {"events": pages[number] if pages else [], **more}

    def list_stack_resources(self) -> tuple[int, str]:
        members = "".join(
            f"<member><LogicalResourceId>{logical_id}</LogicalResourceId><ResourceType>{kind}</ResourceType>"
            f"<PhysicalResourceId>{physical_id}</PhysicalResourceId></member>"
            for logical_id, (kind, physical_id) in self.resources.items()
        )
        return 200, (
            f'<ListStackResourcesResponse xmlns="{_XMLNS}"><ListStackResourcesResult><StackResourceSummaries>'
            f"{members}</StackResourceSummaries></ListStackResourcesResult></ListStackResourcesResponse>"
        )

    def describe_stacks(self, name: str | None) -> tuple[int, str]:
        if self.cloudformation_error:
            return 403, _error_xml(self.cloudformation_error, "refused")
        if name not in {None, STACK_NAME}:
            return 400, _error_xml("ValidationError", f"Stack with id {name} does not exist")
        outputs = {
            "ApiUrl": f"{self.url}/live",
            "StateMachineArn": MACHINE,
            "TableName": "table",
            "BucketName": "bucket",
            "NotifyFunctionName": "notify",
        } | self.outputs
        return 200, (
            f'<DescribeStacksResponse xmlns="{_XMLNS}"><DescribeStacksResult><Stacks><member>'
            f"<StackName>{STACK_NAME}</StackName><StackStatus>{self.status}</StackStatus>"
            "<CreationTime>2026-01-01T00:00:00Z</CreationTime>"
            f"{_members_xml('Output', outputs)}{_members_xml('Parameter', PARAMETERS)}"
            "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )


def _members_xml(kind: str, values: Mapping[str, str]) -> str:
    members = "".join(
        f"<member><{kind}Key>{key}</{kind}Key><{kind}Value>{value}</{kind}Value></member>"
        for key, value in values.items()
    )
    return f"<{kind}s>{members}</{kind}s>"


def _error_xml(code: str, message: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"


class _Server(ThreadingHTTPServer):
    def handle_error(self, *arguments: Any) -> None:
        # A client that was interrupted closes its connection early.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)


class _Handler(BaseHTTPRequestHandler):
    stack: DeployedStack

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        target = self.headers.get("X-Amz-Target", "")
        if target.startswith("DynamoDB"):
            self._send(200, json.dumps(self.stack.dynamodb(target.partition(".")[2], json.loads(body))))
        elif target.startswith("secretsmanager."):
            self._send(200, json.dumps(self.stack.secretsmanager(target.partition(".")[2], json.loads(body))))
        elif target.startswith("Logs_"):
            status, answer = self.stack.filter_log_events(json.loads(body))
            self._send(status, json.dumps(answer))
        elif self.path.startswith("/2015-03-31/functions/notify/"):
            self.stack.invocations.append(json.loads(body))
            self._send(
                200, json.dumps({"redelivered": True, "outcome": "COMPLETED", "published_to": ["sns"]})
            )
        elif self.path.startswith("/2015-03-31/functions/deliver/"):
            payload = json.loads(body)
            self.stack.invocations.append(payload)
            self._send(200, json.dumps(self.stack.deliver(payload)))
        elif self.path == "/":
            self.stack.access_keys.add(self.headers["Authorization"].partition("Credential=")[2][:4])
            query = parse_qs(body.decode())
            if query["Action"] == ["ListStackResources"]:
                status, text = self.stack.list_stack_resources()
            else:
                status, text = self.stack.describe_stacks(query.get("StackName", [None])[0])
            self._send(status, text, "text/xml")
        else:
            self._send_api_response(json.loads(body))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/apikeys/"):
            self._send(200, json.dumps({"value": API_KEY}))
        elif url.query.startswith("versions"):  # of an empty bucket
            self._send(
                200, "<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>", "text/xml"
            )
        else:
            self._send_api_response(None)

    def do_DELETE(self) -> None:
        self._send_api_response(None)

    def _send_api_response(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.stack.respond(ApiRequest(self.command, self.path, headers, body))
        self._send(status, answer if isinstance(answer, str) else json.dumps(answer))

    def _send(self, status: int, text: str, content_type: str = "application/json") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
        pass
