"""What faults make of a JSON document, purely: the document goes in, another comes out."""

from typing import Any
from urllib.parse import urlsplit

from local.waterflai.kinds import (
    CleanupSoon,
    DocumentKind,
    ForeignDocument,
    ForeignUrls,
    Huge,
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
from local.waterflai.wire import Object

_MIB = 1024 * 1024

TINY_PROGRESS = 1e-200
RUNNING = frozenset({"PENDING", "RUNNING"})


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
        case ProgressBack() | TinyProgress():
            return {**document, **_progress(kind, turn)} if document.get("status") in RUNNING else document
        case NoOutput():
            return {name: each for name, each in document.items() if name != "final_output"}
        case CleanupSoon() | Lag() | ForeignDocument() | PipelinedDocument() | NotFoundFor():
            return document  # it is made so where the execution is known


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


def _progress(kind: ProgressBack | TinyProgress, turn: int) -> Object:
    if isinstance(kind, TinyProgress):
        return {"progress": TINY_PROGRESS}
    return {"progress": float(max(100 - 10 * turn, 0)), "retry_count": turn - 1}
