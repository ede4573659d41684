"""JSON text: compact JSON in ASCII, and members joined without parsing them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waterhook import json_text
from waterhook.json_text import to_json


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_compact_json_is_the_same_value_in_ascii(value: Any) -> None:
    text = to_json(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_compact_json_refuses_infinity() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json([math.inf])


@given(st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=10), max_size=4))
def test_joined_members_are_one_json_object(members: dict[str, Any]) -> None:
    texts = {name: json.dumps(value) for name, value in members.items()}
    assert json.loads(json_text.join_members(texts)) == members
