"""Builds the bytes of an event stream, normal or with a fault of fault_types.py."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator

from local.simulator.document_faults import TINY_PROGRESS
from local.simulator.executions import Execution, Executions
from local.simulator.fault_types import (
    Buffered,
    Ends,
    EventsGoOn,
    FallsSilent,
    FalseEnd,
    Flood,
    Format,
    Heartbeats,
    Junk,
    LongComment,
    Newline,
    NoEnd,
    Replays,
    StreamFault,
    TinyProgress,
)
from local.simulator.strict_json import JsonObject, write_json

_LAST = "execution_completed"
_PROGRESS = "progress_update"
_NEWLINES = {Newline.LF: "\n", Newline.CRLF: "\r\n", Newline.CR: "\r"}
_BOM = b"\xef\xbb\xbf"

_FLOOD_STEP_S = 0.01
_LINE_PIECE = b"x" * 1024

_PING = b": ping\n\n"
_PING_EVENT = b"event: ping\ndata: {}\n\n"

# The type of the last event is a list: a client that uses it as a dictionary key fails.
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
        b'data: {"type": "unknown_type"}',
        b'data: {"type": ["execution_completed"], "progress": "much"}',
    )
)


def encode_event(event: JsonObject) -> bytes:
    """Return the bytes of one event."""
    return b"data: " + write_json(event) + b"\n\n"


async def event_bytes(
    kind: StreamFault | None, executions: Executions, execution: Execution
) -> AsyncIterator[bytes]:
    """Yield the bytes of the event stream of `execution`, with the fault `kind` if it is not None."""
    events = executions.follow(execution, replays=isinstance(kind, Replays))
    match kind:
        case Format():
            pieces = _formatted(kind, events)
        case Flood():
            pieces = _flood(kind)
        case Heartbeats():
            pieces = _heartbeats(kind, executions, execution)
        case EventsGoOn():
            pieces = _repeated_progress(kind, executions, execution)
        case Buffered():
            pieces = _buffered(kind, events)
        case LongComment():
            pieces = _with_long_comment(kind, events)
        case _:
            pieces = _altered(kind, events)
    async for piece in pieces:
        yield piece


async def _altered(kind: StreamFault | None, events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
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
        case TinyProgress():
            events = _with_tiny_progress(events)
    async for event in events:
        if isinstance(kind, Junk):
            yield _JUNK
        yield encode_event(event)


async def _formatted(kind: Format, events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
    first = _BOM if kind.bom else b""
    number = 0
    async for event in events:
        number += 1
        whole = first + format_event(kind, event, number)
        first = b""
        for piece in itertools.batched(whole, kind.chunk_bytes or len(whole), strict=False):
            yield bytes(piece)


def format_event(kind: Format, event: JsonObject, number: int) -> bytes:
    """Return the bytes of an event in the unusual but valid syntax of `kind`. `number` is its position from 1."""
    lines = []
    if kind.comments:
        lines += [": ping", "", ": in the same block as an event"]
    if kind.event_fields:
        lines += [f"id: {number}", f"event: {event['type']}", "retry: 3000"]
    # The space after the colon is optional: it is not part of the data.
    data_lines = json.dumps(event, indent=1).split("\n") if kind.multiline else [write_json(event).decode()]
    lines += [
        f"data:{'' if kind.multiline and index % 2 else ' '}{line}" for index, line in enumerate(data_lines)
    ]
    end = _NEWLINES[kind.newline]
    return "".join(line + end for line in [*lines, ""]).encode()


async def _flood(kind: Flood) -> AsyncIterator[bytes]:
    if kind.endless_line:
        yield b'data: {"type": "progress_update", "padding": "'
    events_per_step = max(round(kind.per_second * _FLOOD_STEP_S), 1)
    for step in itertools.count():
        progress = {"type": _PROGRESS, "progress": float(step % 100)}
        yield (_LINE_PIECE if kind.endless_line else encode_event(progress)) * events_per_step
        await asyncio.sleep(max(_FLOOD_STEP_S, events_per_step / kind.per_second))


async def _heartbeats(kind: Heartbeats, executions: Executions, execution: Execution) -> AsyncIterator[bytes]:
    while True:
        yield _PING_EVENT if kind.as_events else _PING
        if not kind.closes:
            await asyncio.sleep(kind.every_seconds)
        elif await executions.ended(execution, kind.every_seconds):
            return


async def _repeated_progress(
    kind: EventsGoOn, executions: Executions, execution: Execution
) -> AsyncIterator[bytes]:
    while True:
        yield encode_event({"type": _PROGRESS, "progress": executions.snapshot(execution).progress})
        await asyncio.sleep(kind.every_seconds)


async def _buffered(kind: Buffered, events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
    held_back = b"".join([encode_event(event) async for event in events])
    if not kind.released:
        await asyncio.Event().wait()  # until the client disconnects
    yield held_back


async def _with_long_comment(kind: LongComment, events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
    for name in (b": ", b"unknown: "):
        yield name
        for _ in range(kind.kib):
            yield _LINE_PIECE
            await asyncio.sleep(0)  # lets the server detect a disconnected client
        yield b"\n"
    async for event in events:
        yield encode_event(event)


async def _first(events: AsyncIterator[JsonObject], count: int) -> AsyncIterator[JsonObject]:
    for _ in range(count):
        try:
            yield await anext(events)
        except StopAsyncIteration:
            return


async def _until(events: AsyncIterator[JsonObject], seconds: float) -> AsyncIterator[JsonObject]:
    deadline_s = asyncio.get_running_loop().time() + seconds
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        while True:
            async with asyncio.timeout_at(deadline_s):
                event = await anext(events)
            yield event


async def _with_silence(kind: FallsSilent, events: AsyncIterator[JsonObject]) -> AsyncIterator[JsonObject]:
    async for event in _first(events, kind.after_events):
        yield event
    await asyncio.sleep(kind.seconds)
    async for event in events:
        yield event


async def _with_false_end(kind: FalseEnd, events: AsyncIterator[JsonObject]) -> AsyncIterator[JsonObject]:
    yield {"type": _LAST, "status": kind.status}
    if not kind.closes:
        async for event in events:
            yield event


async def _without_end(kind: NoEnd, events: AsyncIterator[JsonObject]) -> AsyncIterator[JsonObject]:
    async for event in events:
        if event["type"] != _LAST:
            yield event
    if not kind.closes:
        await asyncio.Event().wait()  # until the client disconnects


async def _with_tiny_progress(events: AsyncIterator[JsonObject]) -> AsyncIterator[JsonObject]:
    async for event in events:
        yield {**event, "progress": TINY_PROGRESS} if event["type"] == _PROGRESS else event
