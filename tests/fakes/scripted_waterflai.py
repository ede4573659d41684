"""A Waterflai with a script for each operation, over HTTP on the loopback interface."""

import json
import socket
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from tests.fakes.scripted_server import (
    Request,
    ScriptedServer,
    Step,
    hang_up,
    reply,
)

API_KEY = "a-key-of-the-scripted-upstream"
_OPERATIONS = {"POST": "start", "GET": "status", "DELETE": "cancel"}

type Response = Step


def response(status: int = 200, body: str = "{}", headers: dict[str, str] | None = None) -> Response:
    """Send a response and close the connection, so that each request has a connection of its own."""
    return reply(status, body, {"Connection": "close"} | (headers or {}), close=True)


def started(execution_id: str) -> Response:
    """Accept a start."""
    return response(202, json.dumps({"execution_id": execution_id}))


def status(name: str, **fields: object) -> Response:
    """Send a status document."""
    return response(body=json.dumps({"status": name} | fields))


def completed(final_output: str) -> Response:
    """Send the status document of a completed job. `final_output` is JSON, which is sent as it is."""
    return response(body=f'{{"status": "COMPLETED", "progress": 100.0, "final_output": {final_output}}}')


def http_error(code: int, detail: str = "no", **headers: str) -> Response:
    """Send an error in Waterflai's format. `Retry_After="7"` becomes a header."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return response(code, json.dumps({"detail": detail}), names)


def on_request(respond: Callable[[], Response]) -> Response:
    """Call a function when the request arrives, and send the response that it returns."""

    def step(connection: socket.socket) -> None:
        respond()(connection)

    return step


NO_RESPONSE = hang_up
CANCELLED = response(body='{"cancelled": true, "message": "cancelled", "previous_status": "RUNNING"}')
TOO_LATE = response(body='{"cancelled": false, "message": "already over", "previous_status": "COMPLETED"}')


def operation_of(request: Request) -> str:
    """Return start, status, cancel or stream."""
    return "stream" if request.target.endswith("/stream") else _OPERATIONS[request.method]


class ScriptedWaterflai:
    """Sends the next response in the script of the operation that is requested; the last one is repeated."""

    def __init__(self) -> None:
        self.port = 0
        self._server = ExitStack()
        self.reset()

    def reset(self) -> None:
        """Delete the requests. Accept each start, keep jobs running, accept cancellations, and refuse streams."""
        self.key = API_KEY
        self.requests: list[Request] = []
        self._scripts = {
            "start": [on_request(lambda: started(str(uuid.uuid4())))],
            "status": [status("RUNNING")],
            "cancel": [CANCELLED],
            "stream": [http_error(404)],
        }

    def respond_with(self, operation: str, *responses: Response) -> Self:
        """Replace the script of start, status, cancel or stream."""
        self._scripts[operation] = list(responses)
        return self

    def count(self, operation: str) -> int:
        """Return how many requests of an operation were received."""
        return sum(operation_of(request) == operation for request in self.requests)

    def open(self) -> None:
        """Accept connections, on the same port as before if it was open before."""
        server = ScriptedServer([], route=self._script_for, port=self.port)
        self.port = self._server.enter_context(server).port

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.close()

    def _script_for(self, request: Request) -> list[Step]:
        self.requests.append(request)
        if request.headers.get("x-api-key") != self.key:
            return [http_error(401, "the key is not known")]
        return self._scripts[operation_of(request)]
