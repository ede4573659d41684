"""JSON values in bytes: the end and the validity of each, whatever its size, nesting and cuts."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.json_values import any_json
from waterhook.json_scanner import MAX_DEPTH, ValueSkipper, depth_of, is_utf8, value_end

INVALID = [
    "",
    "NaN",
    "-Infinity",
    "[Infinity]",
    '{"a":NaN}',
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1",
    "[1}",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    "{a:1}",
    "{1:1}",
    "{'a':1}",
    '"a',
    '"a\n"',
    '"\\x41"',
    '"\\u00g0"',
    "+1",
    ".5",
    "nul",
    "[[[[1,]]]]",
    '[[[[{"a":[[[1]]],}]]]]',
    "[[[[1]]]",
    "\x0b1",
]


def strict(text: str) -> bool:
    """Whether Python's own parser takes it, without the words that are no JSON."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def whole(text: str) -> bool:
    return value_end(text.encode(), 0) == len(text.encode())


@given(any_json, st.sampled_from([None, 0, 1]))
def test_any_json_is_valid_to_its_end(value: Any, indent: int | None) -> None:
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return
    assert whole(text)
    assert value_end(f" {text},1".encode(), 1) == value_end(f" {text}".encode(), 1)


@given(st.text('{}[]":,.0129-+eEtruefalsn \n\t\\u', max_size=12))
def test_a_text_is_valid_exactly_when_a_parser_takes_it(text: str) -> None:
    expected = strict(text)
    assert whole(text.strip(" \t\n\r")) is expected


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_json_is_not_valid(text: str) -> None:
    assert not whole(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a" : [', "] } ]")])
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 1000, 6_000])
def test_nesting_of_any_depth_is_valid_and_its_depth_is_known(
    opening: str, closing: str, levels: int
) -> None:
    text = (opening * levels + "1" + closing * levels).encode()
    assert value_end(text, 0) == len(text)
    assert value_end(text[:-1], 0) is None
    assert ValueSkipper().feed(text + b",[") == len(text)
    assert depth_of(b'{"[[":' + text + b"}") == 1 + levels * sum(opening.count(mark) for mark in "[{")


def test_nesting_beyond_the_limit_is_neither_valid_nor_read_to_its_end() -> None:
    text = b"[" * 2 * MAX_DEPTH + b"]" * 2 * MAX_DEPTH
    assert value_end(text, 0) is None
    assert ValueSkipper().feed(text) is None


@pytest.mark.parametrize("filler", ["", '"' + "x" * 5000 + '",', "1," * 5000, '{"a":[[[[]]]]},' * 700])
@pytest.mark.parametrize("end", ["]", "}", "", "NaN]", "1,]"])
def test_nested_values_of_any_size_are_checked(filler: str, end: str) -> None:
    text = '{"a":[[[[[' + filler + '[[[{"b":[' + filler + "1" + end
    expected = text + "}]]]]]]]]}"
    assert whole(expected) is strict(expected) is (end == "]")


def test_a_long_string_of_escapes_and_wide_lists_are_valid() -> None:
    assert whole('"' + "\\n\\u0041" * 100_000 + '"')
    assert whole("[" + ",".join(['[[[]],{"a":{"b":[[1]]}}]'] * 10_000) + "]")


@pytest.mark.parametrize(
    ("raw", "valid"),
    [("ß🙂".encode(), True), (b"\xff", False), (b"a\xed\xa0\x80", False), ("ß".encode()[:1], False)],
)
def test_utf8_is_checked_within_the_bounds_that_are_given(raw: bytes, *, valid: bool) -> None:
    text = b"\xff" + raw + b"\xff"
    assert is_utf8(text, 1, 1 + len(raw)) is valid
    assert is_utf8(b"x" * (1 << 20) + raw, 0, (1 << 20) + len(raw)) is valid


ENDED = ['"a\\"]\\\\"', '[1,"]",{"a":"}"}]', '{"x":[NaN,"]}"]}', "NaN", "12", "nul", '"\\u00zz"']


@pytest.mark.parametrize("text", ENDED)
@pytest.mark.parametrize("rest", [",", "}", ' ,"b":1}'])
def test_the_end_of_a_value_is_found_wherever_it_is_cut(text: str, rest: str) -> None:
    body = (text + rest).encode()
    for first in range(len(body)):
        for second in range(first, len(body)):
            skipper, ended = ValueSkipper(), None
            for start, end in pairwise([0, first, second, len(body)]):
                if ended is None and (at := skipper.feed(body[start:end])) is not None:
                    ended = start + at
            assert ended == len(text)


@pytest.mark.parametrize("text", ["[1", '"a', '"a\\', '{"a":"}', "12"])
def test_a_value_that_breaks_off_has_no_end(text: str) -> None:
    assert ValueSkipper().feed(text.encode()) is None
