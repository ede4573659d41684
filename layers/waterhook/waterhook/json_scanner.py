"""Finds where a JSON value ends in bytes, and whether it is valid, without creating Python objects for it.

`json.loads` needs about ten times the size of the text, and recursion limits its nesting. This module instead uses
regular expressions for scalars and for containers with up to two levels, `json` for small nested containers, and a
stack of one byte per level for the rest.
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
# For values whose grammar is not checked: the characters up to the next one that matters.
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_ROUGH_ITEM = rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"%b)*+'
_ROUGH_FLAT = _ROUGH_ITEM % (rb"|[\[{]%b[\]}]" % (_ROUGH_ITEM % b""))
_IN_CONTAINER = re.compile(_ROUGH_ITEM % (rb"|[\[{]%b[\]}]" % _ROUGH_FLAT), re.DOTALL)
_IN_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]*+")
# Limits for values that take too long to check: levels of nesting, and containers that neither the regular expressions
# nor `json` can read. No JSON parser of a subscriber reads this many levels.
MAX_DEPTH = 20_000
MAX_STEPS = 3_000_000
# `json` reads a nested value if it ends within the first length. If it does not, `json` is tried again after the second
# length.
_NESTED_BYTES = 4096
_RETRY_BYTES = 256
_BRACE, _QUOTE = b'{"'
_NO_MARKS = re.compile(rb"[^\[\]{}]++")
_UTF8_PIECE_BYTES = 1024 * 1024


def value_end(text: Bytes, at: int) -> int | None:
    """Return the index after the valid JSON value at `at`, or None. Does not check UTF-8, see `is_utf8`."""
    whole = (_ONE_SCALAR if not text.startswith((b"[", b"{"), at) else _empty()).match(text, at)
    if whole is not None:
        return whole.end()
    stack = bytearray()
    steps, json_from = 0, at + 1
    # A container begins at `at`: the outermost one, or one inside the containers on the stack.
    while text.startswith((b"[", b"{"), at) and len(stack) < MAX_DEPTH and steps < MAX_STEPS:
        end = _end_of_nested(text, at) if at >= json_from else None
        if end is None:
            steps += 1
            if at >= json_from:
                json_from = at + _RETRY_BYTES
            stack.append(text[at] == _BRACE)
            match = _items(is_object=bool(stack[-1])).match(text, at + 1)
        else:
            match = _following(text, end, is_object=bool(stack[-1]))
        while match is not None and match.lastindex == 1:
            stack.pop()
            if not stack:
                return match.end()
            match = _following(text, match.end(), is_object=bool(stack[-1]))
        if match is None:
            return None
        at = match.end() - 1
    return None


def _end_of_nested(text: Bytes, at: int) -> int | None:
    """Return where a small container ends, or None if it is large, very deeply nested or invalid."""
    # Latin-1 decodes each byte to one character, so character indexes are byte indexes.
    part = text[at : at + _NESTED_BYTES].decode("latin-1")
    try:
        length: int = _DECODER.raw_decode(part)[1]
    except (ValueError, RecursionError):
        return None
    return at + length


def _refuse_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


# Numbers are not converted: that takes time, and fails for numbers of thousands of digits.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse_constant)


def _following(text: Bytes, at: int, *, is_object: bool) -> re.Match[bytes] | None:
    """Match what follows a nested container: the end of its parent (group 1), or the parent's next items."""
    after = _after(is_object=is_object).match(text, at)
    if after is None or after.lastindex == 1:
        return after
    return _items(is_object=is_object).match(text, after.end())


@cache
def _empty() -> re.Pattern[bytes]:
    return re.compile(rb"\[%b\]|\{%b\}" % (_SPACE, _SPACE))


@cache
def _after(*, is_object: bool) -> re.Pattern[bytes]:
    """Return the pattern after a nested container: a comma, or the end of its parent (group 1)."""
    return re.compile(rb"%b(?:,|(%b))" % (_SPACE, _closing(is_object=is_object)))


@cache
def _items(*, is_object: bool) -> re.Pattern[bytes]:
    """Return the pattern for the rest of a container: to its end (group 1) or a deeper container (group 2)."""
    name = _NAME if is_object else b""
    item = name + _flat(_flat(_SCALAR))
    rest = rb"(?:%b%b(%b)|%b([\[{]))" % (item, _SPACE, _closing(is_object=is_object), name)
    return re.compile(rb"(?:%b%b%b,)*+%b%b" % (_SPACE, item, _SPACE, _SPACE, rest))


def _flat(item: bytes) -> bytes:
    """Return the pattern of `item`, or of a container of such items."""
    # Each item is followed by a comma and another item, or by the end.
    containers = (
        rb"%b%b(?:%b%b%b(?:,%b(?!%b)|(?=%b)))*+%b"
        % (opening, _SPACE, name, item, _SPACE, _SPACE, closing, closing, closing)
        for opening, name, closing in ((rb"\[", b"", rb"\]"), (rb"\{", _NAME, rb"\}"))
    )
    return rb"(?:%b|%b|%b)" % (item, *containers)


def _closing(*, is_object: bool) -> bytes:
    return rb"\}" if is_object else rb"\]"


def depth_of(text: Bytes) -> int:
    """Return the nesting depth of a valid JSON value. For small values only: it takes one step per container."""
    marks = _NO_MARKS.sub(b"", STRING.sub(b"", text))
    return max(accumulate(1 if mark in b"[{" else -1 for mark in marks), default=0)


def is_utf8(text: Bytes, start: int, end: int) -> bool:
    """Return whether a part of `text` is UTF-8. Decodes in pieces: the whole could take four times the memory."""
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
    """Finds the end of one JSON value, valid or not, from its quotes and brackets alone. Reads it in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        """The last piece ended in the middle of an escape."""
        self._is_first = True
        self._is_scalar = False

    def feed(self, piece: Bytes, at: int = 0) -> int | None:
        """Return the index in `piece` after the value, or None if it continues. The first piece starts the value."""
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
            at = _match_end(self._pattern, piece, at)
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


def _match_end(pattern: re.Pattern[bytes], piece: Bytes, at: int) -> int:
    match = pattern.match(piece, at)
    return at if match is None else match.end()
