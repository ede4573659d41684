"""JSON scanner: finds the end of a value in bytes and checks its validity, for any size, depth and chunking."""

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


def is_json(text: str) -> bool:
    """Return whether `json.loads` accepts the text. NaN and Infinity are refused, because JSON lacks them."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def is_one_value(text: str) -> bool:
    return value_end(text.encode(), 0) == len(text.encode())


@given(any_json, st.sampled_from([None, 0, 1]))
def test_the_end_of_any_json_value_is_found(value: Any, indent: int | None) -> None:
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return
    assert is_one_value(text)
    assert value_end(f" {text},1".encode(), 1) == value_end(f" {text}".encode(), 1)


@given(st.text('{}[]":,.0129-+eEtruefalsn \n\t\\u', max_size=12))
def test_a_text_is_valid_exactly_if_the_parser_of_python_accepts_it(text: str) -> None:
    expected = is_json(text)
    assert is_one_value(text.strip(" \t\n\r")) is expected


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_text_has_no_end(text: str) -> None:
    assert not is_one_value(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a" : [', "] } ]")])
@pytest.mark.parametrize("levels", [1, 4, 5, 6_000])
def test_a_nested_value_is_valid_and_its_depth_is_counted(opening: str, closing: str, levels: int) -> None:
    text = (opening * levels + "1" + closing * levels).encode()
    assert value_end(text, 0) == len(text)
    assert value_end(text[:-1], 0) is None
    assert ValueSkipper().feed(text + b",[") == len(text)
    assert depth_of(b'{"[[":' + text + b"}") == 1 + levels * sum(opening.count(mark) for mark in "[{")


def test_a_value_nested_beyond_the_limit_is_not_valid() -> None:
    text = b"[" * 2 * MAX_DEPTH + b"]" * 2 * MAX_DEPTH
    assert value_end(text, 0) is None
    assert ValueSkipper().feed(text) is None


@pytest.mark.parametrize("filler", ["", '"' + "x" * 5000 + '",', "1," * 5000, '{"a":[[[[]]]]},' * 700])
@pytest.mark.parametrize("end", ["]", "}", "", "NaN]", "1,]"])
def test_nested_values_of_any_size_are_validated(filler: str, end: str) -> None:
    text = '{"a":[[[[[' + filler + '[[[{"b":[' + filler + "1" + end
    expected = text + "}]]]]]]]]}"
    assert is_one_value(expected) is is_json(expected) is (end == "]")


def test_a_long_string_of_escapes_and_a_wide_list_are_valid() -> None:
    assert is_one_value('"' + "\\n\\u0041" * 100_000 + '"')
    assert is_one_value("[" + ",".join(['[[[]],{"a":{"b":[[1]]}}]'] * 10_000) + "]")


@pytest.mark.parametrize(
    ("raw", "valid"),
    [("ß🙂".encode(), True), (b"\xff", False), (b"a\xed\xa0\x80", False), ("ß".encode()[:1], False)],
)
def test_utf8_is_checked_between_the_given_offsets(raw: bytes, *, valid: bool) -> None:
    text = b"\xff" + raw + b"\xff"
    assert is_utf8(text, 1, 1 + len(raw)) is valid
    assert is_utf8(b"x" * (1 << 20) + raw, 0, (1 << 20) + len(raw)) is valid


VALUES = ['"a\\"]\\\\"', '[1,"]",{"a":"}"}]', '{"x":[NaN,"]}"]}', "NaN", "12", "nul", '"\\u00zz"']


@pytest.mark.parametrize("text", VALUES)
@pytest.mark.parametrize("rest", [",", "}"])
def test_the_end_of_a_value_is_found_in_any_chunks(text: str, rest: str) -> None:
    body = (text + rest).encode()
    for first in range(len(body)):
        for second in range(first, len(body)):
            skipper, value_ends_at = ValueSkipper(), None
            for start, end in pairwise([0, first, second, len(body)]):
                if value_ends_at is None and (offset := skipper.feed(body[start:end])) is not None:
                    value_ends_at = start + offset
            assert value_ends_at == len(text)


@pytest.mark.parametrize("text", ["[1", '"a', '"a\\', '{"a":"}', "12"])
def test_an_incomplete_value_has_no_end(text: str) -> None:
    assert ValueSkipper().feed(text.encode()) is None
