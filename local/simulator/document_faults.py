"""Applies a fault to the JSON document of a response: pure functions that return the changed document."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlsplit

from local.simulator.fault_types import (
    CleanupSoon,
    DocumentFault,
    EchoForm,
    ForeignDocument,
    ForeignUrls,
    Huge,
    InvalidContent,
    Lag,
    Missing,
    NoOutput,
    NotFoundFor,
    Nulls,
    PipelinedDocument,
    ProgressBack,
    TinyProgress,
    UnknownStatus,
    WrongTypes,
)
from local.simulator.strict_json import JsonObject, write_json

_MIB = 1024 * 1024

TINY_PROGRESS = 1e-200
RUNNING = frozenset({"PENDING", "RUNNING"})


def apply_to_document(kind: DocumentFault, document: JsonObject, occurrence: int) -> JsonObject:  # noqa: PLR0911 - one return for each kind
    """Return the document with the fault. `occurrence`: how often the rule has applied, from 1."""
    match kind:
        case WrongTypes():
            return {
                name: _with_wrong_type(each) if kind.include(name) else each
                for name, each in document.items()
            }
        case Nulls():
            return {name: None if kind.include(name) else each for name, each in document.items()}
        case Missing():
            return {name: each for name, each in document.items() if not kind.include(name)}
        case Huge(mib=mib):
            return _padded(document, "x" * (mib * _MIB))
        case ForeignUrls(to=to):
            return {
                name: _on_other_server(each, to) if name.endswith("_url") else each
                for name, each in document.items()
            }
        case UnknownStatus(status=status):
            return {**document, "status": status}
        case ProgressBack() | TinyProgress():
            return (
                {**document, **_progress(kind, occurrence)} if document.get("status") in RUNNING else document
            )
        case NoOutput():
            return {name: each for name, each in document.items() if name != "final_output"}
        case CleanupSoon() | Lag() | ForeignDocument() | PipelinedDocument() | NotFoundFor():
            return document  # app.py applies these, because they need the execution


def make_invalid(how: InvalidContent, body: bytes) -> bytes:
    """Return the bytes of the document with invalid JSON or UTF-8 in its output or error message."""
    if how is InvalidContent.NAN:
        return body.replace(b'"final_output":{', b'"final_output":{"invalid":NaN,')
    body = body.replace(b'"final_output":{', b'"final_output":{"invalid":"\xff",')
    return body.replace(b'"error_message":"', b'"error_message":"\xff')


def echo_key(form: EchoForm, document: JsonObject, key: str) -> bytes:
    """Return the bytes of the document with `key` in its output, node, error message and source."""
    encoded = {
        EchoForm.URL: quote(key, safe=""),
        EchoForm.BASE64: b64encode(f"key={key}".encode()).decode(),
    }.get(form, key)
    placeholder = "<the key>"
    changed = document | dict.fromkeys(("current_node", "error_message", "execution_source"), placeholder)
    if isinstance(document.get("final_output"), dict):
        changed["final_output"] = {
            **document["final_output"],
            "echo": placeholder,
            placeholder: [placeholder],
        }
    text = json.dumps(encoded)[1:-1]
    if form is EchoForm.ESCAPED:
        text = "".join(f"\\u{ord(char):04x}" for char in encoded)
    return write_json(changed).replace(placeholder.encode(), text.encode())


def _with_wrong_type(value: Any) -> Any:
    match value:
        case None:
            return {}
        case bool():
            return "yes"
        case int() | float():
            return "many"
        case str():
            return [value]
        case _:
            return 7


def _padded(document: JsonObject, padding: str) -> JsonObject:
    if isinstance(document.get("final_output"), dict):
        return {**document, "final_output": {**document["final_output"], "padding": padding}}
    return {**document, "padding": padding}


def _on_other_server(url: str, to: str) -> str:
    return to + urlsplit(url).path


def _progress(kind: ProgressBack | TinyProgress, occurrence: int) -> JsonObject:
    if isinstance(kind, TinyProgress):
        return {"progress": TINY_PROGRESS}
    return {"progress": float(max(100 - 10 * occurrence, 0)), "retry_count": occurrence - 1}
