"""The upstream's status document: a stranger's, whose output must leave as it came."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.clock import NOW
from tests.support.json_values import any_json, any_object, any_text
from waterhook.models import MAX_MESSAGE_CHARS, Status
from waterhook.status import StatusDocument, members

KNOWN = {
    "execution_id": "e-1",
    "status": "RUNNING",
    "progress": 42.5,
    "current_node": "summarise",
    "completed_nodes": 2,
    "total_nodes": 5,
    "final_output": None,
    "error_message": None,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:01Z",
    "completed_at": None,
    "retry_count": 1,
    "execution_source": "CHATBOT",
    "is_temporary": False,
    "cleanup_after": "2026-01-02T00:00:00Z",
}

# JSON texts that a parser and a printer would change, each in a way somebody has lost data to.
OUTPUTS = {
    "an integer of twenty digits": '{"n":12345678901234567890}',
    "an integer of five thousand digits": '{"n":' + "7" * 5000 + "}",
    "a float that looks like an integer": '{"n":1.0}',
    "a float beyond every double": '{"n":1e400}',
    "a float below every double": '{"n":-1E-400}',
    "more digits than a double holds": '{"n":0.1000000000000000055511151231257827}',
    "minus zero": '{"n":-0}',
    "half a surrogate pair": '{"t":"\\ud83d"}',
    "escapes nobody needs": '{"t":"\\u0041\\/"}',
    "whitespace of all four kinds": '{ \t"a"\r\n:\n1 ,"b" : [ ] }',
    "the same name twice": '{"a":1,"a":2}',
    "nested three thousand deep": '{"d":' + "[" * 3000 + "]" * 3000 + "}",
    "text beyond ASCII": '{"t":"Übergröße 🙂 \u2028"}',
    "an empty object": "{}",
    "names of our own": '{"status":"FAILED","final_output":{"status":"RUNNING"}}',
    "what looks like the end": '{"t":"\\"}}}\\\\","u":"]}"}',
    "a list, though an object was announced": "[1, 2]",
    "a text, though an object was announced": '"done"',
    "a lonely number": "0.10",
    "a lonely integer of twenty digits": "-12345678901234567890",
    "false": "false",
}


def text_of(**changes: Any) -> str:
    return json.dumps(KNOWN | changes)


def test_every_known_field_is_read() -> None:
    assert StatusDocument.from_text(text_of()) == StatusDocument(
        status="RUNNING",
        progress=42.5,
        current_node="summarise",
        completed_nodes=2,
        total_nodes=5,
        created_at=NOW,
        started_at=NOW + 1,
        retry_count=1,
        cleanup_after=NOW + 86_400,
    )


def test_an_empty_object_says_nothing_and_is_a_document() -> None:
    assert StatusDocument.from_text("{}") == StatusDocument()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("COMPLETED", Status.COMPLETED),
        ("FAILED", Status.FAILED),
        ("CANCELLED", Status.CANCELLED),
        ("PENDING", None),
        ("RUNNING", None),
        ("completed", Status.COMPLETED),
        ("CANCELED", Status.CANCELLED),
        ("TIMED_OUT", None),
        ("LOST", None),
        ("PAUSED", None),
        ("", None),
        (None, None),
        (5, None),
        (["COMPLETED"], None),
        ({"value": "COMPLETED"}, None),
    ],
)
def test_a_status_is_final_only_by_a_known_word(status: object, outcome: Status | None) -> None:
    assert StatusDocument.from_text(text_of(status=status)).outcome is outcome


@given(st.dictionaries(st.sampled_from(list(KNOWN)), any_json, max_size=3), any_object)
def test_no_json_object_raises_whatever_its_fields_hold(known: dict[str, Any], extra: dict[str, Any]) -> None:
    text = json.dumps(extra | known, allow_nan=True)
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        assume(False)  # noqa: FBT003 - NaN and Infinity are no JSON
    document = StatusDocument.from_text(text)
    assert document.progress is None or -1e308 < document.progress < 1e308
    assert document.completed_nodes is None or document.completed_nodes >= 0
    assert len(document.error_message or "") <= MAX_MESSAGE_CHARS


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(any_text | st.text('{}[]":,.0123456789-+eEtruefalsn \n\t\\u', max_size=40))
def test_a_text_is_a_document_exactly_when_it_is_a_json_object(text: str) -> None:
    try:
        expected = isinstance(json.loads(text, parse_constant=_refuse), dict)
    except ValueError:
        expected = False
    try:
        StatusDocument.from_text(text)
        accepted = True
    except ValueError:
        accepted = False
    assert accepted is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        '"RUNNING"',
        "<html><body>502 Bad Gateway</body></html>",
        "{",
        '{"status"',
        '{"status":',
        '{"status":"COMPLETED"',
        '{"status":"COMPLETED",',
        '{"status":"COMPLETED",}',
        '{"status":"COMPLETED"}}',
        '{"status":"COMPLETED"} x',
        '{"status":"COMPLETED"}{"status":"FAILED"}',
        '{"status":"COMPLETED" "x":1}',
        "{status:1}",
        "{1:2}",
        "{,}",
        '{"progress":NaN}',
        '{"progress":Infinity}',
        '{"status":"COMPLETED\n"}',
        "\ufeff{}",
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        StatusDocument.from_text(text)


@pytest.mark.parametrize("head", ['{"x":', "{", '{"a":1,', "", "["])
def test_an_answer_nested_too_deeply_to_read_is_refused_and_not_a_crash(head: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        StatusDocument.from_text(head + "[" * 200_000 + "]" * 200_000 + "}")


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("space", ["", " ", "\r\n\t "])
def test_the_output_leaves_byte_for_byte_as_it_came(output: str, space: str) -> None:
    text = (
        f'{space}{{"a":[1],{space}"final_output"{space}:{space}{output}{space},"status":"COMPLETED"}}{space}'
    )
    document = StatusDocument.from_text(text)
    assert document.final_output_json == output
    assert document.outcome is Status.COMPLETED


@given(
    before=any_object,
    after=any_object,
    output=any_json,
    indent=st.sampled_from([None, 0, 1, 3]),
    ascii_only=st.booleans(),
)
def test_any_output_between_any_fields_leaves_as_it_came(
    before: dict[str, Any], after: dict[str, Any], output: Any, indent: int | None, *, ascii_only: bool
) -> None:
    def part(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)

    try:
        source = part(output)
        fields = [f"{part(name)}: {part(value)}" for name, value in before.items() if name != "final_output"]
        fields += [f'"final_output" :{source}']
        fields += [f"{part(name)}: {part(value)}" for name, value in after.items() if name != "final_output"]
    except ValueError:
        assume(False)  # noqa: FBT003 - NaN and infinities have no JSON
    document = StatusDocument.from_text("{" + ",".join(fields) + "}")
    assert document.final_output_json == (None if output is None else source)


def test_no_output_and_a_null_output_are_the_same() -> None:
    assert StatusDocument.from_text('{"final_output":null}').final_output_json is None


def test_an_escaped_name_is_still_the_name() -> None:
    assert StatusDocument.from_text('{"final\\u005foutput":{"a":1}}').final_output_json == '{"a":1}'


def test_of_two_outputs_the_last_one_counts_as_it_does_for_every_parser() -> None:
    text = '{"final_output":{"a":1},"status":"RUNNING","final_output":{"a":2},"status":"COMPLETED"}'
    document = StatusDocument.from_text(text)
    assert (document.final_output_json, document.outcome) == ('{"a":2}', Status.COMPLETED)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("progress", "50", None),
        ("progress", True, None),
        ("progress", -3, -3.0),
        ("progress", 10**400, None),
        ("completed_nodes", True, None),
        ("completed_nodes", -1, None),
        ("completed_nodes", "3", None),
        ("total_nodes", 10**30, None),
        ("retry_count", [1], None),
        ("error_message", {"a": 1}, None),
        ("error_message", "two\nlines\x00", "two lines"),
        ("current_node", 7, None),
        ("created_at", True, None),
        ("created_at", 1757824428, 1757824428.0),
        ("cleanup_after", "tomorrow", None),
        ("completed_at", "0001-01-01T00:00:00+14:00", None),
    ],
)
def test_a_field_of_another_type_is_read_as_missing(field: str, value: object, read: object) -> None:
    assert getattr(StatusDocument.from_text(text_of(**{field: value})), field) == read


def test_a_number_beyond_every_double_is_no_progress() -> None:
    assert StatusDocument.from_text('{"progress":1e400}').progress is None


LARGE = {
    "a completed one, status first": {
        "status": "COMPLETED",
        "progress": 100.0,
        "final_output": {"a": "ß" * 3},
    },
    "a completed one, output first": {"final_output": {"status": "FAILED"}, "status": "COMPLETED"},
    "a running one, output first": {"final_output": None, "progress": 12.5, "status": "RUNNING"},
    "a running one, status first": {"status": "RUNNING", "current_node": "n", "final_output": None},
    "a failed one": {"final_output": None, "error_message": 'it "broke" {', "status": "FAILED"},
    "a cancelled one": {"x": [{"status": "COMPLETED"}], "status": "CANCELLED", "final_output": None},
    "one with a word for every other field": {**KNOWN, "final_output": {}, "status": "COMPLETED"},
}


@pytest.mark.parametrize("document", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_body_cut_anywhere_never_raises_and_never_tells_of_another_outcome(
    document: dict[str, Any], indent: int | None
) -> None:
    whole = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    truth = StatusDocument.from_text(whole.decode()).outcome
    for end in range(len(whole) + 1):
        cut = StatusDocument.from_text(whole[:end].decode("utf-8-sig", "ignore"), capped=True)
        assert cut.outcome in {None, truth}, whole[:end]
        assert cut.final_output_json is None
        assert cut.too_large


def test_a_body_cut_inside_its_output_is_a_completed_one_though_its_status_is_beyond_the_cut() -> None:
    cut = StatusDocument.from_text('{"execution_id":"e","final_output":{"text":"aaaa', capped=True)
    assert cut.outcome is Status.COMPLETED


def test_a_body_cut_inside_its_output_believes_the_status_before_it() -> None:
    cut = StatusDocument.from_text('{"status":"RUNNING","final_output":{"text":"aaaa', capped=True)
    assert cut.outcome is None


@given(any_text, any_text)
def test_a_cut_body_of_garbage_says_nothing(head: str, tail: str) -> None:
    assume("final_output" not in head + tail)
    assert StatusDocument.from_text(head + tail, capped=True).outcome is None


def test_members_come_in_order_with_their_source() -> None:
    assert list(members(' {"a": 1.0 ,"b":"\\u0041"} ')) == [("a", 1.0, "1.0"), ("b", "A", '"\\u0041"')]
