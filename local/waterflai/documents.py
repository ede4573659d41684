"""What faults make of a JSON document, purely: the document goes in, another comes out."""

from typing import Any
from urllib.parse import urlsplit

from local.waterflai.kinds import (
    CleanupSoon,
    DocumentKind,
    ForeignUrls,
    Huge,
    Missing,
    NoOutput,
    Nulls,
    ProgressBack,
    UnknownStatus,
    WrongTypes,
)
from local.waterflai.wire import Object

_MIB = 1024 * 1024
_RUNNING = frozenset({"PENDING", "RUNNING"})


def reshaped(kind: DocumentKind, document: Object, turn: int) -> Object:  # noqa: PLR0911 - one a kind
    """Return what is told in the place of `document`, the `turn`th time."""
    match kind:
        case WrongTypes():
            return {name: _wrong(each) if kind.include(name) else each for name, each in document.items()}
        case Nulls():
            return {name: None if kind.include(name) else each for name, each in document.items()}
        case Missing():
            return {name: each for name, each in document.items() if not kind.include(name)}
        case Huge(mib=mib):
            return _padded(document, "x" * (mib * _MIB))
        case ForeignUrls(to=to):
            return {
                name: _moved(each, to) if name.endswith("_url") else each for name, each in document.items()
            }
        case UnknownStatus(status=status):
            return {**document, "status": status}
        case ProgressBack():
            return {**document, **_set_back(turn)} if document.get("status") in _RUNNING else document
        case NoOutput():
            return {name: each for name, each in document.items() if name != "final_output"}
        case CleanupSoon():
            return document  # it already says so: the execution itself was changed


def _wrong(value: Any) -> Any:
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


def _padded(document: Object, padding: str) -> Object:
    if isinstance(document.get("final_output"), dict):
        return {**document, "final_output": {**document["final_output"], "padding": padding}}
    return {**document, "padding": padding}


def _moved(url: str, to: str) -> str:
    return to + urlsplit(url).path


def _set_back(turn: int) -> Object:
    return {"progress": float(max(100 - 10 * turn, 0)), "retry_count": turn - 1}
