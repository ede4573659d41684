"""A simulator on a free port, and a client that sends it raw HTTP requests."""

import contextlib
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.simulator.app import Simulator
from local.simulator.server import HOST, Server, bind
from tests.support.waiting import until

KEY = "wf-key"
WITH_KEY = {"X-API-Key": KEY}
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, request: bytes) -> Response:
    """Send these bytes on a new connection, and read until the server closes it."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_chunks(body))
    return Response(int(first.split()[1]), headers, body)


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        yield body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


@dataclass(frozen=True, slots=True)
class Upstream:
    port: int

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] = WITH_KEY
    ) -> Response:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Connection: close"]
        if body is not None:
            headers = {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return send(self.port, "\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def start(self, chatbot_id: str, **simulate: Any) -> str:
        response = self.call("POST", f"/v1/executions/{chatbot_id}/async", start_body(**simulate))
        assert response.status == 202, response
        return str(response.json["execution_id"])

    def status(self, execution_id: str) -> Any:
        response = self.call("GET", f"/v1/executions/{execution_id}")
        assert response.status == 200, response
        return response.json

    def until_final(self, execution_id: str) -> Any:
        """Wait for the end of the job, which the control API shows without the faults of a status request."""

        def final_document() -> Any:
            executions = self.call("GET", "/_control/executions", headers={}).json["executions"]
            (document,) = [each for each in executions if each["execution_id"] == execution_id]
            return None if document["status"] in {"PENDING", "RUNNING"} else document

        until(final_document, 10)
        return self.status(execution_id)

    def reset(self) -> None:
        assert self.call("POST", "/_control/reset", headers={}).status == 200

    def requests(self) -> Any:
        return self.call("GET", "/_control/requests", headers={}).json

    def set_speed(self, factor: float) -> None:
        assert self.call("POST", "/_control/speed", json.dumps({"factor": factor}).encode()).status == 200


def start_body(**simulate: Any) -> bytes:
    return json.dumps({"input_data": {"query": "What is Waterflai?", "simulate": simulate}}).encode()


@contextlib.contextmanager
def running() -> Iterator[Upstream]:
    bound, base_url = bind()
    ready = threading.Event()
    server = Server(Simulator(KEY, base_url), ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Upstream(urllib.parse.urlsplit(base_url).port or 0)
    finally:
        server.should_exit = True
        thread.join(60)


def assert_is_detail(response: Response) -> None:
    assert response.headers["content-type"] == "application/json"
    assert list(response.json) == ["detail"]
    assert isinstance(response.json["detail"], str)
    assert KEY not in response.json["detail"]
