"""Reads, writes and locks files that several processes use at the same time."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from . import interrupts


def write_json_file(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file as `write_private_file` does."""
    write_private_file(path, f"{json.dumps(document, indent=2)}\n".encode())


def write_private_file(path: Path, content: bytes) -> None:
    """Replace a file atomically, so that a reader never gets a part of it. Only the user can read the file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def read_json_file(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty object if the file is missing or invalid."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block. Wait while another process holds it, until Ctrl-C.

    The kernel releases the lock of a process that is killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path).acquire(cancel_check=_raise_if_interrupted):
        yield


def _raise_if_interrupted() -> bool:
    """Return False to continue the wait. Raises KeyboardInterrupt after a signal."""
    interrupts.check()
    return False
