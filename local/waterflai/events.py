"""An event stream as bytes: honest, or as a fault has it."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator

from local.waterflai.kinds import (
    Ends,
    FallsSilent,
    FalseEnd,
    Flood,
    Format,
    Junk,
    Newline,
    NoEnd,
    StreamKind,
)
from local.waterflai.wire import Object, write_json

_LAST = "execution_completed"
_NEWLINES = {Newline.LF: "\n", Newline.CRLF: "\r\n", Newline.CR: "\r"}
_BOM = b"\xef\xbb\xbf"

_FLOOD_STEP_S = 0.01
_LINE_PIECE = b"x" * 1024

# The last is neither the end of a job nor a word that a client can hash or compare.
_JUNK = b"".join(
    block + b"\n\n"
    for block in (
        b"data:",
        b"data",
        b"data: not JSON",
        b"data: [1, 2]",
        b"data: null",
        b"data: \xff\xfe\xed\xa0\x80",
        b"data: NaN",
        b'data: {"type": "execution_completed',
        b"unknown: field\n: nothing else",
        b"retry: soon\nid: a\x00b",
        b'data: {"type": "somebody_sneezed"}',
        b'data: {"type": ["execution_completed"], "progress": "much"}',
    )
)


def encoded(event: Object) -> bytes:
    """Return one event as the upstream sends it."""
    return b"data: " + write_json(event) + b"\n\n"


async def told(kind: StreamKind | None, events: AsyncIterator[Object]) -> AsyncIterator[bytes]:
    """Yield what is written, piece by piece."""
    match kind:
        case Format():
            pieces = _formatted(kind, events)
        case Flood():
            pieces = _flood(kind)
        case _:
            pieces = _altered(kind, events)
    async for piece in pieces:
        yield piece


async def _altered(kind: StreamKind | None, events: AsyncIterator[Object]) -> AsyncIterator[bytes]:
    match kind:
        case Ends(after_seconds=float(seconds)):
            events = _until(events, seconds)
        case Ends(after_events=count):
            events = _first(events, count)
        case FallsSilent():
            events = _with_silence(kind, events)
        case FalseEnd():
            events = _with_false_end(kind, events)
        case NoEnd():
            events = _without_end(kind, events)
    async for event in events:
        if isinstance(kind, Junk):
            yield _JUNK
        yield encoded(event)


async def _formatted(kind: Format, events: AsyncIterator[Object]) -> AsyncIterator[bytes]:
    first = _BOM if kind.bom else b""
    number = 0
    async for event in events:
        number += 1
        whole = first + spelled(kind, event, number)
        first = b""
        for piece in itertools.batched(whole, kind.chunk_bytes or len(whole), strict=False):
            yield bytes(piece)


def spelled(kind: Format, event: Object, number: int) -> bytes:
    """Return the `number`th event of a stream in another spelling of the same."""
    lines = []
    if kind.comments:
        lines += [": ping", "", ": in the same block as an event"]
    if kind.event_fields:
        lines += [f"id: {number}", f"event: {event['type']}", "retry: 3000"]
    # One space after the colon is not part of the data; it may be missing.
    spread = json.dumps(event, indent=1).split("\n") if kind.multiline else [write_json(event).decode()]
    lines += [
        f"data:{'' if kind.multiline and index % 2 else ' '}{line}" for index, line in enumerate(spread)
    ]
    end = _NEWLINES[kind.newline]
    return "".join(line + end for line in [*lines, ""]).encode()


async def _flood(kind: Flood) -> AsyncIterator[bytes]:
    if kind.endless_line:
        yield b'data: {"type": "progress_update", "padding": "'
    a_step = max(round(kind.per_second * _FLOOD_STEP_S), 1)
    for step in itertools.count():
        progress = {"type": "progress_update", "progress": float(step % 100)}
        yield (_LINE_PIECE if kind.endless_line else encoded(progress)) * a_step
        await asyncio.sleep(max(_FLOOD_STEP_S, a_step / kind.per_second))


async def _first(events: AsyncIterator[Object], count: int) -> AsyncIterator[Object]:
    for _ in range(count):
        try:
            yield await anext(events)
        except StopAsyncIteration:
            return


async def _until(events: AsyncIterator[Object], seconds: float) -> AsyncIterator[Object]:
    deadline_s = asyncio.get_running_loop().time() + seconds
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        while True:
            async with asyncio.timeout_at(deadline_s):
                event = await anext(events)
            yield event


async def _with_silence(kind: FallsSilent, events: AsyncIterator[Object]) -> AsyncIterator[Object]:
    async for event in _first(events, kind.after_events):
        yield event
    await asyncio.sleep(kind.seconds)
    async for event in events:
        yield event


async def _with_false_end(kind: FalseEnd, events: AsyncIterator[Object]) -> AsyncIterator[Object]:
    yield {"type": _LAST, "status": kind.status}
    if not kind.closes:
        async for event in events:
            yield event


async def _without_end(kind: NoEnd, events: AsyncIterator[Object]) -> AsyncIterator[Object]:
    async for event in events:
        if event["type"] != _LAST:
            yield event
    if not kind.closes:
        await asyncio.Event().wait()  # until the client has enough
