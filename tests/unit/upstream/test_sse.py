"""Decoder of server-sent events: the same bytes give the same events, in any chunks."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waterhook.errors import StreamOverflowError
from waterhook.upstream.sse import MAX_EVENT_BYTES, MAX_LINE_BYTES, SseDecoder, SseEvent


def message(data: str, *, id: str = "", retry_ms: int | None = None) -> SseEvent:  # noqa: A002 - the field's name
    return SseEvent("message", data, id, retry_ms)


# A stream and its events, by what they show.
STREAMS: dict[str, tuple[bytes, list[SseEvent]]] = {
    "nothing": (b"", []),
    "events of the upstream": (
        b'data: {"type": "progress_update", "progress": 50.0}\n\ndata: {"type": "execution_completed"}\n\n',
        [
            message('{"type": "progress_update", "progress": 50.0}'),
            message('{"type": "execution_completed"}'),
        ],
    ),
    "LF": (b"data: a\n\ndata: b\n\n", [message("a"), message("b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [message("a"), message("b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [message("a"), message("b")]),
    "line ends mixed": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", [message("a\nb\nc"), message("d")]),
    "CR CR LF is two line ends, CR LF LF too": (
        b"data: a\r\r\ndata: b\r\n\n",
        [message("a"), message("b")],
    ),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\r", [message("a"), message("b")]),
    "other separators are text": (
        "data: a\u2028b\u0085c\x0bd\x0ce\x1cf\n\n".encode(),
        [message("a\u2028b\u0085c\x0bd\x0ce\x1cf")],
    ),
    "BOM at the start": (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    "BOM before a blank line": (b"\xef\xbb\xbf\ndata: a\n\n", [message("a")]),
    "only one BOM": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [message("b")]),
    "BOM later is part of the name": (b"data: a\n\xef\xbb\xbfdata: b\n\n", [message("a")]),
    "BOM in data is text": (b"data: \xef\xbb\xbfa\n\n", [message("\ufeffa")]),
    "part of a BOM is a part of the name": (b"\xef\xbbdata: a\n\ndata: b\n\n", [message("b")]),
    "comments": (b": ping\n\n:\n\ndata: a\n: b\ndata: c\n\n", [message("a\nc")]),
    "comments only": (b": ping\n\n: ping\n\n: ping\n\n", []),
    "a comment with the name of a field": (b":data: a\n\n", []),
    "data on several lines": (b"data: a\ndata: b\ndata: c\n\n", [message("a\nb\nc")]),
    "empty lines of data": (b"data: a\ndata:\ndata\ndata: b\n\n", [message("a\n\n\nb")]),
    "one empty line of data is data": (b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]),
    "one space after the colon is left out": (
        b"data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\n",
        [message("a"), message("a"), message(" a"), message("\ta")],
    ),
    "a space before the colon belongs to the name": (b"data : a\n\n data: b\n\n", []),
    "a space alone is a line": (b"data: a\n \ndata: b\n\n", [message("a\nb")]),
    "the value keeps its colons": (b"data: a:b: c\n\ndata::\n\n", [message("a:b: c"), message(":")]),
    "names in another case are unknown": (b"Data: a\nDATA: b\nEVENT: c\n\n", []),
    "unknown fields": (b"type: x\nfoo\ndata: a\nbar: y\n\n", [message("a")]),
    "event": (
        b"event: add\ndata: 1\n\nevent: remove\ndata: 2\n\n",
        [SseEvent("add", "1"), SseEvent("remove", "2")],
    ),
    "event holds for one event": (
        b"event: add\ndata: 1\n\ndata: 2\n\n",
        [SseEvent("add", "1"), message("2")],
    ),
    "event without data is dropped": (b"event: add\n\ndata: 1\n\n", [message("1")]),
    "the last event field holds": (b"event: a\ndata: 1\nevent: b\n\n", [SseEvent("b", "1")]),
    "empty event field": (b"event: a\nevent\ndata: 1\n\n", [message("1")]),
    "id persists": (
        b"id: 7\ndata: a\n\ndata: b\n\nid: 8\ndata: c\n\n",
        [message("a", id="7"), message("b", id="7"), message("c", id="8")],
    ),
    "id without data persists too": (b"id: 7\n\n: ping\n\ndata: a\n\n", [message("a", id="7")]),
    "id alone dispatches nothing": (b"id: 7\n\n\n\n", []),
    "empty id removes the id": (b"id: 7\ndata: a\n\nid\ndata: b\n\n", [message("a", id="7"), message("b")]),
    "id with NUL is ignored": (b"id: 7\nid: 8\x009\ndata: a\n\n", [message("a", id="7")]),
    "NUL elsewhere is text": (b"event: \x00\ndata: \x00\n\n", [SseEvent("\x00", "\x00")]),
    "retry": (
        b"retry: 1500\ndata: a\n\ndata: b\n\n",
        [message("a", retry_ms=1500), message("b", retry_ms=1500)],
    ),
    "retry alone dispatches nothing": (b"retry: 10\n\ndata: a\n\n", [message("a", retry_ms=10)]),
    "retry is digits only": (
        b"retry: 1.5\nretry: -1\nretry: +1\nretry: 1_0\nretry: 0x1\n"
        + "retry:  1\nretry: \u0661\nretry\ndata: a\n\n".encode(),
        [message("a")],
    ),
    "retry with leading zeros": (
        b"retry: 0007\ndata: a\n\nretry: 000\ndata: b\n\n",
        [message("a", retry_ms=7), message("b", retry_ms=0)],
    ),
    "a huge retry is ignored": (
        b"retry: 5\nretry: " + b"9" * 5000 + b"\ndata: a\n\n",
        [message("a", retry_ms=5)],
    ),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [message("a")]),
    "no line end at the end": (b"data: a\n\ndata: b", [message("a")]),
    "blank lines": (b"\n\n\r\n\r\r\ndata: a\n\n\n\n", [message("a")]),
    "text beyond ASCII": ("event: grün\ndata: Zürich 🌊\n\n".encode(), [SseEvent("grün", "Zürich 🌊")]),
    "bad bytes": (
        b"data: a\xffb\xc3\ndata: \xe2\x82\nid: \x80\nevent: \xf0\x9f\n\n",
        [SseEvent("\ufffd", "a\ufffdb\ufffd\n\ufffd", "\ufffd")],
    ),
    "a character cut by a line end is two": (
        b"data: \xe2\ndata: \x82\xac\n\n",
        [message("\ufffd\n\ufffd\ufffd")],
    ),
    "surrogates are bad bytes": (b"data: \xed\xa0\x80\n\n", [message("\ufffd" * 3)]),
    "bad bytes in a name": (b"data\xff: a\n\n", []),
    "the standard's stock ticker": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
    "the standard's four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [message("first event", id="1"), message("second event")],
    ),
}


def decoded(*chunks: bytes) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


cuts = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_in_any_chunks_gives_its_events(stream: bytes, events: list[SseEvent]) -> None:
    assert decoded(stream) == events
    assert decoded(*(bytes([byte]) for byte in stream)) == events
    for place in range(min(len(stream), 200)):
        assert decoded(stream[:place], b"", stream[place:]) == events


@given(st.lists(st.sampled_from(sorted(STREAMS)), max_size=6), cuts)
def test_consecutive_streams_give_the_same_events_in_any_chunks(names: list[str], places: list[int]) -> None:
    stream = b"".join(STREAMS[name][0] for name in names)

    assert decoded(*cut(stream, places)) == decoded(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_yielded_with_the_byte_that_ends_it(end: bytes) -> None:
    decoder = SseDecoder()

    assert list(decoder.feed(b"data: a" + end)) == []
    assert list(decoder.feed(end[:1])) == [message("a")]


# ---- Limits ---------------------------------------------------------------------------------------------------


def small_decoder() -> SseDecoder:
    return SseDecoder(max_line_bytes=16, max_event_bytes=24)


def until_overflow(decoder: SseDecoder, chunks: list[bytes]) -> tuple[list[SseEvent], bool]:
    events: list[SseEvent] = []
    try:
        for chunk in chunks:
            events.extend(decoder.feed(chunk))
    except StreamOverflowError:
        return events, True
    return events, False


LIMITS: dict[str, tuple[bytes, list[str], bool]] = {
    "a line at its limit": (b"data: 789.123456\n\n", ["789.123456"], False),
    "a line beyond it": (b"data: 789.1234567\n\n", [], True),
    "a line beyond it, never ended": (b"data: 789.1234567", [], True),
    "a type beyond it": (b"event: 789.1234567\n\n", [], True),
    "an id beyond it": (b"id: 789.12345678901\n\n", [], True),
    "a retry beyond it": (b"retry: 000000000001\n\n", [], True),
    "a comment beyond it": (b":" + b"x" * 1000 + b"\ndata: a\n\n", ["a"], False),
    "a comment beyond it, never ended": (b"data: a\n\n:" + b"x" * 1000, ["a"], False),
    "an unknown field beyond it": (b"more: " + b"x" * 1000 + b"\rdata: a\n\n", ["a"], False),
    "a field without a colon beyond it": (b"data" + b"x" * 1000 + b"\r\ndata: a\n\n", ["a"], False),
    "a comment beyond it inside an event": (
        b"data: a\n:" + b"x" * 1000 + b"\ndata: b\n\n",
        ["a\nb"],
        False,
    ),
    "a comment beyond it after a BOM": (b"\xef\xbb\xbf:" + b"x" * 1000 + b"\ndata: a\n\n", ["a"], False),
    "CRLF does not count": (b"data: 789.123456\r\n\r\n", ["789.123456"], False),
    "an event at its limit": (b"data:12345678901\n" * 2 + b"\n", ["12345678901\n12345678901"], False),
    "an event beyond it": (b"data:12345678901\n" * 2 + b"data\n\n", [], True),
    "an event of empty lines beyond it": (b"data\n" * 25, [], True),
    "events before it are out": (b"data: a\n\ndata: b\n\ndata:" + b"x" * 17, ["a", "b"], True),
    "many small events": (b"data: a\n\n" * 100, ["a"] * 100, False),
    "many comments": (b": ping\n" * 100, [], False),
    "many ids, types and unknowns": (b"id: 1\nevent: b\nx: y\n" * 100, [], False),
}


@pytest.mark.parametrize(("stream", "data", "overflows"), LIMITS.values(), ids=LIMITS)
def test_a_line_or_event_beyond_its_limit_raises_after_the_events_before_it(
    stream: bytes, data: list[str], *, overflows: bool
) -> None:
    for chunks in ([stream], [bytes([byte]) for byte in stream]):
        events, overflown = until_overflow(small_decoder(), chunks)
        assert ([event.data for event in events], overflown) == (data, overflows)


@pytest.mark.parametrize("start", [b":", b"more:", b"more", b"dat", b"database", b"idea: ", b" data: "])
def test_a_comment_or_unknown_field_of_a_mebibyte_is_skipped_and_not_buffered(start: bytes) -> None:
    decoder = SseDecoder(max_line_bytes=64, max_event_bytes=64)
    tracemalloc.start()
    try:
        events = list(decoder.feed(b"data: a\n" + start))
        for _ in range(16):
            events += decoder.feed(b"x" * 65_536)
        events += decoder.feed(b"\n\ndata: b\n\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert events == [message("a"), message("b")]
    assert peak < 3 * 65_536


def test_the_default_limits_are_checked() -> None:
    assert [len(event.data) for event in decoded(b"data:" + b"x" * (MAX_LINE_BYTES - 5) + b"\n\n")] == [
        MAX_LINE_BYTES - 5
    ]
    with pytest.raises(StreamOverflowError):
        decoded(b"data:" + b"x" * (MAX_LINE_BYTES - 4))
    with pytest.raises(StreamOverflowError):
        decoded(b"data\n" * (MAX_EVENT_BYTES + 1))


@pytest.mark.parametrize(
    "piece",
    [b"x", b":", b"data:", b"data\n", b"data: x\n", b"id: 12345678\n", b": ping\n\n"],
)
def test_a_long_stream_uses_no_more_memory_than_a_line_and_an_event(piece: bytes) -> None:
    decoder = SseDecoder(max_line_bytes=4096, max_event_bytes=4096)
    chunks = [piece * (16 * 1024 // len(piece))] * 16
    tracemalloc.start()
    try:
        until_overflow(decoder, chunks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # A bytearray allocates in advance, and the decoder holds the last line as line, name and value.
    assert peak < 10 * 4096


# ---- Garbage --------------------------------------------------------------------------------------------------

# Often bytes with a meaning for the decoder, so that combinations of them occur.
garbage = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"\r",
                b"\n",
                b"\r\n",
                b":",
                b" ",
                b"data",
                b"data:",
                b"id:",
                b"event:",
                b"retry:",
                b"\xef\xbb\xbf",
                b"\x00",
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=40,
).map(b"".join)


def buffer_sizes(decoder: SseDecoder) -> dict[str, int]:
    """Return the sizes of the buffers that the decoder keeps between two chunks, by name."""
    return {name: len(value) for name, value in vars(decoder).items() if isinstance(value, bytes | bytearray)}


@given(garbage, cuts)
def test_garbage_raises_only_overflow_and_is_not_buffered_beyond_the_limits(
    stream: bytes, places: list[int]
) -> None:
    decoder = small_decoder()
    for chunk in cut(stream, places):
        try:
            events = list(decoder.feed(chunk))
        except StreamOverflowError:
            break
        finally:
            assert max(buffer_sizes(decoder).values()) <= 24
            assert buffer_sizes(decoder).keys() == {"_line", "_data", "_type", "_id"}
            assert buffer_sizes(decoder)["_line"] <= 16
        for event in events:
            assert len(event.data) < 24
            assert event.type
            assert "\0" not in event.id
            event.data.encode()


@given(garbage, cuts)
def test_garbage_gives_the_same_events_in_any_chunks(stream: bytes, places: list[int]) -> None:
    whole = until_overflow(small_decoder(), [stream])

    assert until_overflow(small_decoder(), cut(stream, places)) == whole
    assert until_overflow(small_decoder(), [bytes([byte]) for byte in stream]) == whole


@given(garbage)
def test_garbage_gives_the_events_of_the_standard(stream: bytes) -> None:
    assert decoded(stream) == decoded_by_the_standard(stream)


def decoded_by_the_standard(stream: bytes) -> list[SseEvent]:
    """Decode a whole stream with the steps of the HTML standard: slow and without limits."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events: list[SseEvent] = []
    data = kind = last_id = ""
    retry_ms: int | None = None
    for line in lines:
        if not line:
            if data:
                events.append(SseEvent(kind or "message", data.removesuffix("\n"), last_id, retry_ms))
            data = kind = ""
            continue
        name, colon, value = line.partition(":")
        if colon and not name:
            continue
        value = value.removeprefix(" ")
        match name:
            case "data":
                data += value + "\n"
            case "event":
                kind = value
            case "id" if "\0" not in value:
                last_id = value
            case "retry" if value.isascii() and value.isdigit() and len(value.lstrip("0")) <= 9:
                retry_ms = int(value)
    return events
