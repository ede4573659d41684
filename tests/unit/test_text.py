"""Texts: clipped to a safe length, and durations with a unit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.json_values import any_text
from waterhook.text import MAX_MESSAGE_CHARS, clip, format_duration


@given(any_text, st.integers(1, 40))
def test_a_clipped_text_is_short_printable_and_valid_in_utf_8(text: str, limit: int) -> None:
    clipped = clip(text, limit)
    clipped.encode()
    assert len(clipped) <= limit
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", clipped)


def test_a_text_within_the_limit_is_unchanged() -> None:
    assert clip("Ärger 🙂 in node 3") == "Ärger 🙂 in node 3"


def test_a_cut_text_ends_with_an_ellipsis() -> None:
    assert clip("x" * (MAX_MESSAGE_CHARS + 1)) == "x" * (MAX_MESSAGE_CHARS - 1) + "…"


def test_a_clipped_text_holds_no_character_that_xml_excludes() -> None:
    assert clip("a\ufffeb\uffffc\ufffd") == "a b c\ufffd"


def test_a_huge_text_of_control_characters_is_clipped_to_nothing() -> None:
    assert clip("\x00" * 10_000_000) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (900, "15 min"),
        (7200, "2 h"),
    ],
)
def test_a_duration_is_given_in_seconds_minutes_or_hours(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
