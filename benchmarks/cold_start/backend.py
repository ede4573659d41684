"""What a function talks to, as little of it as it takes: Secrets Manager, DynamoDB, SNS, Step Functions, Waterflai."""

import json
import re
from typing import Any
from urllib.parse import parse_qs

from benchmarks.cold_start.wire import Answer, Asked, json_answer

API_KEY = "benchmark-key"
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
    """Answers for one function: its records are its own."""

    def __init__(self, *items: Item, api_key: str = API_KEY) -> None:
        """Begin with these DynamoDB items, and this key in the secret."""
        self._api_key = api_key
        self._items = {item["execution_id"]["S"]: item for item in items}

    def answer(self, asked: Asked) -> Answer:
        """Answer as the service would that is asked."""
        target = asked.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target:
            return json_answer(self._aws(target, json.loads(asked.body)))
        if asked.path.startswith("/v1/executions/"):
            return _waterflai(asked)
        if parse_qs(asked.body.decode()).get("Action") == ["Publish"]:
            return Answer(_PUBLISHED, {"Content-Type": "text/xml"})
        return json_answer({"message": f"{asked.method} {asked.path} is nothing that is known here"}, 404)

    def _aws(self, target: str, given: dict[str, Any]) -> dict[str, Any]:
        match target:
            case "GetSecretValue":
                return {"Name": "key", "SecretString": self._api_key}
            case "StartExecution":
                arn = given["stateMachineArn"].replace(":stateMachine:", ":execution:")
                return {"executionArn": f"{arn}:{given['name']}", "startDate": 1767225600.0}
            case "GetItem":
                item = self._items.get(given["Key"]["execution_id"]["S"])
                return {"Item": item} if item else {}
            case "PutItem":
                self._items[given["Item"]["execution_id"]["S"]] = given["Item"]
                return {}
            case "UpdateItem":
                return {"Attributes": self._update(given)}
        raise ValueError(target)

    def _update(self, given: dict[str, Any]) -> Item:
        """Set what is to be set, whatever the condition: nobody else is here."""
        names, values = given.get("ExpressionAttributeNames", {}), given["ExpressionAttributeValues"]
        item = self._items.setdefault(given["Key"]["execution_id"]["S"], dict(given["Key"]))
        for name, value in re.findall(r"([#\w]+) = (:\w+)", given["UpdateExpression"]):
            item[names.get(name, name)] = values[value]
        return item


def _waterflai(asked: Asked) -> Answer:
    if asked.headers.get("X-API-Key") != API_KEY:
        return json_answer({"detail": "Invalid API key"}, 401)
    if asked.path.endswith("/stream"):
        return Answer(_STREAM, {"Content-Type": "text/event-stream"})
    if asked.method == "POST":
        return json_answer({"execution_id": UPSTREAM_ID, "status": "queued"}, 202)
    # A document of another execution would not be used.
    return json_answer(STATUS | {"execution_id": asked.path.rpartition("/")[2]})
