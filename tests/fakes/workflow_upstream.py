"""A scripted Waterflai on the loopback interface: it answers as a test told it to, and remembers what was asked."""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

API_KEY = "a-key-of-the-scripted-upstream"
_OPERATIONS = {"POST": "start", "GET": "status", "DELETE": "cancel"}
_STREAM = "/stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `status` 0 is a connection closed without one."""

    status: int = HTTPStatus.OK
    body: str = "{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    stalls: bool = False
    """After its head nothing comes, until the other side hangs up."""


type Script = Answer | Callable[[], Answer]

NO_ANSWER = Answer(0)
CANCELLED = Answer(body='{"cancelled": true, "message": "cancelled", "previous_status": "RUNNING"}')
TOO_LATE = Answer(body='{"cancelled": false, "message": "already over", "previous_status": "COMPLETED"}')


def status(word: str, **fields: object) -> Answer:
    """Return a status document."""
    return Answer(body=json.dumps({"status": word} | fields))


def completed(final_output: str) -> Answer:
    """Return the status document of a finished job, its output written exactly as given."""
    return Answer(body=f'{{"status": "COMPLETED", "progress": 100.0, "final_output": {final_output}}}')


def refused(code: int, detail: str = "no", **headers: str) -> Answer:
    """Return an error as the upstream words it; `Retry_After="7"` becomes a header."""
    return Answer(
        code, json.dumps({"detail": detail}), {name.replace("_", "-"): text for name, text in headers.items()}
    )


def stream(*events: object) -> Answer:
    """Return an event stream that ends after its events."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Answer(body=f": ping\n\n{body}", headers={"Content-Type": "text/event-stream"})


def _started() -> Answer:
    return Answer(HTTPStatus.ACCEPTED, json.dumps({"execution_id": str(uuid.uuid4())}))


class Waterflai:
    """The upstream. `says` scripts an operation; its last answer is repeated for ever."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self.port = 0
        self.reset()

    def reset(self) -> None:
        """Forget all requests; take every start, run for ever, and let itself be cancelled."""
        self.requests: list[tuple[str, str, Any]] = []
        self._scripts: dict[str, list[Script]] = {
            "start": [_started],
            "status": [status("RUNNING")],
            "cancel": [CANCELLED],
            "stream": [refused(HTTPStatus.NOT_FOUND)],
        }
        self.key = API_KEY

    def says(self, operation: str, *answers: Script) -> Self:
        """Script what start, status, cancel or stream answer from now on."""
        self._scripts[operation] = list(answers)
        return self

    def count(self, operation: str) -> int:
        """Return how often an operation was asked for."""
        return sum(name == operation for name, _, _ in self.requests)

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> Answer:
        """Return the next answer of the script."""
        operation = "stream" if path.endswith(_STREAM) else _OPERATIONS[method]
        self.requests.append((operation, path, json.loads(body) if body else None))
        if key != self.key:
            return refused(HTTPStatus.UNAUTHORIZED, "the key is not known")
        script = self._scripts[operation]
        answer = script.pop(0) if len(script) > 1 else script[0]
        return answer if isinstance(answer, Answer) else answer()

    def open(self) -> None:
        """Listen, on the port it had before if there was one."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from here on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], upstream: Waterflai) -> None:
        self.upstream = upstream
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.upstream.answer(self.command, self.path, self.headers.get("X-API-Key"), body)
        if not answer.status:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = answer.body.encode()
        self.send_response(answer.status)
        for name, text in answer.headers.items():
            self.send_header(name, text)
        if not answer.stalls:
            self.send_header("Content-Length", str(len(content)))
        if answer.stalls:
            self.close_connection = True
            self.end_headers()
            self.connection.settimeout(5)
            with suppress(OSError):
                self.connection.recv(1)
            return
        # Kept connections would outlive `close` and answer for a server that is gone.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET = do_DELETE = _respond  # noqa: N815 - the names http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
