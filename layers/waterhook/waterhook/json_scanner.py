"""JSON values in bytes: where they end and whether they are valid, without a Python object for any of them.

Read by `json` as a whole, a text takes ten times its size, and its nesting is limited by recursion. Here regular
expressions read runs of scalars and of containers with up to two levels, `json` reads small nested ones, and a stack
of one byte for each level holds the rest.
"""

import json
import re
from codecs import getincrementaldecoder
from functools import cache
from itertools import accumulate

type Bytes = bytes | bytearray

_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_SCALAR = rb"(?:%b|%b|true|false|null)" % (_STRING, _NUMBER)
_NAME = rb"%b%b:%b" % (_STRING, _SPACE, _SPACE)

STRING = re.compile(_STRING)
SPACE = re.compile(_SPACE)
_ONE_SCALAR = re.compile(_SCALAR)
# What runs on to the next character that matters, for a value whose grammar is not checked.
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_ROUGH_ITEM = rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"%b)*+'
_ROUGH_FLAT = _ROUGH_ITEM % (rb"|[\[{]%b[\]}]" % (_ROUGH_ITEM % b""))
_IN_CONTAINER = re.compile(_ROUGH_ITEM % (rb"|[\[{]%b[\]}]" % _ROUGH_FLAT), re.DOTALL)
_IN_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]*+")
# Nesting beyond this takes too long to check, and so do more containers than this of those that neither the regular
# expressions nor `json` read. No parser of a subscriber reads such a depth.
MAX_DEPTH = 20_000
MAX_STEPS = 3_000_000
# Of a nested value so much is given to `json`, in which it may end. Where it does not, `json` is tried again after the
# second length.
_NESTED_BYTES = 4096
_RETRY_BYTES = 256
_BRACE, _QUOTE = b'{"'
_NO_MARKS = re.compile(rb"[^\[\]{}]++")
_UTF8_PIECE_BYTES = 1024 * 1024


def value_end(text: Bytes, at: int) -> int | None:
    """Return where the valid JSON value that begins at `at` ends, or None. UTF-8 is not checked; see `is_utf8`."""
    whole = (_ONE_SCALAR if not text.startswith((b"[", b"{"), at) else _empty()).match(text, at)
    if whole is not None:
        return whole.end()
    stack = bytearray()
    steps, json_from = 0, at + 1
    # A container begins at `at`: the first one, or one inside of those on the stack.
    while text.startswith((b"[", b"{"), at) and len(stack) < MAX_DEPTH and steps < MAX_STEPS:
        end = _end_of_nested(text, at) if at >= json_from else None
        if end is None:
            steps += 1
            if at >= json_from:
                json_from = at + _RETRY_BYTES
            stack.append(text[at] == _BRACE)
            found = _items(is_object=bool(stack[-1])).match(text, at + 1)
        else:
            found = _following(text, end, is_object=bool(stack[-1]))
        while found is not None and found.lastindex == 1:
            stack.pop()
            if not stack:
                return found.end()
            found = _following(text, found.end(), is_object=bool(stack[-1]))
        if found is None:
            return None
        at = found.end() - 1
    return None


def _end_of_nested(text: Bytes, at: int) -> int | None:
    """Return where a small container ends, or None for one that is large, nested very deeply or not valid."""
    # In Latin-1 each byte is one character.
    part = text[at : at + _NESTED_BYTES].decode("latin-1")
    try:
        length: int = _DECODER.raw_decode(part)[1]
    except (ValueError, RecursionError):
        return None
    return at + length


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


# Numbers are not converted: that takes time, and fails for long ones.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_no_constant)


def _following(text: Bytes, at: int, *, is_object: bool) -> re.Match[bytes] | None:
    """Return the match of what follows a container inside of another one: that one's end, or its further items."""
    after = _after(is_object=is_object).match(text, at)
    if after is None or after.lastindex == 1:
        return after
    return _items(is_object=is_object).match(text, after.end())


@cache
def _empty() -> re.Pattern[bytes]:
    return re.compile(rb"\[%b\]|\{%b\}" % (_SPACE, _SPACE))


@cache
def _after(*, is_object: bool) -> re.Pattern[bytes]:
    """Return what follows a container inside of another one: a comma, or that one's end (group 1)."""
    return re.compile(rb"%b(?:,|(%b))" % (_SPACE, _closing(is_object=is_object)))


@cache
def _items(*, is_object: bool) -> re.Pattern[bytes]:
    """Return what reads a container from an item on: to its end (group 1), or into one nested deeper (group 2)."""
    name = _NAME if is_object else b""
    item = name + _flat(_flat(_SCALAR))
    rest = rb"(?:%b%b(%b)|%b([\[{]))" % (item, _SPACE, _closing(is_object=is_object), name)
    return re.compile(rb"(?:%b%b%b,)*+%b%b" % (_SPACE, item, _SPACE, _SPACE, rest))


def _flat(item: bytes) -> bytes:
    """Return the pattern of `item` or of a container of such items."""
    # After an item comes a comma and another one, or the end.
    containers = (
        rb"%b%b(?:%b%b%b(?:,%b(?!%b)|(?=%b)))*+%b"
        % (opening, _SPACE, name, item, _SPACE, _SPACE, closing, closing, closing)
        for opening, name, closing in ((rb"\[", b"", rb"\]"), (rb"\{", _NAME, rb"\}"))
    )
    return rb"(?:%b|%b|%b)" % (item, *containers)


def _closing(*, is_object: bool) -> bytes:
    return rb"\}" if is_object else rb"\]"


def depth_of(text: Bytes) -> int:
    """Return how deeply a valid JSON value is nested. Meant for small ones: it takes a step for each container."""
    marks = _NO_MARKS.sub(b"", STRING.sub(b"", text))
    return max(accumulate(1 if mark in b"[{" else -1 for mark in marks), default=0)


def is_utf8(text: Bytes, start: int, end: int) -> bool:
    """Return whether a part of `text` is UTF-8. Decoded as a whole it might take four times the memory."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        with memoryview(text) as view:
            for at in range(start, end, _UTF8_PIECE_BYTES):
                decoder.decode(view[at : min(at + _UTF8_PIECE_BYTES, end)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class ValueSkipper:
    """Finds the end of one JSON value, valid or not, by its quotes and brackets alone. It is fed piece by piece."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        """The last piece ended in the middle of an escape."""
        self._is_first = True
        self._is_scalar = False

    def feed(self, piece: Bytes, at: int = 0) -> int | None:
        """Return where in `piece` the value ends, or None where it goes on. The first piece begins with the value."""
        if at == len(piece):
            return None
        if self._is_escaped:
            at, self._is_escaped = at + 1, False
        elif self._is_first:
            self._is_first, self._is_scalar = False, piece[at] not in b'"[{'
            if not self._is_scalar:
                self._step(piece[at])
                at += 1
        while at < len(piece):
            at = _run(self._pattern, piece, at)
            if at == len(piece):
                break
            if self._is_scalar:
                return at
            self._step(piece[at])
            at += 1
            if not (self._depth or self._in_string or self._is_escaped):
                return at
            if self._depth > MAX_DEPTH:
                break
        return None

    @property
    def _pattern(self) -> re.Pattern[bytes]:
        if self._is_scalar:
            return _IN_SCALAR
        return _IN_STRING if self._in_string else _IN_CONTAINER

    def _step(self, mark: int) -> None:
        if mark == _QUOTE:
            self._in_string = not self._in_string
        elif self._in_string:
            self._is_escaped = True
        else:
            self._depth += 1 if mark in b"[{" else -1


def _run(pattern: re.Pattern[bytes], piece: Bytes, at: int) -> int:
    found = pattern.match(piece, at)
    return at if found is None else found.end()
