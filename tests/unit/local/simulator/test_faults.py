"""What the simulated upstream does wrong when asked to: a real server, listened to on bare sockets."""

import email.utils
import http.client
import itertools
import json
import logging
import math
import re
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.simulator.connection import CDN_PHRASES
from local.simulator.event_stream import format_event
from local.simulator.executions import FOREIGN_ID, FOREIGN_OUTPUT
from local.simulator.fault_rules import FAULT_TYPES, CallCounts, Operation, find_active_fault, parse_faults
from local.simulator.fault_types import Format, Newline
from local.simulator.server import HOST
from local.simulator.strict_json import InvalidValueError
from tests.contract.markdown import table
from tests.contract.template import ROOT
from tests.support.waiting import until
from tests.unit.local.simulator.simulator_client import (
    KEY,
    Answer,
    Upstream,
    as_body,
    running,
)

START = "/v1/executions/instant/async"
ELSEWHERE = "http://elsewhere.example:8080"
UNTIL_TOLD = 60  # as good as for ever


class End(Enum):
    CLOSED = auto()
    RESET = auto()
    SILENT = auto()  # open, but nothing comes any more


@dataclass(frozen=True, slots=True)
class Heard:
    data: bytes
    end: End

    @property
    def body(self) -> bytes:
        """What was inside of the chunks, or after the head."""
        head, _, rest = self.data.partition(b"\r\n\r\n")
        if b"chunked" not in head:
            return rest
        return b"".join(self.chunks)

    @property
    def chunks(self) -> list[bytes]:
        rest = self.data.partition(b"\r\n\r\n")[2]
        found = []
        while rest and not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            found.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return found


type Asked = tuple[str, str, bytes]


def receive(
    upstream: Upstream, method: str, path: str, body: bytes = b"", patience_s: float = 0.3, most: int = 10**9
) -> Heard:
    """One request, and all that comes back until the other side is done, or silent for so long."""
    with asked(upstream, method, path, body) as connection:
        return hear(connection, patience_s, most)


def asked(upstream: Upstream, method: str, path: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection((HOST, upstream.port), timeout=30)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def hear(connection: socket.socket, patience_s: float = 5, most: int = 10**9) -> Heard:
    connection.settimeout(patience_s)
    data = b""
    try:
        while len(data) < most and (piece := connection.recv(65_536)):
            data += piece
    except TimeoutError:
        return Heard(data, End.SILENT)
    except ConnectionResetError:
        return Heard(data, End.RESET)
    return Heard(data, End.CLOSED)


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with running() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream, caplog: pytest.LogCaptureFixture) -> Iterator[Upstream]:
    """The server as if just started. Whatever it does wrong, it means to."""
    assert server.call("POST", "/_control/reset", headers={}).status == 200
    yield server
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


def on(operation: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"on": operation, "kind": kind, **fields}


def request(upstream: Upstream, operation: str, *faults: dict[str, Any], **simulate: Any) -> Asked:
    """Method, path and body of one request of an operation, to an execution with these faults."""
    simulate = {"outcome": "ENDLESS", "queue_seconds": 0, "faults": list(faults), **simulate}
    if operation == "start":
        return "POST", START, as_body(**simulate)
    path = f"/v1/executions/{upstream.start('instant', **simulate)}"
    method = "DELETE" if operation == "cancel" else "GET"
    return method, f"{path}/stream" if operation == "stream" else path, b""


def named(value: Any) -> str | None:
    """The name of a test's row: the same in every process, which a function's address is not."""
    return None if callable(value) else str(value)


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events in a stream, read by the book: https://html.spec.whatwg.org/#event-stream-interpretation."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    found, data = [], []
    for line in re.split(r"\r\n|\n|\r", text):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            found.append(json.loads("\n".join(data)))
            data = []
    return found


# Connections

OPERATIONS = ["start", "status", "cancel", "stream"]


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_connection_is_reset_before_or_after_the_request_is_processed(
    upstream: Upstream, operation: str, *, processed: bool
) -> None:
    question = request(upstream, operation, on(operation, "reset", processed=processed))
    assert receive(upstream, *question) == Heard(b"", End.RESET)
    seen = upstream.requests()
    assert seen["received"][operation] == 1
    assert seen["responses"][operation] == {"unanswered": 1}
    (start,) = seen["starts"]
    if operation == "start":
        assert (start["fault"], start["status_code"]) == ("reset", None)
        assert (start["execution_id"] is not None) == processed
    if operation == "cancel":
        assert (upstream.status(start["execution_id"])["status"] == "CANCELLED") == processed


def test_a_reset_harms_no_other_connection(upstream: Upstream) -> None:
    with asked(upstream, *request(upstream, "stream")) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert receive(upstream, *request(upstream, "status", on("status", "reset"))).end is End.RESET
        upstream.call("POST", "/_control/reset", headers={})
        rest = hear(connection)
    assert (rest.data[-5:], rest.end) == (b"0\r\n\r\n", End.CLOSED)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_answer_stalls_and_comes_in_the_end(upstream: Upstream, operation: str) -> None:
    began_s = time.monotonic()
    question = request(upstream, operation, on(operation, "stall", seconds=0.2), outcome="COMPLETED")
    heard = receive(upstream, *question, patience_s=5)
    assert time.monotonic() - began_s >= 0.2
    assert heard.data.startswith(b"HTTP/1.1 20")
    assert heard.end is End.CLOSED


@pytest.mark.parametrize("processed", [False, True])
def test_who_leaves_a_stalled_start_leaves_a_job_behind_only_if_it_was_processed(
    upstream: Upstream, *, processed: bool
) -> None:
    question = request(upstream, "start", on("start", "stall", processed=processed))
    assert receive(upstream, *question) == Heard(b"", End.SILENT)
    until(lambda: upstream.requests()["responses"]["start"] == {"unanswered": 1}, 5)
    executions = upstream.call("GET", "/_control/executions", headers={}).json["executions"]
    assert len(executions) == processed


def test_a_body_drips_and_arrives_whole(upstream: Upstream) -> None:
    drip = on("status", "drip", chunk_bytes=100, pause_seconds=0.03, times=1)
    question = request(upstream, "status", drip)
    began_s = time.monotonic()
    slow = receive(upstream, *question)
    assert time.monotonic() - began_s >= 0.03 * (len(slow.body) // 100)
    assert json.loads(slow.body).keys() == json.loads(receive(upstream, *question).body).keys()


def test_a_stream_drips_byte_by_byte(upstream: Upstream) -> None:
    drip = on("stream", "drip", chunk_bytes=1, pause_seconds=0)
    heard = receive(upstream, *request(upstream, "stream", drip, outcome="COMPLETED"))
    assert {len(chunk) for chunk in heard.chunks} == {1}
    assert events_of(heard.body)[-1]["type"] == "execution_completed"


def test_an_answer_is_cut_off_in_the_middle_of_its_body(upstream: Upstream) -> None:
    heard = receive(upstream, *request(upstream, "status", on("status", "cut_off")))
    length = int(re.search(rb"content-length: (\d+)", heard.data)[1])  # type: ignore[index]
    assert (len(heard.body), heard.end) == (length // 2, End.RESET)


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("start", on("start", "stall", seconds=UNTIL_TOLD)),
        ("status", on("status", "drip", pause_seconds=10)),
        ("stream", on("stream", "falls_silent", seconds=UNTIL_TOLD)),
        ("stream", on("stream", "no_end")),
    ],
)
def test_a_reset_of_the_simulator_ends_what_is_held_up(
    upstream: Upstream, operation: str, fault: dict[str, Any]
) -> None:
    with asked(upstream, *request(upstream, operation, fault, outcome="COMPLETED")) as connection:
        until(lambda: upstream.requests()["received"][operation] == 1, 5)
        upstream.call("POST", "/_control/reset", headers={})
        assert hear(connection).end is End.RESET


# More than one answer on a connection


def keep_alive(upstream: Upstream) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(HOST, upstream.port, timeout=30)
    connection.connect()
    return connection


def answer_on(connection: http.client.HTTPConnection, question: Asked) -> http.client.HTTPResponse:
    """The next answer on a connection that is kept alive, its body still to be read."""
    method, path, body = question
    headers = {"X-API-Key": KEY, **({"Content-Type": "application/json"} if body else {})}
    connection.request(method, path, body or None, headers)
    return connection.getresponse()


def pieces_on(connection: socket.socket, question: Asked, count: int) -> list[bytes]:
    """What is received as so many answers, each but the interim ones with a JSON body, to one request."""
    method, path, _ = question
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    pieces: list[bytes] = []
    while b"".join(pieces).count(b"HTTP/1.1 ") < count or not pieces[-1].endswith(b"}"):
        pieces.append(connection.recv(65_536))
        assert pieces[-1], "the connection was closed"
    return pieces


@pytest.mark.parametrize("codes", [[103], [102, 103, 103], [100], [199]], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_interim_answers_come_before_the_real_one(
    upstream: Upstream, operation: str, codes: list[int]
) -> None:
    fault = on(operation, "interim", codes=codes)
    heard = receive(upstream, *request(upstream, operation, fault, outcome="COMPLETED"), patience_s=5)
    *interim, real = re.findall(rb"^HTTP/1.1 (\d+)", heard.data, re.MULTILINE)
    assert [int(code) for code in interim] == codes
    assert heard.data.count(b"\r\nLink: </>; rel=preconnect\r\n\r\n") == len(codes)
    assert int(real) == (202 if operation == "start" else 200)
    assert list(upstream.requests()["responses"][operation]) == [real.decode()]


def test_a_connection_lives_on_after_interim_answers(upstream: Upstream) -> None:
    question = request(upstream, "status", on("status", "interim", times=1))
    with socket.create_connection((HOST, upstream.port), timeout=30) as connection:
        for codes in ([b"103", b"200"], [b"200"]):
            told = b"".join(pieces_on(connection, question, len(codes)))
            assert re.findall(rb"^HTTP/1.1 (\d+)", told, re.MULTILINE) == codes


def test_interim_answers_may_come_long_before_the_real_one(upstream: Upstream) -> None:
    began_s = time.monotonic()
    fault = on("status", "interim", codes=[102, 102], pause_seconds=0.1)
    assert receive(upstream, *request(upstream, "status", fault), patience_s=5).end is End.CLOSED
    assert time.monotonic() - began_s >= 0.2


@pytest.mark.parametrize(("reset", "end"), [(False, End.CLOSED), (True, End.RESET)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_idle_connection_is_closed_although_it_was_promised_to_be_kept(
    upstream: Upstream, operation: str, end: End, *, reset: bool
) -> None:
    began_s = time.monotonic()
    fault = on(operation, "closes_idle", after_seconds=0.2, reset=reset)
    with closing(keep_alive(upstream)) as connection:
        answer = answer_on(connection, request(upstream, operation, fault, outcome="COMPLETED"))
        assert answer.getheader("connection") == "keep-alive"
        assert answer.getheader("keep-alive") == "timeout=75"
        assert answer.status == (202 if operation == "start" else 200)
        assert answer.read()
        assert hear(connection.sock, patience_s=30) == Heard(b"", end)
    assert time.monotonic() - began_s >= 0.2


def test_a_connection_in_use_is_not_closed_and_then_lives_as_long_as_ever(upstream: Upstream) -> None:
    question = request(upstream, "status", on("status", "closes_idle", after_seconds=1, times=1))
    with closing(keep_alive(upstream)) as connection:
        for _ in range(2):
            assert json.loads(answer_on(connection, question).read())["status"] == "RUNNING"
        assert hear(connection.sock, patience_s=1.5) == Heard(b"", End.SILENT)


# Content codings


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
@pytest.mark.parametrize("operation", ["start", "status", "cancel"])
def test_a_document_has_a_content_coding(
    upstream: Upstream, operation: str, encoding: str, window: int
) -> None:
    answer = upstream.call(*request(upstream, operation, on(operation, "encoded", encoding=encoding)))
    assert answer.headers["content-encoding"] == encoding
    assert "content-length" not in answer.headers
    assert json.loads(zlib.decompress(answer.body, window))["execution_id"]


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
def test_each_event_of_an_encoded_stream_can_be_decoded_when_it_arrives(
    upstream: Upstream, encoding: str, window: int
) -> None:
    heard = stream(upstream, "encoded", encoding=encoding)
    decoder = zlib.decompressobj(window)
    decoded = [decoder.decompress(chunk) for chunk in heard.chunks]
    assert [event["type"] for piece in decoded for event in events_of(piece)] == HONEST
    assert decoder.eof


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_said_to_be_brotli_is_nothing(upstream: Upstream, operation: str) -> None:
    fault = on(operation, "encoded", encoding="br")
    answer = upstream.call(*request(upstream, operation, fault, outcome="COMPLETED"))
    assert answer.headers["content-encoding"] == "br"
    assert answer.body.startswith(b"\x11")
    with pytest.raises(UnicodeDecodeError):
        answer.body.decode()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_small_body_unfolds_to_a_bomb(upstream: Upstream, operation: str) -> None:
    fault = on(operation, "bomb", mib=3)
    answer = upstream.call(*request(upstream, operation, fault, outcome="COMPLETED"))
    assert len(answer.body) < 30_000
    body = zlib.decompress(answer.body, 31)
    assert len(body) > 3 * 2**20
    if operation == "stream":
        assert [event["type"] for event in events_of(body)][-1] == "execution_completed"
    else:
        assert json.loads(body)["execution_id"]


def test_a_bomb_is_as_large_as_it_is_by_default_and_delays_no_other_request(upstream: Upstream) -> None:
    with asked(upstream, *request(upstream, "status", on("status", "bomb"))) as connection:
        connection.recv(1)
        assert upstream.status(upstream.start("instant"))["status"] == "COMPLETED"
        body = Heard(b"H" + hear(connection).data, End.CLOSED).body
    decoder, size = zlib.decompressobj(31), 0
    while not decoder.eof:
        size += len(decoder.decompress(body, 2**20))
        body = decoder.unconsumed_tail
    assert len(body) == 0
    assert size > 200 * 2**20


# Other answers


def has_page(answer: Answer) -> bool:
    return answer.headers["content-type"].startswith("text/html") and b"<html>" in answer.body


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"code": 401}, lambda answer: answer.json == {"detail": "Unauthorized"}),
        ({"code": 404, "detail": "gone"}, lambda answer: answer.json == {"detail": "gone"}),
        ({"code": 429, "retry_after": 2}, lambda answer: answer.headers["retry-after"] == "2"),
        ({"code": 429, "retry_after": "soon"}, lambda answer: answer.headers["retry-after"] == "soon"),
        ({"code": 503, "retry_after_date": 5}, lambda answer: 4 < seconds_until(answer) <= 6),
        ({"code": 500}, lambda answer: answer.json == {"detail": "Internal Server Error"}),
        ({"code": 502, "html": True}, has_page),
        ({"code": 200, "html": True}, has_page),
        ({"code": 200, "body": ""}, lambda answer: answer.body == b""),
        (
            {"code": 202, "body": '{"execution_id": "../x"}'},
            lambda answer: answer.json["execution_id"] == "../x",
        ),
        ({"code": 200, "body": "\ud800"}, lambda answer: answer.body == b"\xed\xa0\x80"),
        ({"code": 204, "detail": "nothing"}, lambda answer: answer.body == b""),
    ],
    ids=named,
)
@pytest.mark.parametrize("operation", ["start", "stream"])
def test_any_status_code_can_be_answered(
    upstream: Upstream, operation: str, fields: dict[str, Any], holds: Callable[[Answer], bool]
) -> None:
    answer = upstream.call(*request(upstream, operation, on(operation, "status_code", **fields)))
    assert answer.status == fields["code"]
    assert holds(answer), answer
    assert upstream.requests()["responses"][operation] == {str(fields["code"]): 1}


@pytest.mark.parametrize("code", [520, 524, 528, 530])
def test_the_codes_of_a_content_delivery_network_have_their_phrases(upstream: Upstream, code: int) -> None:
    phrase = CDN_PHRASES.get(code, "")
    for processed in (False, True):
        fault = on("start", "status_code", code=code, html=True, processed=processed)
        head = receive(upstream, *request(upstream, "start", fault)).data
        assert head.startswith(f"HTTP/1.1 {code} {phrase}\r\n".encode())
        assert f"<title>{code} {phrase or 'Unknown'}</title>".encode() in head
        assert (upstream.requests()["starts"][-1]["execution_id"] is not None) == processed


def seconds_until(answer: Answer) -> float:
    moment = email.utils.parsedate_to_datetime(answer.headers["retry-after"])
    return (moment - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize("processed", [False, True])
def test_a_start_refused_may_have_been_processed(upstream: Upstream, *, processed: bool) -> None:
    fault = on("start", "status_code", code=503, html=True, processed=processed)
    assert upstream.call(*request(upstream, "start", fault)).status == 503
    (start,) = upstream.requests()["starts"]
    assert (start["status_code"], start["fault"]) == (503, "status_code")
    assert (start["execution_id"] is not None) == processed


def test_a_redirect_leads_to_the_same_path_elsewhere(upstream: Upstream) -> None:
    method, path, _ = request(upstream, "status", on("status", "redirect", to=ELSEWHERE + "/", code=307))
    answer = upstream.call(method, path)
    assert (answer.status, answer.headers["location"]) == (307, ELSEWHERE + path)


# Documents


def is_elsewhere(accepted: dict[str, str]) -> bool:
    url = f"{ELSEWHERE}/v1/executions/{accepted['execution_id']}"
    return list(accepted.values())[1:] == [url, f"{url}/stream", url]


@pytest.mark.parametrize(
    ("operation", "fault", "holds"),
    [
        ("status", on("status", "wrong_types"), lambda told: told["status"] == ["COMPLETED"]),
        ("status", on("status", "wrong_types"), lambda told: told["progress"] == "many"),
        ("status", on("status", "wrong_types"), lambda told: told["is_temporary"] == "yes"),
        (
            "status",
            on("status", "wrong_types", fields=["progress"]),
            lambda told: told["status"] == "COMPLETED",
        ),
        ("status", on("status", "nulls"), lambda told: len(told) > 10 and set(told.values()) == {None}),
        ("status", on("status", "nulls", fields=["progress"]), lambda told: told["status"] == "COMPLETED"),
        ("status", on("status", "missing", fields=["status"]), lambda told: told and "status" not in told),
        ("status", on("status", "missing"), lambda told: told == {}),
        ("status", on("status", "unknown_status"), lambda told: told["status"] == "ARCHIVING"),
        ("status", on("status", "unknown_status", status=""), lambda told: told["status"] == ""),
        ("status", on("status", "no_output"), lambda told: told["status"] == "COMPLETED"),
        ("status", on("status", "no_output"), lambda told: "final_output" not in told),
        ("status", on("status", "invalid_output"), lambda told: math.isnan(told["final_output"]["invalid"])),
        ("status", on("status", "echo_key"), lambda told: told["final_output"]["echo"] == KEY),
        ("status", on("status", "echo_key", form="escaped"), lambda told: told["execution_source"] == KEY),
        ("status", on("status", "huge", mib=2), lambda told: len(told["final_output"]["padding"]) == 2**21),
        ("start", on("start", "wrong_types"), lambda told: isinstance(told["execution_id"], list)),
        ("start", on("start", "nulls"), lambda told: told["execution_id"] is None),
        ("start", on("start", "foreign_urls", to=ELSEWHERE), is_elsewhere),
        ("cancel", on("cancel", "missing", fields=["cancelled"]), lambda told: "cancelled" not in told),
    ],
    ids=named,
)
def test_a_document_is_not_what_the_contract_says(
    upstream: Upstream, operation: str, fault: dict[str, Any], holds: Callable[[Any], bool]
) -> None:
    question = request(upstream, operation, fault, outcome="COMPLETED", output={"answer": 1})
    answer = upstream.call(*question)
    assert answer.status == (202 if operation == "start" else 200)
    assert holds(answer.json), answer.json


@pytest.mark.parametrize("operation", ["start", "status", "cancel"])
def test_half_a_document_is_sent_as_the_whole(upstream: Upstream, operation: str) -> None:
    answer = upstream.call(*request(upstream, operation, on(operation, "truncated")))
    assert int(answer.headers["content-length"]) == len(answer.body) > 0
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        assert answer.json


def test_a_body_is_larger_than_anybody_wants(upstream: Upstream) -> None:
    answer = upstream.call(*request(upstream, "status", on("status", "huge")))
    assert len(answer.body) > 20_000_000
    assert answer.json["status"] == "RUNNING"


def test_progress_goes_backwards_until_the_end(upstream: Upstream) -> None:
    method, path, _ = request(upstream, "status", on("status", "progress_back"))
    told = [upstream.call(method, path).json for _ in range(3)]
    assert [(each["progress"], each["retry_count"]) for each in told] == [(90.0, 0), (80.0, 1), (70.0, 2)]
    upstream.call("DELETE", path)
    assert upstream.call(method, path).json["retry_count"] == 0


def test_an_execution_is_cleaned_up_when_it_was_said_to_be(upstream: Upstream) -> None:
    method, path, _ = request(upstream, "status", on("status", "cleanup_soon", seconds=0.5, after=1, times=1))
    far, *soon = (upstream.call(method, path).json["cleanup_after"] for _ in range(3))
    assert len(set(soon)) == 1
    assert soon[0] < far
    due, asked_at = datetime.fromisoformat(soon[0]), datetime.now(UTC)
    while upstream.call(method, path).status != 404:
        assert asked_at <= due + timedelta(milliseconds=1)  # which the timestamp is cut to
        asked_at = datetime.now(UTC)
    assert datetime.now(UTC) >= due


def test_a_status_lags_behind_the_truth_in_all_it_tells(upstream: Upstream) -> None:
    lag = on("status", "lag", seconds=1.0)
    simulate = {"outcome": "COMPLETED", "queue_seconds": 0, "seconds": 0.3, "output": {"answer": 1}}
    began_s = time.monotonic()
    method, path, _ = request(upstream, "status", lag, **simulate)
    assert (
        events_of(receive(upstream, "GET", f"{path}/stream", patience_s=5).body)[-1]["status"] == "COMPLETED"
    )
    late = upstream.call(method, path).json
    if time.monotonic() - began_s < 1.0:  # be the machine as busy as it may
        assert (late["status"], late["progress"], late["completed_at"]) == ("PENDING", 0.0, None)
        assert "final_output" not in late
    until(lambda: upstream.call(method, path).json["status"] == "COMPLETED", 10)
    assert time.monotonic() - began_s >= 1.2
    assert upstream.call(method, path).json["final_output"] == {"answer": 1}


def test_a_lag_hides_a_cancel_for_a_while_but_not_from_the_next_cancel(upstream: Upstream) -> None:
    method, path, _ = request(upstream, "status", on("status", "lag", seconds=1.0))
    began_s = time.monotonic()
    assert upstream.call("DELETE", path).json["cancelled"] is True
    assert upstream.call("DELETE", path).json["previous_status"] == "CANCELLED"
    assert upstream.call(method, path).json["status"] in {"PENDING", "RUNNING", "CANCELLED"}
    until(lambda: upstream.call(method, path).json["status"] == "CANCELLED", 10)
    assert time.monotonic() - began_s >= 0.9


@pytest.mark.parametrize("operation", ["status", "stream"])
def test_a_young_job_is_not_found(upstream: Upstream, operation: str) -> None:
    began_s = time.monotonic()
    fault = on(operation, "not_found_for", seconds=0.8)
    method, path, _ = request(upstream, operation, fault, outcome="COMPLETED")
    early = upstream.call(method, path)
    if time.monotonic() - began_s < 0.8:
        assert (early.status, early.json) == (404, {"detail": "Execution not found"})
    until(lambda: upstream.call(method, path).status == 200, 10)
    assert time.monotonic() - began_s >= 0.8


@pytest.mark.parametrize(("given", "told"), [(3, "3"), (0.5, "0.5"), ("soon", "soon")])
def test_a_status_asks_its_client_to_slow_down_until_the_end(
    upstream: Upstream, given: Any, told: str
) -> None:
    method, path, _ = request(upstream, "status", on("status", "slow_down", retry_after=given))
    running_still = upstream.call(method, path)
    assert (running_still.status, running_still.json["status"]) == (200, "RUNNING")
    assert running_still.headers["retry-after"] == told
    upstream.call("DELETE", path)
    assert "retry-after" not in upstream.call(method, path).headers


def test_the_progress_of_a_running_job_is_tiny(upstream: Upstream) -> None:
    method, path, _ = request(upstream, "status", on("status", "tiny_progress"), seconds=60)
    assert upstream.call(method, path).json["progress"] == 1e-200
    upstream.call("DELETE", path)
    assert upstream.call(method, path).json["progress"] != 1e-200


@pytest.mark.parametrize("code", [200, 202, 204])
def test_a_job_is_cancelled_without_a_word(upstream: Upstream, code: int) -> None:
    method, path, _ = request(upstream, "cancel", on("cancel", "empty_answer", code=code))
    answer = upstream.call(method, path)
    assert (answer.status, answer.body) == (code, b"")
    assert "content-type" not in answer.headers
    assert answer.headers.get("content-length") == (None if code == 204 else "0")
    assert upstream.status(path.rpartition("/")[2])["status"] == "CANCELLED"


@pytest.mark.parametrize("operation", ["status", "cancel"])
def test_the_answer_is_about_another_execution(upstream: Upstream, operation: str) -> None:
    method, path, _ = request(upstream, operation, on(operation, "foreign_document", times=1))
    document = upstream.call(method, path).json
    honest = upstream.status(path.rpartition("/")[2])
    assert honest["status"] == ("CANCELLED" if operation == "cancel" else "RUNNING")
    assert (document["execution_id"], document["status"]) == (FOREIGN_ID, "COMPLETED")
    assert document["final_output"] == FOREIGN_OUTPUT
    assert (document["progress"], document["completed_nodes"]) == (100.0, document["total_nodes"])
    assert document.keys() == honest.keys() | {"final_output"}
    assert upstream.call("GET", f"/v1/executions/{FOREIGN_ID}").status == 404


@pytest.mark.parametrize("operation", ["status", "cancel"])
def test_a_second_answer_comes_in_the_bytes_of_the_first(upstream: Upstream, operation: str) -> None:
    method, path, _ = request(upstream, operation, on(operation, "pipelined_document", times=1))
    with socket.create_connection((HOST, upstream.port), timeout=30) as connection:
        pieces = pieces_on(connection, (method, path, b""), 2)
        assert len(pieces) == 1 or sys.platform != "linux"
        honest, foreign = bodies_of(b"".join(pieces))
        assert (honest["execution_id"], foreign["execution_id"]) == (path.rpartition("/")[2], FOREIGN_ID)
        assert foreign["final_output"] == FOREIGN_OUTPUT
        (body,) = bodies_of(b"".join(pieces_on(connection, (method, path, b""), 1)))
        assert body["execution_id"] == path.rpartition("/")[2]


def test_a_second_answer_may_come_later(upstream: Upstream) -> None:
    question = request(upstream, "status", on("status", "pipelined_document", pause_seconds=0.3))
    began_s = time.monotonic()
    with socket.create_connection((HOST, upstream.port), timeout=30) as connection:
        honest, foreign = bodies_of(b"".join(pieces_on(connection, question, 2)))
    assert time.monotonic() - began_s >= 0.3
    assert (honest["status"], foreign["execution_id"]) == ("RUNNING", FOREIGN_ID)


def test_there_is_no_second_answer_where_the_client_closes(upstream: Upstream) -> None:
    for pause_s in (0, 0.1):
        fault = on("status", "pipelined_document", pause_seconds=pause_s)
        heard = receive(upstream, *request(upstream, "status", fault), patience_s=5)
        assert (len(bodies_of(heard.data)), heard.end) == (1, End.CLOSED)


def bodies_of(data: bytes) -> list[Any]:
    """The JSON bodies of complete answers, one behind the other."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        found.append(json.loads(data[:length]))
        data = data[length:]
    return found


# Streams


def stream(
    upstream: Upstream, kind: str, *, patience_s: float = 30, most: int = 10**9, **fields: Any
) -> Heard:
    """What a stream of one node tells that is opened well before it runs, be the machine as busy as it may."""
    # A stream that is over after some seconds counts from when it was opened: the node runs on for long.
    seconds = 60 if "after_seconds" in fields else 0.1
    simulate = {"outcome": "COMPLETED", "queue_seconds": 0.4, "seconds": seconds}
    question = request(upstream, "stream", on("stream", kind, **fields), **simulate)
    return receive(upstream, *question, patience_s=patience_s, most=most)


HONEST = ["node_started", "node_completed", "execution_completed"]


@pytest.mark.parametrize(
    ("kind", "fields", "told", "end"),
    [
        ("ends", {}, [], End.CLOSED),
        ("ends", {"after_events": 1}, HONEST[:1], End.CLOSED),
        ("ends", {"after_events": 9}, HONEST, End.CLOSED),
        ("ends", {"after_seconds": 1.0}, HONEST[:1], End.CLOSED),
        ("ends", {"after_events": 2, "reset": True}, HONEST[:2], End.RESET),
        ("falls_silent", {}, [], End.SILENT),
        ("falls_silent", {"after_events": 1}, HONEST[:1], End.SILENT),
        ("falls_silent", {"after_events": 1, "seconds": 0.05}, HONEST, End.CLOSED),
        ("false_end", {}, ["execution_completed", *HONEST], End.CLOSED),
        ("false_end", {"closes": True}, ["execution_completed"], End.CLOSED),
        ("no_end", {}, HONEST[:2], End.SILENT),
        ("no_end", {"closes": True}, HONEST[:2], End.CLOSED),
        ("heartbeats", {}, [], End.SILENT),
        ("heartbeats", {"closes": True}, [], End.CLOSED),
        ("buffered", {}, HONEST, End.CLOSED),
        ("buffered", {"released": False}, [], End.SILENT),
        ("buffered", {"head": False}, HONEST, End.CLOSED),
        ("buffered", {"head": False, "released": False}, [], End.SILENT),
        ("replays", {}, HONEST, End.CLOSED),
        ("long_comment", {}, HONEST, End.CLOSED),
        ("tiny_progress", {}, HONEST, End.CLOSED),
        ("not_found_for", {"seconds": 0}, HONEST, End.CLOSED),
        ("stall", {}, [], End.SILENT),
        ("reset", {}, [], End.RESET),
        ("format", {}, HONEST, End.CLOSED),
    ],
    ids=str,
)
def test_a_stream_breaks_its_promises(
    upstream: Upstream, kind: str, fields: dict[str, Any], told: list[str], end: End
) -> None:
    heard = stream(upstream, kind, patience_s=1.5 if end is End.SILENT else 30, **fields)
    assert ([event["type"] for event in events_of(heard.body)], heard.end) == (told, end)
    has_head = kind not in {"stall", "reset"} and (fields.get("head", True) or told != [])
    assert heard.data.startswith(b"HTTP/1.1 200") == has_head


ODD = {"bom": True, "comments": True, "multiline": True, "event_fields": True}


@pytest.mark.parametrize("newline", ["lf", "crlf", "cr"])
def test_a_stream_is_spelled_in_every_way_that_is_allowed(upstream: Upstream, newline: str) -> None:
    heard = stream(upstream, "format", newline=newline, chunk_bytes=1, **ODD)
    assert [event["type"] for event in events_of(heard.body)] == HONEST
    assert {len(chunk) for chunk in heard.chunks} == {1}
    assert heard.body.startswith(b"\xef\xbb\xbf: ping")
    ends = {b"\r\n", b"\n", b"\r"}
    assert ends & set(re.findall(rb"\r\n|\n|\r", heard.body)) == {
        {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[newline]
    }


@pytest.mark.parametrize("options", [*itertools.product([False, True], repeat=3)])
def test_every_spelling_means_the_same(options: tuple[bool, bool, bool]) -> None:
    event = {"type": "node_started", "node_id": 'é "\n\u2028', "nested": {"a": [1, {}]}}
    comments, multiline, event_fields = options
    for newline in Newline:
        kind = Format(newline=newline, comments=comments, multiline=multiline, event_fields=event_fields)
        assert events_of(format_event(kind, event, 1)) == [event]
        assert (b": ping" in format_event(kind, event, 1)) == comments
        assert (b"retry:" in format_event(kind, event, 1)) == event_fields


def test_junk_stands_between_the_events(upstream: Upstream) -> None:
    body = stream(upstream, "junk").body
    assert body.count(b"data: not JSON\n\n") == body.count(b"data:\n\n") == len(HONEST)
    for event in HONEST:
        assert f'\n\ndata: {{"type":"{event}"'.encode() in body


@pytest.mark.parametrize(
    ("as_events", "beat"), [(False, b": ping\n\n"), (True, b"event: ping\ndata: {}\n\n")]
)
@pytest.mark.parametrize("closes", [False, True])
def test_a_stream_has_heartbeats_but_no_event(
    upstream: Upstream, beat: bytes, *, as_events: bool, closes: bool
) -> None:
    fields = {"every_seconds": 0.1, "as_events": as_events, "closes": closes}
    # Where it stays open, it does so for longer than the job takes.
    heard = stream(upstream, "heartbeats", most=10**9 if closes else 200 + 15 * (len(beat) + 8), **fields)
    assert set(heard.chunks) >= {beat}
    assert heard.body.replace(beat, b"") in ({b""} if closes else {beat[:n] for n in range(len(beat))})
    assert heard.body.count(beat) >= (2 if closes else 10)


def test_progress_goes_on_after_the_end(upstream: Upstream) -> None:
    question = request(
        upstream, "stream", on("stream", "events_go_on", every_seconds=0.05), outcome="COMPLETED", seconds=0.8
    )
    told = events_of(
        receive(upstream, *question, patience_s=5, most=3_000).body.rpartition(b"\n\n")[0] + b"\n\n"
    )
    assert {event["type"] for event in told} == {"progress_update"}
    progress = [event["progress"] for event in told]
    assert progress == sorted(progress)
    assert progress[0] < 100
    assert progress[-10:] == [100.0] * 10


@pytest.mark.parametrize("head", [False, True])
def test_a_proxy_sends_nothing_of_a_stream_before_the_end(upstream: Upstream, *, head: bool) -> None:
    question = request(
        upstream, "stream", on("stream", "buffered", head=head), outcome="COMPLETED", seconds=2
    )
    with asked(upstream, *question) as connection:
        early = hear(connection, patience_s=0.7)
        assert (early.data.startswith(b"HTTP/1.1 200"), early.body) == (head, b"")
        late = hear(connection)
    whole = Heard(early.data + late.data, late.end)
    assert len(whole.chunks) == 1
    assert [event["type"] for event in events_of(whole.body)][-1] == "execution_completed"


def test_a_reconnect_gets_the_events_of_the_past_once_more(upstream: Upstream) -> None:
    ends = on("stream", "ends", after_events=1, times=1)
    _, path, _ = request(upstream, "stream", ends, on("stream", "replays"), outcome="COMPLETED", seconds=0.1)
    told = [
        [event["type"] for event in events_of(receive(upstream, "GET", path, patience_s=5).body)]
        for _ in range(3)
    ]
    assert told == [told[0], HONEST, HONEST]
    assert len(told[0]) == 1


@pytest.mark.parametrize("kib", [1, 1024])
def test_a_comment_and_an_unknown_field_are_long(upstream: Upstream, kib: int) -> None:
    comment, field, data = stream(upstream, "long_comment", kib=kib).body.split(b"\n", 2)
    assert comment == b": " + b"x" * kib * 1024
    assert field == b"unknown: " + b"x" * kib * 1024
    assert data.startswith(b'data: {"type":"node_started"')


def test_the_progress_that_a_stream_tells_is_tiny(upstream: Upstream) -> None:
    question = request(upstream, "stream", on("stream", "tiny_progress"), outcome="COMPLETED", seconds=2.5)
    body = receive(upstream, *question, patience_s=5).body
    progress = {event["progress"] for event in events_of(body) if event["type"] == "progress_update"}
    assert progress == {1e-200}


def test_a_flood_never_ends_and_keeps_nobody_else_waiting(upstream: Upstream) -> None:
    began_s = time.monotonic()
    heard = stream(upstream, "flood", most=300_000, per_second=50_000)
    assert time.monotonic() - began_s < 60
    assert {event["type"] for event in events_of(heard.body)} == {"progress_update"}
    assert upstream.status(upstream.start("instant"))["status"] == "COMPLETED"


def test_a_line_never_ends(upstream: Upstream) -> None:
    body = stream(upstream, "flood", most=300_000, endless_line=True).body
    assert len(body) > 250_000
    assert b"\n" not in body


def test_a_stream_is_not_found_once_the_job_is_done(upstream: Upstream) -> None:
    gone = on("stream", "status_code", code=404, when="final")
    _, path, _ = request(upstream, "stream", gone, outcome="COMPLETED", queue_seconds=0.1)
    assert receive(upstream, "GET", path).end is End.CLOSED
    assert upstream.call("GET", path).status == 404


# Which call


@pytest.mark.parametrize(
    ("window", "acted"),
    [
        ({}, "xxxxxx"),
        ({"times": 2}, "xx...."),
        ({"after": 2}, "..xxxx"),
        ({"after": 1, "times": 3}, ".xxx.."),
        ({"when": "running"}, "xxx..."),
        ({"when": "final"}, "...xxx"),
        ({"when": "final", "after": 1, "times": 1}, "....x."),
        ({"when": "running", "times": 1}, "x....."),
    ],
    ids=str,
)
def test_a_fault_acts_on_the_calls_it_is_meant_for(window: dict[str, Any], acted: str) -> None:
    faults = parse_faults("faults", [on("status", "reset", **window)])
    calls = [CallCounts(running=min(n, 3), final=max(n - 3, 0), is_final=n > 3) for n in range(1, 7)]
    seen = ["x" if find_active_fault(faults, Operation.STATUS, each) else "." for each in calls]
    assert "".join(seen) == acted
    assert not any(find_active_fault(faults, Operation.CANCEL, each) for each in calls)


def test_faults_take_turns(upstream: Upstream) -> None:
    faults = [on("status", "status_code", code=500 + n, after=n, times=1) for n in range(3)]
    method, path, _ = request(upstream, "status", *faults)
    assert [upstream.call(method, path).status for _ in range(4)] == [500, 501, 502, 200]


def test_calls_are_counted_for_each_execution_by_itself(upstream: Upstream) -> None:
    fault = on("status", "status_code", code=503, times=1)
    one, other = (request(upstream, "status", fault) for _ in range(2))
    assert [upstream.call(*question).status for question in (one, other, one, other)] == [503, 503, 200, 200]
    listed = upstream.call("GET", "/_control/executions", headers={}).json["executions"]
    assert [each["received"]["status"] for each in listed] == [2, 2]


def test_starts_are_known_by_what_they_start(upstream: Upstream) -> None:
    question = request(upstream, "start", on("start", "reset", times=2))
    assert [receive(upstream, *question).end for _ in range(3)] == [End.RESET, End.RESET, End.CLOSED]
    started = [start["execution_id"] for start in upstream.requests()["starts"]]
    assert started[:2] == [None, None]
    assert started[2]


# For all executions


def set_global_faults(upstream: Upstream, *faults: dict[str, Any]) -> Answer:
    return upstream.call("POST", "/_control/faults", json.dumps({"faults": faults}).encode(), headers={})


def test_a_fault_can_stand_for_all_executions(upstream: Upstream) -> None:
    before = request(upstream, "status")
    assert upstream.call(*before).status == 200
    fault = on("status", "status_code", code=503, times=1)
    assert set_global_faults(upstream, fault).json == {"faults": 1}
    after = request(upstream, "status")
    own = request(upstream, "status", on("status", "status_code", code=401, times=1))
    # Counted from when it was set, for each by itself; what an execution asked for itself comes first.
    for question, codes in ((before, [503, 200]), (after, [503, 200]), (own, [401, 200])):
        assert [upstream.call(*question).status for _ in codes] == codes
    set_global_faults(upstream, fault)
    assert upstream.call(*before).status == 503


@pytest.mark.parametrize(("path", "body"), [("faults", b'{"faults": []}'), ("reset", None)])
def test_faults_for_all_are_cleared(upstream: Upstream, path: str, body: bytes | None) -> None:
    set_global_faults(upstream, on("start", "reset"))
    assert receive(upstream, *request(upstream, "start")).end is End.RESET
    assert upstream.call("POST", f"/_control/{path}", body, headers={}).status == 200
    assert receive(upstream, *request(upstream, "start")).end is End.CLOSED


# The key


def test_a_rotated_key_is_refused_from_then_on(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    path = f"/v1/executions/{upstream.start('instant')}"
    with caplog.at_level(logging.INFO):
        rotated = upstream.call("POST", "/_control/key", b'{"api_key": "wf-new"}', headers={})
    assert (rotated.status, rotated.json) == (200, {"rotated": True})
    assert "wf-new" not in caplog.text
    assert upstream.call("GET", path).status == 401
    assert upstream.call("GET", path, headers={"X-API-Key": "wf-new"}).status == 200
    upstream.call("POST", "/_control/reset", headers={})
    assert upstream.call("GET", path).status == 404


# Descriptions


@pytest.mark.parametrize(
    ("faults", "detail"),
    [
        ({}, ": expected list, got object"),
        ([on("start", "reset")] * 51, ": expected at most 50"),
        ([on("poll", "reset")], "[0].on: expected one of"),
        ([{"on": "status"}], "[0].kind: expected one of reset, stall"),
        ([on("stream", "huge")], "[0].kind: expected one of"),
        ([on("status", "reset", seconds=1)], "[0]: no such field: seconds. Expected any of on, kind, times"),
        ([on("status", "status_code")], "[0].code: missing, and this kind requires it"),
        ([on("status", "status_code", code=99)], "[0].code: expected 200 to 599"),
        ([on("status", "stall", seconds="1")], "[0].seconds: expected number, got string"),
        ([on("start", "stall", when="final")], "[0].when: not allowed for `start`"),
        ([on("start", "redirect", to="//evil")], "[0].to: expected a URL"),
        ([on("start", "interim", codes=[101])], "[0].codes[0]: 101 is not allowed"),
        ([on("status", "slow_down", retry_after="a\nb")], "[0].retry_after: expected printable"),
        ([on("stream", "heartbeats", as_events="yes")], "[0].as_events: expected boolean, got string"),
        ([on("start", "bomb", mib=1025)], "[0].mib: expected 1 to 1024"),
        ([on("stream", "format", newline="lfcr")], "[0].newline: expected one of lf, crlf, cr"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_description_that_makes_no_sense_is_refused(upstream: Upstream, faults: Any, detail: str) -> None:
    body = json.dumps({"faults": faults}).encode()
    refused = upstream.call("POST", "/_control/faults", body, headers={})
    assert refused.status == 422
    assert refused.json["detail"].startswith(f"faults{detail}")
    refused = upstream.call("POST", START, as_body(faults=faults))
    assert refused.status == 422
    assert refused.json["detail"].startswith(f"input_data.simulate.faults{detail}")
    assert upstream.requests()["starts"] == []


names = st.sampled_from(sorted({name for kinds in FAULT_TYPES.values() for name in kinds}))
words = st.sampled_from([*OPERATIONS, "final", "crlf", "http://a", "x"]) | st.text(max_size=5)
values = st.none() | st.booleans() | st.integers() | st.floats() | words | st.lists(words, max_size=2)
fields = st.sampled_from(
    [
        *("code", "to", "seconds", "times", "after", "when", "fields", "newline", "retry_after", "x"),
        *("codes", "encoding", "mib", "every_seconds", "kib"),
    ]
)
descriptions = st.builds(
    lambda described, more: {**described, **more},
    st.fixed_dictionaries({"on": st.sampled_from(OPERATIONS), "kind": names}),
    st.dictionaries(fields, values, max_size=3),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(descriptions | values, max_size=3))
def test_a_description_is_understood_or_refused(described: Any) -> None:
    try:
        faults = parse_faults("faults", described)
    except InvalidValueError:
        return
    assert [fault.name for fault in faults] == [each["kind"] for each in described]


NEEDED: dict[str, dict[str, Any]] = {
    "status_code": {"code": 500},
    "redirect": {"to": ELSEWHERE},
    "foreign_urls": {"to": ELSEWHERE},
}
ALL_KINDS = [(operation.value, kind) for operation in FAULT_TYPES for kind in FAULT_TYPES[operation]]


@pytest.mark.parametrize(("operation", "kind"), ALL_KINDS)
def test_every_kind_needs_no_more_than_its_name(upstream: Upstream, operation: str, kind: str) -> None:
    question = request(upstream, operation, on(operation, kind, **NEEDED.get(kind, {})), outcome="COMPLETED")
    receive(upstream, *question, patience_s=0.05, most=10_000)
    assert upstream.requests()["received"][operation] == 1


def test_every_kind_is_documented() -> None:
    document = (ROOT / "local" / "simulator" / "README.md").read_text(encoding="utf-8")
    documented = {row[0]: row[1] for row in table(document, "kind")}
    for kind in {kind for _, kind in ALL_KINDS}:
        having = [operation.value for operation in FAULT_TYPES if kind in FAULT_TYPES[operation]]
        assert documented.pop(kind) == ("any" if having == OPERATIONS else ", ".join(having))
    assert documented == {}
