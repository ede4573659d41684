"""Types of arguments and options."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from tests.support.builders import ID
from waterhook_cli.parameter_types import ExecutionIdType, HostType, InputFieldType, JsonObjectType, TimeType


@pytest.mark.parametrize(
    "value",
    ["{", "[1]", "@missing.json", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}"],
)
def test_text_that_is_not_a_json_object_is_a_usage_error(value: str) -> None:
    with pytest.raises(click.BadParameter):
        JsonObjectType().convert(value, None, None)


@pytest.mark.parametrize("value", ["", "../" + ID, ID.upper(), ID + "\n"])
def test_an_invalid_execution_id_is_a_usage_error(value: str) -> None:
    with pytest.raises(click.BadParameter, match="32 hexadecimal digits"):
        ExecutionIdType().convert(value, None, None)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T09:00", datetime(2026, 1, 31, 9, tzinfo=UTC)),
        ("2026-01-31T09:00Z", datetime(2026, 1, 31, 9, tzinfo=UTC)),
        ("2026-01-31T09:00+01:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_in_utc(value: str, time: datetime) -> None:
    converted = TimeType().convert(value, None, None)
    assert (converted, converted.utcoffset()) == (time, timedelta(0))


def test_an_age_is_a_time_before_now() -> None:
    for value, age in (("90m", timedelta(minutes=90)), ("24h", timedelta(days=1)), ("7d", timedelta(days=7))):
        converted = TimeType().convert(value, None, None)
        assert abs(datetime.now(UTC) - age - converted) < timedelta(minutes=1)


@pytest.mark.parametrize("value", ["yesterday", "0001-01-01T00:00+14:00", "999999d", "1y", ""])
def test_an_invalid_time_is_a_usage_error(value: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a time"):
        TimeType().convert(value, None, None)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("hooks.example.com", "hooks.example.com"),
        ("Hooks.Example.COM.", "hooks.example.com"),
        ("hooks.example.com:8443", "hooks.example.com"),
        ("HOOKS.example.com.:443", "hooks.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("10.0.0.1:8443", "10.0.0.1"),
        ("[2001:DB8:0::1]:8443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_is_written_as_in_the_key_of_the_host(value: str, host: str) -> None:
    assert HostType().convert(value, None, None) == host


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "https://hooks.example.com",
        "https://hooks.example.com/path?token=not-shown",
        "hooks.example.com/not-shown",
        "not-shown@hooks.example.com",
        "hooks.example.com?not-shown",
        "hooks.example.com#not-shown",
        "hooks..example.com",
        "hooks.example.com..",
        "-hooks.example.com",
        "hooks.example.com:",
        "hooks.example.com:not-shown",
        "hooks.example.com:123456",
        "*.example.com",
        "not shown.example.com",
        "bücher.example",
        "10.0.0.256",
        "0x7f.1",
        "127.1",
        "[2001:db8::1",
        "[2001:db8::1]not-shown",
        "fe80::1%eth0",
        "a" * 64 + ".example.com",
        "a." * 127 + "com",
        "hooks.example.com\n",
    ],
)
def test_text_that_is_not_a_host_is_a_usage_error_that_does_not_show_it(value: str) -> None:
    with pytest.raises(click.BadParameter, match="expected") as caught:
        HostType().convert(value, None, None)
    assert "not-shown" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("message=Where is it?", "message", "Where is it?"),
        ("message=", "message", ""),
        ("count=3", "count", "3"),
        ("count:=3", "count", 3),
        ("count:=-0.5e1", "count", -5.0),
        ('tags:=["a", null]', "tags", ["a", None]),
        ('nested:={"a": {"b": true}}', "nested", {"a": {"b": True}}),
        ('text:="3"', "text", "3"),
        # The first sign separates.
        ("token=abc==", "token", "abc=="),
        ("formula=a:=b", "formula", "a:=b"),
        ("a==b", "a", "=b"),
        ('query:="a=b"', "query", "a=b"),
        # No other character of a key has a meaning.
        ("user.name=Ada", "user.name", "Ada"),
        ("a:b=c", "a:b", "c"),
        ("items[0]=x", "items[0]", "x"),
        ('"quoted"=x', '"quoted"', "x"),
        ("with space=x", "with space", "x"),
        ("größe=ß", "größe", "ß"),
        ("lines=a\nb", "lines", "a\nb"),
        ("dash=-", "dash", "-"),
        ('text:="@support Hi"', "text", "@support Hi"),
    ],
)
def test_a_field_is_a_text_or_json(text: str, key: str, value: object) -> None:
    assert InputFieldType().convert(text, None, None) == (key, value)


def test_a_field_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"a": 1}\n', encoding="utf-8")
    for sign, value in (("=", '{"a": 1}\n'), (":=", {"a": 1})):
        read = InputFieldType().convert(f"data{sign}@{tmp_path / 'data'}", None, None)
        assert read == ("data", value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("support-chat", "expected KEY=TEXT, or KEY:=JSON"),
        ("=x", "expected KEY=TEXT"),
        (":=1", "expected KEY=TEXT"),
        ("", "expected KEY=TEXT"),
        ("n:=", "n: invalid JSON at line 1, column 1"),
        ("n:=[1,", "n: invalid JSON at line 1, column 4"),
        ("n:=yes", "n: invalid JSON at line 1, column 1"),
        ("n:=NaN", "n: JSON has no NaN"),
        ("n:=1e999", "a number must fit in 64 bits"),
        ("n:=" + "9" * 5000, "a number must fit in 64 bits"),
        ("n:=" + "[" * 100_000, "nested too deeply"),
        ("n=@missing.txt", "n: can't read the file missing.txt: No such file"),
        ("n=@you, hi", "A text that begins with @ is written as JSON: n:='\"@...\"'"),
    ],
)
def test_an_invalid_field_is_a_usage_error_that_names_the_key(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(message)):
        InputFieldType().convert(text, None, None)
