"""A deployed stack on a loopback port: CloudFormation describes it, and its API answers by script."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.builders import ID, MACHINE, REGION

type Answer = tuple[int, object]
NAME = "shop"
API_KEY = "the-key-of-the-api"
PARAMETERS = {"Delivery": "BOTH", "FollowConcurrency": "50"}
_XMLNS = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def document(status: str = "COMPLETED", **changes: Any) -> dict[str, Any]:
    """What the API says of an execution."""
    said = {
        "execution_id": ID,
        "status": status,
        "chatbot_id": "support-chat",
        "created_at": "2026-01-01T00:00:00.000Z",
        "final_output": {"answer": "At once."} if status == "COMPLETED" else None,
    }
    return said | changes


@dataclass(frozen=True)
class Asked:
    """A request to the API."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Deployed:
    """The stack NAME, its API's answers in order (the last one is repeated), and what the API was asked."""

    api: list[Answer] = field(default_factory=lambda: [(200, document())])
    status: str = "CREATE_COMPLETE"
    outputs: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    """The code that CloudFormation answers everything with."""
    asked: list[Asked] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    """What is in its table, as DynamoDB's JSON."""
    invoked: list[Any] = field(default_factory=list)
    """The payloads that its functions were called with; each answers that it published COMPLETED."""
    credentials: set[str] = field(default_factory=set)
    """What CloudFormation was asked with."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stack": self}))
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
        """Where AWS is, to a client."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "WATERHOOK_STACK": NAME}

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.api.pop(0) if len(self.api) > 1 else self.api[0]

    def described(self, name: str | None) -> tuple[int, str]:
        if self.error:
            return 403, _refused(self.error, "it is so")
        if name not in {None, NAME}:
            return 400, _refused("ValidationError", f"Stack with id {name} does not exist")
        outputs = {
            "ApiUrl": f"{self.url}/live",
            "StateMachineArn": MACHINE,
            "TableName": "table",
            "BucketName": "bucket",
            "NotifyFunctionName": "notify",
        } | self.outputs
        told = "".join(
            f"<{kind}s>"
            + "".join(
                f"<member><{kind[:-1]}Key>{key}</{kind[:-1]}Key>"
                f"<{kind[:-1]}Value>{value}</{kind[:-1]}Value></member>"
                for key, value in named.items()
            )
            + f"</{kind}s>"
            for kind, named in (("Output_", outputs), ("Parameter_", PARAMETERS))
        ).replace("_", "")
        return 200, (
            f'<DescribeStacksResponse xmlns="{_XMLNS}"><DescribeStacksResult><Stacks><member>'
            f"<StackName>{NAME}</StackName><StackStatus>{self.status}</StackStatus>"
            f"<CreationTime>2026-01-01T00:00:00Z</CreationTime>{told}"
            "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )


def _refused(code: str, message: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"


class _Handler(BaseHTTPRequestHandler):
    stack: Deployed

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        target = self.headers.get("X-Amz-Target", "")
        if target.startswith("DynamoDB"):
            key = json.loads(body).get("Key")
            found = [item for item in self.stack.items if key is None or key.items() <= item.items()]
            said = {"Items": found} if target.endswith("Scan") else {"Item": found[0]} if found else {}
            self._say(200, json.dumps(said))
        elif self.path.startswith("/2015-03-31/functions/notify/"):
            self.stack.invoked.append(json.loads(body))
            self._say(200, json.dumps({"redelivered": True, "outcome": "COMPLETED"}))
        elif self.path == "/":
            self.stack.credentials.add(self.headers["Authorization"].partition("Credential=")[2][:4])
            asked = parse_qs(body.decode())
            status, text = self.stack.described(asked.get("StackName", [None])[0])
            self._say(status, text, "text/xml")
        else:
            self._from_api(json.loads(body))

    def do_GET(self) -> None:
        if urlsplit(self.path).path.startswith("/apikeys/"):
            self._say(200, json.dumps({"value": API_KEY}))
        else:
            self._from_api(None)

    def do_DELETE(self) -> None:
        self._from_api(None)

    def _from_api(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, said = self.stack.answer(Asked(self.command, self.path, headers, body))
        self._say(status, said if isinstance(said, str) else json.dumps(said))

    def _say(self, status: int, text: str, kind: str = "application/json") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name it has in the class
        pass
