"""The wait that a caller prefers."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waterhook.domain.wait_preference import LONGEST_S, preferred_wait_s, seconds


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (["wait=10"], 10),
        (["Wait=10"], 10),
        ([" wait = 10 "], 10),
        (["wait\t=\t10"], 10),
        (['wait="10"'], 10),
        (['wait="\\1\\0"'], 10),
        (["wait=0"], 0),
        (["wait=007"], 7),
        # Parameters
        (["wait=10; foo=bar"], 10),
        (["wait=10;"], 10),
        (['wait=10; note="a, b; c"'], 10),
        # Several preferences and several headers
        (["respond-async, wait=10"], 10),
        (["wait=10, respond-async"], 10),
        (["respond-async;wait=5, wait=10"], 10),
        (["handling=lenient, return=minimal", "respond-async", "wait=10"], 10),
        (['foo="a, wait=5", wait=10'], 10),
        (['foo="a\\", wait=5", wait=10'], 10),
        # The first one counts
        (["wait=10, wait=20"], 10),
        (["wait=10", "WAIT=20"], 10),
        (["wait=x, wait=20"], None),
        (["wait, wait=20"], None),
        # Garbage beside it
        ([",,, ;;, =, wait=10,"], 10),
        (["wait 5, wait=10"], 10),
        (["@ü=1, wait=10"], 10),
        (['wait=5" , wait=10'], None),
        # No valid one
        ([], None),
        ([""], None),
        (["wait"], None),
        (["wait="], None),
        (['wait=""'], None),
        (["wait=-1"], None),
        (["wait=+1"], None),
        (["wait=1.5"], None),
        (["wait=1e3"], None),
        (["wait=²"], None),
        (["wait=10 20"], None),
        (['wait="10'], None),
        (["wait=10s"], None),
        (["waiting=10"], None),
        (["x-wait=10"], None),
        (["respond-async"], None),
        (['note="wait=10"'], None),
        # Large
        (["wait=999999999"], 999_999_999),
        (["wait=99999999999999999999"], LONGEST_S),
        (["wait=" + "9" * 9_000], LONGEST_S),
        (["wait=" + "0" * 9_000 + "5"], 5),
    ],
)
def test_the_first_wait_of_a_prefer_header_counts(headers: list[str], wait_s: int | None) -> None:
    assert preferred_wait_s(headers) == wait_s


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.5", "1e3", " 1", "²", "1_000", "0x10", "none"])
def test_other_texts_than_digits_are_no_seconds(text: str) -> None:
    assert seconds(text) is None


@given(st.lists(st.text()))
def test_any_header_is_parsed(headers: list[str]) -> None:
    wait_s = preferred_wait_s(headers)
    assert wait_s is None or 0 <= wait_s <= LONGEST_S


@pytest.mark.parametrize("text", ['"', "\\", '"\\', ",", ";", "a=", 'a="', " \t", "wait=", '";'])
def test_a_long_header_is_parsed_in_linear_time(text: str) -> None:
    began = time.perf_counter()
    preferred_wait_s([text * (10_000 // len(text))])
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize("header", ["wait={}@", 'wait={}"', "wait{}@", "wait{}=@", "wait=5{}@"])
def test_long_spaces_before_an_invalid_end_are_parsed_in_linear_time(header: str) -> None:
    began = time.perf_counter()
    assert preferred_wait_s([header.format(" " * 10_000)]) is None
    assert time.perf_counter() - began < 0.2
