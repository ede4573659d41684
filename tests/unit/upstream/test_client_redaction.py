"""Redaction in the client: no result and no error contains a key that the upstream returns."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from tests.fakes.api_key import FakeKey
from tests.fakes.scripted_server import EVENT_STREAM, ScriptedServer, Step, chunked, raw, reply, sequence
from tests.unit.upstream.test_key_redaction import FORMS, JSON
from waterhook.domain.status_document import FlawedDocumentError, StatusDocument
from waterhook.errors import UpstreamError
from waterhook.upstream.client import WaterflaiClient
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

KEY = "wfk/live+0123456789abcdef"
FIELDS = [name for name in StatusDocument.__dataclass_fields__ if name != "final_output_json"]


def client(server: ScriptedServer, *keys: str) -> WaterflaiClient:
    return WaterflaiClient(server.url, FakeKey(*(keys or (KEY,))))


def text_of_result(call: Callable[[], Any]) -> str:
    """Return the result or the error of a call as one text."""
    try:
        result = call()
    except FlawedDocumentError as error:
        return f"{error.message} {asdict(error.document)}"
    except UpstreamError as error:
        return f"{error.message} {error.code} {error.args} {error.retry_after_s}"
    return str(result)


def has_key(text: str, echoed: str) -> bool:
    return KEY in text or echoed.strip("=") in text or KEY[:12] in text


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_in_any_field_and_form_is_not_in_the_document(form: Callable[[str], str]) -> None:
    echoed = form(KEY)
    fields: dict[str, Any] = dict.fromkeys(FIELDS, f"a {echoed} z") | {
        "status": "FAILED",
        "final_output": {echoed: [echoed]},
    }
    for write in JSON.values():
        members = [
            f'"{name}":{write(str(value))}' for name, value in fields.items() if name != "final_output"
        ]
        with ScriptedServer([reply(200, "{" + ",".join(members) + "}")]) as server:
            document = client(server).status("e")
        if "u00" not in write("a") or "%" not in echoed:
            assert not has_key(str(document), echoed), write
    with ScriptedServer([reply(200, json.dumps(fields | {"status": "COMPLETED"}))]) as server:
        output = str(client(server).status("e").final_output_json)
    assert not has_key(output, echoed)
    assert "***" in output
    json.loads(output)


ANSWERS: dict[str, Callable[[str], Step]] = {
    "a detail": lambda text: reply(500, {"detail": f"bad {text}"}),
    "a detail at its end": lambda text: reply(422, {"detail": "x" * 290 + text}),
    "a page": lambda text: reply(502, f"<html>{text}</html>"),
    "a content coding": lambda text: reply(200, "{}", {"Content-Encoding": f"br-{text}"}),
    "a content coding cut": lambda text: reply(200, "{}", {"Content-Encoding": "x" * 20 + text}),
    "a transfer coding": lambda text: reply(200, "{}", {"Transfer-Encoding": f"x-{text}"}),
    "a date to wait for": lambda text: reply(503, "{}", {"Retry-After": text}),
    "a name": lambda text: reply(200, json.dumps({text: 1, "message": text, "cancelled": False})),
    "a previous status": lambda text: reply(200, {"cancelled": False, "previous_status": text}),
    "chunks that cut it": lambda text: chunked(
        *(bytes([each]) for each in json.dumps({"message": text}).encode())
    ),
    "no HTTP": lambda text: raw(f"{text}\r\n\r\n".encode()),
    "another execution": lambda text: reply(200, {"execution_id": text}),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("form", ["plain", "quoted", "base64, one byte before", "quoted twice"])
def test_a_key_in_any_response_is_in_no_result_and_in_no_error(
    answer: Callable[[str], Step], form: str
) -> None:
    echoed = FORMS[form](KEY)
    with ScriptedServer([answer(echoed)]) as server:
        calls = [lambda: client(server).status("e"), lambda: client(server).cancel("e")]
        assert not any(has_key(text_of_result(call), echoed) for call in calls)


def test_the_old_and_the_new_key_are_redacted_after_a_rotation() -> None:
    old, new = "the-old-key-of-before", "the-new-key-of-today"
    refusal = reply(401, {"detail": f"{old} is old"})
    document = reply(200, {"status": "FAILED", "error_message": f"{old}, {new}"})
    with ScriptedServer([refusal, document]) as server:
        result = client(server, old, new).status("e")
    assert result.error_message == "***, ***"


def events(server: ScriptedServer) -> list[StreamEvent | StreamEnd]:
    stream = client(server).open_stream("e", ends_at=float("inf"), idle_timeout_s=20)
    received: list[StreamEvent | StreamEnd] = []
    try:
        while not received or not isinstance(received[-1], StreamEnd):
            event = stream.next(20)
            assert event is not None
            received.append(event)
    finally:
        stream.close()
    return received


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_key_in_an_event_is_not_in_the_returned_event(form: Callable[[str], str]) -> None:
    echoed = form(KEY)
    data = json.dumps({"type": f"node_{echoed}", "node_id": f"n {echoed}", "progress": 5})
    named = f"event: node_{echoed}\ndata: {json.dumps({'current_node': echoed})}\n\n"
    content = f"data: {data}\n\n{named}".encode()
    pieces = [content[at : at + 7] for at in range(0, len(content), 7)]
    with ScriptedServer([sequence(EVENT_STREAM, *pieces)]) as server:
        first, second, end = events(server)
    assert not has_key(f"{first} {second} {end}", echoed)
    assert isinstance(first, StreamEvent)
    assert first.progress == 5
    assert "***" in f"{first.type} {first.node_id}"


def test_a_key_in_the_refusal_of_a_stream_is_redacted() -> None:
    with ScriptedServer([reply(401, {"detail": f"bad {KEY}"})]) as server:
        [end] = events(server)
    assert "***" in str(end)
    assert KEY not in repr(end)
