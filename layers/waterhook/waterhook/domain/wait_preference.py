"""How long a caller prefers to wait: the header `Prefer` (RFC 7240) and the query parameter `wait`."""

import re
from collections.abc import Iterable, Iterator

# A longer time has the same meaning. Python refuses to parse a number of thousands of digits.
LONGEST_S = 10**9
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110, no secret
_QUOTED = r'"(?:[^"\\]|\\.)*"'
# Text up to a separator outside of quotes. A quote without an end extends to the end of the text.
_UP_TO = r'(?:[^{separator}"]|"(?:[^"\\]|\\.)*"?)+'
_PREFERENCES = re.compile(_UP_TO.format(separator=","), re.DOTALL)
_FIRST_PART = re.compile(_UP_TO.format(separator=";"), re.DOTALL)
_PREFERENCE = re.compile(
    # Each blank matches at one place only. Otherwise the time would grow with the square of their number.
    rf"[ \t]*(?P<name>{_TOKEN})[ \t]*(?:=[ \t]*(?:(?P<word>{_TOKEN}|{_QUOTED})[ \t]*)?)?",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def preferred_wait_s(headers: Iterable[str]) -> int | None:
    """Return the seconds of the preference `wait`, or None without a valid one.

    `headers` are the values of all `Prefer` headers in their order. Only the first `wait` counts. What is not valid is
    ignored, as are other preferences and the parameters of a preference.
    """
    for name, word in _preferences(headers):
        if name == "wait":
            return seconds(word)
    return None


def seconds(text: str) -> int | None:
    """Return a text as whole seconds, at most LONGEST_S, or None if it has other characters than digits."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return min(int(digits), LONGEST_S) if len(digits) <= len(str(LONGEST_S)) else LONGEST_S


def _preferences(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name in lower case and the value of each valid preference. A missing value is an empty text."""
    for header in headers:
        for text in _PREFERENCES.findall(header):
            first = _FIRST_PART.match(text)
            if first and (preference := _PREFERENCE.fullmatch(first[0])):
                yield preference["name"].lower(), _unquoted(preference["word"] or "")


def _unquoted(word: str) -> str:
    return _ESCAPE.sub(r"\1", word[1:-1]) if word.startswith('"') else word
