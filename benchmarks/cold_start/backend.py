"""Minimal fakes of the services that a function calls: Secrets Manager, DynamoDB, SNS, Step Functions, Waterflai.

The queue of webhooks receives no message: each webhook is delivered with its first attempt.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs

from benchmarks.cold_start.wire import Request, Response, json_response

API_KEY = "benchmark-key"
KEYS_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook-keys-AbCdEf"
BUNDLE_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook-bundle-AbCdEf"
UPSTREAM_ID = "0b7c1f52-6a0e-4e1f-9d53-2f6f3f0c9a11"
STATUS = {
    "execution_id": UPSTREAM_ID,
    "status": "COMPLETED",
    "progress": 100,
    "total_nodes": 3,
    "completed_nodes": 3,
    "started_at": "2026-01-01T00:00:00Z",
    "completed_at": "2026-01-01T00:00:08Z",
    "final_output": {"answer": "Waterflai runs chatflows and workflows."},
    "error": None,
}
_STREAM = b'data: {"type": "node_completed", "progress": 100}\n\ndata: {"type": "execution_completed"}\n\n'
_PUBLISHED = (
    b'<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult>'
    b"<MessageId>567910cd-659e-55d4-8ccb-5aaf14679dc0</MessageId></PublishResult></PublishResponse>"
)

type Item = dict[str, Any]


class Backend:
    """The services for one function, with their own records."""

    def __init__(self, *items: Item, api_key: str = API_KEY, bundle_pem: str = "") -> None:
        """`items` are the initial DynamoDB items, `api_key` is the key in the secret, `bundle_pem` the CA bundle."""
        self._secrets = {KEYS_ARN: '{"key": "benchmark-master-key"}', BUNDLE_ARN: bundle_pem}
        self._api_key = api_key
        self._items = {_key_of(item): item for item in items}

    def put(self, item: Item) -> None:
        """Store an item."""
        self._items[_key_of(item)] = item

    def respond(self, request: Request) -> Response:
        """Return the response of the service that the request is for."""
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target:
            return json_response(self._aws(target, json.loads(request.body)))
        if request.path.startswith("/v1/executions/"):
            return _waterflai(request)
        if parse_qs(request.body.decode()).get("Action") == ["Publish"]:
            return Response(_PUBLISHED, {"Content-Type": "text/xml"})
        return json_response({"message": f"{request.method} {request.path}: no fake for this request"}, 404)

    def _aws(self, target: str, parameters: dict[str, Any]) -> dict[str, Any]:
        match target:
            case "GetSecretValue":
                text = self._secrets.get(parameters["SecretId"], self._api_key)
                return {"Name": "key", "VersionId": "0", "SecretString": text}
            case "StartExecution":
                arn = parameters["stateMachineArn"].replace(":stateMachine:", ":execution:")
                return {"executionArn": f"{arn}:{parameters['name']}", "startDate": 1767225600.0}
            case "GetItem":
                item = self._items.get(_key_of(parameters["Key"]))
                return {"Item": item} if item else {}
            case "PutItem":
                self._items[_key_of(parameters["Item"])] = parameters["Item"]
                return {}
            case "UpdateItem":
                return {"Attributes": self._update(parameters)}
        raise ValueError(target)

    def _update(self, parameters: dict[str, Any]) -> Item:
        """Set the attributes of the update expression. Conditions are ignored, because there is only one writer."""
        names, values = (
            parameters.get("ExpressionAttributeNames", {}),
            parameters["ExpressionAttributeValues"],
        )
        item = self._items.setdefault(_key_of(parameters["Key"]), dict(parameters["Key"]))
        for name, value in re.findall(r"([#\w]+) = (:\w+)", parameters["UpdateExpression"]):
            item[names.get(name, name)] = values[value]
        return item


def _key_of(item: Item) -> str:
    """Return the key of an item of the executions table or of the deliveries table."""
    return "/".join(item[name]["S"] for name in ("execution_id", "pk", "sk") if name in item)


def _waterflai(request: Request) -> Response:
    if request.headers.get("X-API-Key") != API_KEY:
        return json_response({"detail": "Invalid API key"}, 401)
    if request.path.endswith("/stream"):
        return Response(_STREAM, {"Content-Type": "text/event-stream"})
    if request.method == "POST":
        return json_response({"execution_id": UPSTREAM_ID, "status": "queued"}, 202)
    # The function ignores the document of another execution.
    return json_response(STATUS | {"execution_id": request.path.rpartition("/")[2]})
