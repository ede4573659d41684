"""SNS with one topic, and SQS: what `waterhook listen` calls, by clients in this process or on a loopback port."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs
from uuid import uuid4

from botocore.exceptions import ClientError

from tests.support.builders import REGION

TOPIC_ARN = f"arn:aws:sns:{REGION}:123456789012:notifications"
_XMLNS = "http://sns.amazonaws.com/doc/2010-03-31/"
_MISSING_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


class AwsError(Exception):
    """An error that a hook raises: its code and HTTP status."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@dataclass
class FakeQueue:
    attributes: Mapping[str, str]
    tags: dict[str, str]
    messages: list[str] = field(default_factory=list)
    """Bodies that were not received yet."""
    received: dict[str, str] = field(default_factory=dict)
    """Bodies that were received and not deleted, by receipt handle."""


@dataclass
class FakeTopic:
    """The topic TOPIC_ARN, its subscriptions and the queues."""

    queues: dict[str, FakeQueue] = field(default_factory=dict)
    subscriptions: dict[str, dict[str, str]] = field(default_factory=dict)
    """The parameters of Subscribe by ARN."""
    calls: list[str] = field(default_factory=list)
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The latest request of each operation."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Called before an operation. It may raise AwsError, or for a client in this process any other error."""
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    """The same after the operation was carried out."""
    has_topic: bool = True

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._ends = False

    def client(self) -> Any:
        """Return a client of SNS and SQS."""
        return _Client(self)

    def call(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out an operation. Raises AwsError."""
        self.calls.append(operation)
        self.requests[operation] = request
        self.before.get(operation, lambda: None)()
        is_sns = operation in {"Subscribe", "Unsubscribe", "ListSubscriptionsByTopic"}
        answer = self._sns(operation, request) if is_sns else self._sqs(operation, request)
        self.after.get(operation, lambda: None)()
        return answer

    @property
    def is_empty(self) -> bool:
        return not self.queues and not self.subscriptions

    def publish(self, body: str) -> None:
        """Deliver a message to each subscription, without its filter policy."""
        with self._changed:
            for subscription in self.subscriptions.values():
                if queue := self.queues.get(subscription["Endpoint"].rpartition(":")[2]):
                    queue.messages.append(body)
            self._changed.notify_all()

    def wait_for_subscriptions(self, count: int = 1, timeout_s: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.subscriptions) >= count, timeout_s)

    def _sqs(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if operation == "CreateQueue":
            self.queues[request["QueueName"]] = FakeQueue(request["Attributes"], dict(request["tags"]))
            return {"QueueUrl": f"http://sqs/1/{request['QueueName']}"}
        if operation == "ListQueues":
            names = [name for name in self.queues if name.startswith(request["QueueNamePrefix"])]
            return {"QueueUrls": [f"http://sqs/1/{name}" for name in names]}
        name = request.get("QueueName") or request["QueueUrl"].rpartition("/")[2]
        if (queue := self.queues.get(name)) is None:
            raise AwsError(_MISSING_QUEUE)
        match operation:
            case "ReceiveMessage":
                return {"Messages": self._receive(name, queue, request["WaitTimeSeconds"])}
            case "DeleteMessageBatch":
                deleted = {entry["ReceiptHandle"] for entry in request["Entries"]}
                queue.received = {key: queue.received[key] for key in queue.received.keys() - deleted}
            case "DeleteQueue":
                del self.queues[name]
            case "TagQueue":
                queue.tags.update(request["Tags"])
            case "ListQueueTags":
                return {"Tags": queue.tags}
            case "GetQueueUrl":
                return {"QueueUrl": f"http://sqs/1/{name}"}
            case _:
                raise AssertionError(operation)
        return {}

    def _receive(self, name: str, queue: FakeQueue, wait_s: float) -> list[dict[str, str]]:
        with self._changed:
            self._changed.wait_for(lambda: queue.messages or self._ends or name not in self.queues, wait_s)
            taken, queue.messages[:10] = queue.messages[:10], []
        messages = [{"MessageId": "m", "ReceiptHandle": uuid4().hex, "Body": body} for body in taken]
        queue.received |= {message["ReceiptHandle"]: message["Body"] for message in messages}
        return messages

    def _sns(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.has_topic and operation != "Unsubscribe":
            raise AwsError("NotFound", 404)
        match operation:
            case "Subscribe":
                arn = f"{TOPIC_ARN}:{uuid4()}"
                with self._changed:
                    self.subscriptions[arn] = dict(request)
                    self._changed.notify_all()
                return {"SubscriptionArn": arn}
            case "Unsubscribe":
                self.subscriptions.pop(request["SubscriptionArn"], None)
                return {}
            case "ListSubscriptionsByTopic":
                listed = self.subscriptions.items()
                return {
                    "Subscriptions": [
                        {"SubscriptionArn": arn, "Protocol": "sqs", "Endpoint": subscription["Endpoint"]}
                        for arn, subscription in listed
                    ]
                }
            case _:
                raise AssertionError(operation)


class TopicServer(FakeTopic):
    """The same on a loopback port."""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"topic": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"AWS_ENDPOINT_URL_SNS": url, "AWS_ENDPOINT_URL_SQS": url}


class _Client:
    """A client of boto3 that sends no request."""

    def __init__(self, topic: FakeTopic) -> None:
        self._topic = topic

    def __getattr__(self, name: str) -> Any:
        operation = "".join(word.capitalize() for word in name.split("_"))

        def call(**request: Any) -> Any:
            try:
                return self._topic.call(operation, request)
            except AwsError as error:
                answer: Any = {
                    "Error": {"Code": error.code, "Message": "refused"},
                    "ResponseMetadata": {"HTTPStatusCode": error.status},
                }
                raise ClientError(answer, operation) from error

        return call

    def get_paginator(self, name: str) -> Any:
        call = getattr(self, name)
        return type("Paginator", (), {"paginate": staticmethod(lambda **request: [call(**request)])})


class _Server(ThreadingHTTPServer):
    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was interrupted
            super().handle_error(*arguments)


class _Handler(BaseHTTPRequestHandler):
    topic: TopicServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        is_sqs = "X-Amz-Target" in self.headers
        if is_sqs:
            operation, request = self.headers["X-Amz-Target"].partition(".")[2], json.loads(body)
        else:
            request = {name: values[0] for name, values in parse_qs(body).items()}
            operation = request["Action"]
        try:
            answer = self.topic.call(operation, request)
        except AwsError as error:
            self._refuse(error, is_sqs=is_sqs)
            return
        self._send(200, json.dumps(answer) if is_sqs else _to_xml(operation, answer))

    def _refuse(self, error: AwsError, *, is_sqs: bool) -> None:
        if is_sqs:
            self._send(error.status, json.dumps({"__type": error.code, "message": "refused"}), error.code)
        else:
            code = f"<Code>{error.code}</Code><Message>refused</Message>"
            self._send(error.status, f"<ErrorResponse><Error>{code}</Error></ErrorResponse>")

    def _send(self, status: int, text: str, query_error: str = "") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if query_error:
            self.send_header("x-amzn-query-error", f"{query_error};Sender")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the base class
        pass


def _to_xml(operation: str, answer: Mapping[str, Any]) -> str:
    def elements(value: Any) -> str:
        if isinstance(value, list):
            return "".join(f"<member>{elements(entry)}</member>" for entry in value)
        if isinstance(value, Mapping):
            return "".join(f"<{name}>{elements(entry)}</{name}>" for name, entry in value.items())
        return str(value)

    return (
        f'<{operation}Response xmlns="{_XMLNS}"><{operation}Result>{elements(answer)}</{operation}Result>'
        f"</{operation}Response>"
    )
