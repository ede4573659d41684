"""Status document of the upstream: any content is read without an exception, and the output stays unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.fakes.clock import NOW
from tests.support.json_values import any_json, any_object, any_text
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES, OutputError, StatusDocument, shorten_document
from waterhook.text import MAX_MESSAGE_CHARS

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

# Outputs that `json.loads` and `json.dumps` would change.
OUTPUTS = {
    "an integer of twenty digits": '{"n":12345678901234567890}',
    "an integer of five thousand digits": '{"n":' + "7" * 5000 + "}",
    "a float that looks like an integer": '{"n":1.0}',
    "a float beyond every double": '{"n":1e400}',
    "a float below every double": '{"n":-1E-400}',
    "more digits than a double holds": '{"n":0.1000000000000000055511151231257827}',
    "minus zero": '{"n":-0}',
    "half a surrogate pair": '{"t":"\\ud83d"}',
    "unnecessary escapes": '{"t":"\\u0041\\/"}',
    "whitespace of all four kinds": '{ \t"a"\r\n:\n1 ,"b" : [ ] }',
    "the same name twice": '{"a":1,"a":2}',
    "nested three thousand deep": '{"d":' + "[" * 3000 + "]" * 3000 + "}",
    "text beyond ASCII": '{"t":"Übergröße 🙂 \u2028"}',
    "an empty object": "{}",
    "names of other fields": '{"status":"FAILED","final_output":{"status":"RUNNING"}}',
    "brackets in a text": '{"t":"\\"}}}\\\\","u":"]}"}',
    "a list, though an object was announced": "[1, 2]",
    "a text, though an object was announced": '"done"',
    "a number alone": "0.10",
    "an integer of twenty digits alone": "-12345678901234567890",
    "false": "false",
}


def read(text: str | bytes, *, capped: bool = False, broken: bool = False) -> StatusDocument:
    cut = OutputError.TOO_LARGE if capped else OutputError.UNREADABLE if broken else None
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return StatusDocument.from_body(body, cut=cut)


def text_of(**changes: Any) -> str:
    return json.dumps(KNOWN | changes)


def test_every_known_field_is_read() -> None:
    assert read(text_of()) == StatusDocument(
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


def test_an_empty_object_is_a_document_without_fields() -> None:
    assert read("{}") == StatusDocument()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("COMPLETED", Status.COMPLETED),
        ("FAILED", Status.FAILED),
        ("CANCELLED", Status.CANCELLED),
        ("RUNNING", None),
        ("completed", Status.COMPLETED),
        ("CANCELED", Status.CANCELLED),
        ("TIMED_OUT", None),
        ("PAUSED", None),
        ("", None),
        (None, None),
        (5, None),
        (["COMPLETED"], None),
        ({"value": "COMPLETED"}, None),
    ],
)
def test_only_known_statuses_are_outcomes(status: object, outcome: Status | None) -> None:
    assert read(text_of(status=status)).outcome is outcome


@given(st.dictionaries(st.sampled_from(list(KNOWN)), any_json, max_size=3), any_object)
def test_a_json_object_with_any_fields_raises_nothing(known: dict[str, Any], extra: dict[str, Any]) -> None:
    text = json.dumps(extra | known, allow_nan=True)
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        assume(False)  # noqa: FBT003 - NaN and Infinity are not JSON
    document = read(text)
    assert document.progress is None or -1e308 < document.progress < 1e308
    assert document.completed_nodes is None or document.completed_nodes >= 0
    assert len(document.error_message or "") <= MAX_MESSAGE_CHARS


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(any_text | st.text('{}[]":,.0123456789-+eEtruefalsn \n\t\\u', max_size=40))
def test_any_text_is_a_document_or_raises_value_error(text: str) -> None:
    try:
        expected = isinstance(json.loads(text, parse_constant=_refuse), dict)
    except ValueError:
        expected = False
    try:
        assert read(text).outcome is None
    except ValueError:
        assert not expected


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
        "{status:1}",
        "{1:2}",
        "{,}",
        '{"status":"RUNNING"',
        '{"status":"RUNNING",}',
        '{"status":"RUNNING"}}',
        '{"status":"RUNNING"}{"status":"COMPLETED"}',
        '{"status":"RUNNING" "x":1}',
        '{"status":"COMP',
    ],
)
def test_a_text_that_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


def test_deeply_nested_values_hide_no_other_field() -> None:
    deep = "[" * 15_000 + "]" * 15_000
    document = read(f'{{"x":{deep},"error_message":{deep},"status":"COMPLETED","final_output":{deep}}}')
    assert (document.outcome, document.error_message) == (Status.COMPLETED, None)
    assert document.final_output_json == deep.encode()


@pytest.mark.parametrize("head", ["{", '{"a":1,', "", "["])
def test_a_deeply_nested_text_that_is_not_an_object_is_refused(head: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(head + "[" * 200_000 + "]" * 200_000 + "}")


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("space", ["", "\r\n\t "])
def test_the_output_is_unchanged_byte_for_byte(output: str, space: str) -> None:
    text = (
        f'{space}{{"a":[1],{space}"final_output"{space}:{space}{output}{space},"status":"COMPLETED"}}{space}'
    )
    document = read(text)
    kept = document.final_output_json
    assert (kept if isinstance(kept, str) else (kept or b"").decode()) == output
    assert document.outcome is Status.COMPLETED
    assert not document.is_flawed


@pytest.mark.parametrize(
    ("output", "is_text"),
    [
        ("[" * 400 + "]" * 400, True),
        ("[" * 600 + "]" * 600, False),
        ('"' + "x" * (MAX_INLINE_BYTES - 2) + '"', True),
        ('"' + "x" * (MAX_INLINE_BYTES - 1) + '"', False),
        ('"' + "ß" * (MAX_INLINE_BYTES // 2) + '"', False),
    ],
    ids=["nested 400 deep", "nested 600 deep", "32 KiB", "a byte more", "a character more"],
)
def test_an_output_is_text_only_if_it_can_be_part_of_a_notification(output: str, *, is_text: bool) -> None:
    for body in (
        f'{{"final_output":{output},"status":"COMPLETED"}}'.encode(),
        bytearray(f'{{"status":"COMPLETED","final_output":{output}}}'.encode()),
    ):
        kept = StatusDocument.from_body(body).final_output_json
        assert kept == (output if is_text else output.encode())


INVALID = {
    "NaN": b"NaN",
    "NaN inside": b'{"a":[1,{"b":NaN}],"status":"FAILED"}',
    "minus infinity": b"[-Infinity]",
    "a byte that is no UTF-8": b'{"t":"a\xffb"}',
    "half a character": '"ß'.encode()[:-1] + b'"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a control character": b'"a\nb"',
    "an unknown escape": b'"\\x41"',
    "an extra comma": b'[1,{"a":1,},]',
    "a leading zero": b"[01]",
    "quotes of another kind": b"{'a':1}",
}


@pytest.mark.parametrize("output", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_output_that_is_not_json_is_unreadable_and_hides_no_other_field(
    output: bytes, *, is_first: bool
) -> None:
    rest = b'"status":"COMPLETED","progress":100,"completed_at":"2026-01-01T00:00:00Z"'
    value = b'"final_output":' + output
    document = read(b"{" + b",".join([value, rest] if is_first else [rest, value]) + b"}")
    assert (document.outcome, document.progress, document.completed_at) == (Status.COMPLETED, 100, NOW)
    assert (document.final_output_json, document.output_error) == (None, "unreadable")
    assert document.is_flawed


@pytest.mark.parametrize("field", ["progress", "error_message", "created_at"])
@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
def test_an_unreadable_field_hides_neither_status_nor_output(field: str, value: bytes) -> None:
    body = f'{{"{field}":'.encode() + value + b',"status":"COMPLETED","final_output":{"a":1}}'
    document = read(body)
    assert (document.outcome, document.final_output_json) == (Status.COMPLETED, '{"a":1}')
    assert (document.is_flawed, document.output_error) == (False, None)


def test_an_invalid_byte_in_a_text_is_replaced() -> None:
    document = read(b'{"status":"FAILED","error_message":"node \xff broke"}')
    assert (document.outcome, document.error_message) == (Status.FAILED, "node \ufffd broke")
    assert not document.is_flawed


@pytest.mark.parametrize("end", ["y", "\\n", "\\u00df", "\\\\"])
def test_the_beginning_of_a_long_message_is_used(end: str) -> None:
    for more in range(12):
        text = "x" * (64 * 1024 - more) + end * 100_000
        message = read(f'{{"status":"FAILED","error_message":"{text}"}}').error_message
        assert message == "x" * (MAX_MESSAGE_CHARS - 1) + "…"


TAILS = ["", ",", ",}", "} x", '}{"status":"FAILED"}', ' "x":1}', ',"x":', ',"x":[1']


@pytest.mark.parametrize("tail", TAILS)
def test_a_document_that_breaks_off_after_its_output_is_flawed_and_its_output_is_used(tail: str) -> None:
    document = read('{"status":"COMPLETED","final_output":{"a":1}' + (tail or ","))
    assert (document.outcome, document.final_output_json, document.is_flawed) == (
        Status.COMPLETED,
        '{"a":1}',
        True,
    )


@pytest.mark.parametrize("tail", ["", "[", '{"a":1', '{"a":"}', "12", '"a', "{'"])
def test_a_document_that_breaks_off_in_its_output_is_completed_and_unreadable(tail: str) -> None:
    document = read('{"status":"COMPLETED","final_output":' + tail, broken=True)
    assert (document.outcome, document.output_error, document.is_flawed) == (
        Status.COMPLETED,
        "unreadable",
        True,
    )


def test_a_complete_object_is_not_flawed_if_the_transfer_breaks_off_after_it() -> None:
    document = read('{"status":"COMPLETED","final_output":{"a":1}}', broken=True)
    assert (document.final_output_json, document.is_flawed) == ('{"a":1}', False)


def in_pieces(content: bytes, size_bytes: int = 1000) -> Iterator[bytes]:
    return (content[at : at + size_bytes] for at in range(0, len(content), size_bytes))


@pytest.mark.parametrize(
    "output", ['"' + "x\\\\" * 3000 + '"', '{"a":[' + '"]}",' * 2000 + "1]}", "1" * 9000]
)
@pytest.mark.parametrize("before", ["{", '{"status":"COMPLETED",'])
def test_a_value_above_the_limit_is_left_out_and_the_fields_after_it_are_read(
    output: str, before: str
) -> None:
    end = ',"status":"COMPLETED","completed_at":"2026-01-01T00:00:00Z"}'
    whole = (before + '"final_output" : ' + output + end).encode()
    for limit_bytes in (100, 101, 4096):
        body = shorten_document(bytearray(whole[:limit_bytes]), in_pieces(whole[limit_bytes:]))
        document = read(bytes(body), capped=True)
        assert (document.outcome, document.completed_at) == (Status.COMPLETED, NOW)
        assert (document.output_error, document.final_output_json) == ("too_large", None)
        assert not document.is_flawed


@pytest.mark.parametrize("output", ['"x"', '{"a":["]}"]}'])
def test_a_value_that_ends_at_the_limit_is_kept(output: str) -> None:
    whole = f'{{"final_output":{output},"error_message":"}}]","status":"COMPLETED"}}'.encode()
    limit_bytes = whole.index(b',"error_message"')
    body = shorten_document(bytearray(whole[:limit_bytes]), in_pieces(whole[limit_bytes:], 3))
    assert body == whole
    assert read(bytes(body), capped=True).final_output_json == output


def test_a_value_above_the_limit_in_another_field_does_not_remove_the_output() -> None:
    whole = b'{"padding":"' + b"x" * 9000 + b'","final_output":{"a":1},"status":"COMPLETED"}'
    body = shorten_document(bytearray(whole[:100]), in_pieces(whole[100:]))
    assert read(bytes(body), capped=True).final_output_json == '{"a":1}'


def test_a_value_above_the_limit_without_an_end_is_left_out() -> None:
    whole = b'{"status":"COMPLETED","final_output":"' + b"x" * 9000
    body = shorten_document(bytearray(whole[:100]), in_pieces(whole[100:]))
    document = read(bytes(body), capped=True)
    assert (document.outcome, document.output_error) == (Status.COMPLETED, "too_large")
    assert len(body) < 100


def test_an_output_of_the_limit_is_kept_and_a_larger_one_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waterhook.domain.status_document.MAX_OUTPUT_BYTES", 10)
    assert read('{"status":"COMPLETED","final_output":"12345678"}').final_output_json == '"12345678"'
    document = read('{"status":"COMPLETED","final_output":"123456789"}')
    assert (document.final_output_json, document.output_error) == (None, "too_large")


@given(
    before=any_object,
    after=any_object,
    output=any_json,
    indent=st.sampled_from([None, 0, 1, 3]),
    ascii_only=st.booleans(),
)
def test_any_output_between_any_fields_is_unchanged(
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
    document = read("{" + ",".join(fields) + "}")
    assert document.final_output_json == (None if output is None else source)


def test_a_null_output_is_none() -> None:
    assert read('{"final_output":null}').final_output_json is None


def test_an_escaped_field_name_is_recognized() -> None:
    assert read('{"final\\u005foutput":{"a":1}}').final_output_json == '{"a":1}'


def test_the_last_of_two_fields_with_the_same_name_is_used() -> None:
    text = '{"final_output":{"a":1},"status":"RUNNING","final_output":{"a":2},"status":"COMPLETED"}'
    document = read(text)
    assert (document.final_output_json, document.outcome) == ('{"a":2}', Status.COMPLETED)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
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
def test_a_field_of_another_type_is_read_as_missing(field: str, value: object, expected: object) -> None:
    assert getattr(read(text_of(**{field: value})), field) == expected


def test_progress_beyond_the_range_of_a_double_is_ignored() -> None:
    assert read('{"progress":1e400}').progress is None


CUT_DOCUMENTS = {
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
    "one with every field": {**KNOWN, "final_output": {}, "status": "COMPLETED"},
}


@pytest.mark.parametrize("document", CUT_DOCUMENTS.values(), ids=CUT_DOCUMENTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_body_cut_anywhere_raises_nothing_and_shows_no_other_outcome(
    document: dict[str, Any], indent: int | None
) -> None:
    whole = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    outcome = read(whole).outcome
    for end in range(len(whole) + 1):
        cut = read(whole[:end], capped=True)
        assert cut.outcome in {None, outcome}, whole[:end]
        assert cut.final_output_json in {None, read(whole).final_output_json}
        assert cut.too_large


def test_a_body_cut_in_its_output_before_its_status_is_completed() -> None:
    cut = read('{"execution_id":"e","final_output":{"text":"aaaa', capped=True)
    assert cut.outcome is Status.COMPLETED


def test_a_body_cut_in_its_output_has_the_status_before_it() -> None:
    cut = read('{"status":"RUNNING","final_output":{"text":"aaaa', capped=True)
    assert cut.outcome is None


@given(any_text, any_text)
def test_a_cut_body_of_garbage_has_no_outcome(head: str, tail: str) -> None:
    assume("final_output" not in head + tail)
    assert read(head + tail, capped=True).outcome is None
