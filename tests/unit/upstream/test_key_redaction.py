"""Redaction of the API key: every form of the key is replaced, and nothing else is changed."""

import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.json_values import any_json
from waterhook.upstream.key_redaction import MIN_KEY_CHARS, KeyRedactor

KEYS = ["wfk_live_0123456789abcdef", 'a/b"c\\d+e f?g=h&i', "12345678", "~~~~????>>>>", "a.b-c_d~e!f*g'h(i)"]


def in_base64(before: str, *, safe: bool = False) -> Callable[[str], str]:
    encode = urlsafe_b64encode if safe else b64encode
    return lambda key: encode(f"{before}{key}: tail".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "quoted": lambda key: quote(key, safe=""),
    "quoted in lower case": lambda key: quote(key, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "quoted but for slashes": quote,
    "quoted as a form": quote_plus,
    "quoted twice": lambda key: quote(quote(key, safe=""), safe=""),
    "quoted throughout": lambda key: "".join(f"%{ord(char):02x}" for char in key),
    "base64": in_base64(""),
    "base64, one byte before": in_base64("x"),
    "base64, two bytes before": in_base64("xy"),
    "base64, a scheme before": in_base64("user:"),
    "base64 for URLs": in_base64("", safe=True),
    "base64 for URLs, one byte before": in_base64("x", safe=True),
    "base64 for URLs, two bytes before": in_base64("xy", safe=True),
    "base64, quoted": lambda key: quote(in_base64("")(key), safe=""),
}


def as_codes(text: str) -> str:
    return '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"'


def as_upper_codes(text: str) -> str:
    return as_codes(text).upper().replace("\\U", "\\u")


JSON: dict[str, Callable[[str], str]] = {
    "in JSON": json.dumps,
    "in JSON with slashes escaped": lambda text: json.dumps(text).replace("/", "\\/"),
    "in JSON as codes": as_codes,
    "in JSON as codes in upper case": as_upper_codes,
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"text": text})),
    "behind a backslash": lambda text: json.dumps("\\" + text),
}


def redactor_of(*keys: str) -> KeyRedactor:
    redactor = KeyRedactor()
    for key in keys:
        redactor.add_key(key)
    return redactor


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("write", JSON.values(), ids=JSON)
def test_a_key_in_any_form_is_replaced_and_json_stays_valid(
    form: Callable[[str], str], write: Callable[[str], str]
) -> None:
    for key in KEYS:
        if write in {as_codes, as_upper_codes} and "%" in form(key):
            continue  # a URL escape inside of JSON escapes is not searched for
        body = f'{{"a":{write(f"<< {form(key)} >>")},"b":1.50}}'.encode()
        redacted = bytes(redactor_of(key).redact(body))
        document = json.loads(redacted)
        assert redacted.endswith(b'"b":1.50}'), key
        assert "<< " in json.dumps(document), key
        assert " >>" in json.dumps(document), key
        assert "***" in document["a"] or "777" in document["a"], key
        assert form(key).strip("=") not in document["a"]
        assert key not in document["a"]


@pytest.mark.parametrize("key", KEYS)
def test_the_old_key_and_the_new_one_are_replaced(key: str) -> None:
    assert redactor_of("old-key-of-before", key).redact_text(f"{key} old-key-of-before!") in {
        "*** ***!",
        "77777777 ***!",
    }


def test_a_key_of_digits_is_replaced_by_digits() -> None:
    assert (
        redactor_of("12345678").redact(b'{"n":-12345678.5,"t":"12345678"}')
        == b'{"n":-77777777.5,"t":"77777777"}'
    )


def test_a_key_that_is_too_short_is_not_replaced() -> None:
    key = "k" * (MIN_KEY_CHARS - 1)
    assert redactor_of(key).redact_text(key) == key


@given(any_json, st.sampled_from([None, 1]))
def test_json_without_a_key_is_unchanged(value: object, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    assert redactor_of(*KEYS[:2]).redact(body) == body


def test_a_text_with_a_lone_surrogate_is_unchanged() -> None:
    assert redactor_of(KEYS[0]).redact_text("\ud83d") == "\ud83d"


def test_the_redaction_of_a_kibibyte_takes_less_than_half_a_millisecond() -> None:
    body = json.dumps({"status": "RUNNING", "text": "Ü 100 % \n" * 60}).encode()
    redactor = redactor_of(*KEYS[:2])
    redactor.redact(body)
    began = time.process_time()
    for _ in range(100):
        redactor.redact(body)
    assert (time.process_time() - began) / 100 < 0.0005
