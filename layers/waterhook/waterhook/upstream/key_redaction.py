"""Removes the API key from everything that the upstream sends: plain, escaped as in JSON or in a URL, or in base64."""

import re
from base64 import b64encode
from functools import cache
from urllib.parse import quote_plus

from waterhook.json_scanner import Bytes

# A shorter key is not removed, because it would match in unrelated text.
MIN_KEY_CHARS = 8
# After a rotation, the upstream may still send an earlier key.
_MAX_KEYS = 3
_MASK = b"***"
_NUMBER_LIKE = re.compile(rb"[-+.0-9eE]+")
_URL_SAFE = str.maketrans("+/", "-_")


class KeyRedactor:
    """Replaces API keys with `***`. Thread-safe."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()

    def add_key(self, key: str) -> None:
        """Redact this key too. The last _MAX_KEYS keys are redacted."""
        if key not in self._keys and len(key) >= MIN_KEY_CHARS:
            self._keys = (key, *self._keys)[:_MAX_KEYS]

    def redact(self, body: Bytes) -> Bytes:
        """Return `body` without the keys. Valid JSON stays valid, and nothing else is changed."""
        # Without backslashes, a key looks the same however often its JSON was nested in JSON strings.
        plain = body.translate(None, b"\\") if b"\\" in body else body
        has_codes = b"%" in body or b"\\u00" in body
        for key in self._keys:
            if any(form in plain for form in _forms(key)) or (has_codes and _codes(key).search(body)):
                # This pattern is slow, and rarely needed.
                body = _pattern(key).sub(_mask, body)
        return body

    def redact_text(self, text: str) -> str:
        """Return `text` without the keys."""
        return self.redact(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _mask(match: re.Match[bytes]) -> bytes:
    key = match[0].lstrip(b"\\")
    # The match includes the backslashes before the key. Pairs of them escape each other and not the key, so they stay.
    backslashes = (len(match[0]) - len(key)) // 2 * 2
    # A key that looks like a number may be part of one, so it is replaced by digits.
    return b"\\" * backslashes + (b"7" * len(key) if _NUMBER_LIKE.fullmatch(key) else _MASK)


@cache
def _texts(key: str) -> tuple[str, ...]:
    """Return the key, and for each of its three alignments in base64 the part that is independent of neighbours."""
    texts = [key]
    for before in range(3):
        text = b64encode(bytes(before) + key.encode()).decode()
        # A character of base64 has 6 bits. Characters that share bits with a neighbour of the key are left out.
        texts.append(text[-(-8 * before // 6) : 8 * (before + len(key)) // 6])
    return tuple(texts)


@cache
def _forms(key: str) -> frozenset[bytes]:
    """Return the texts for a fast search: the key's forms without backslashes and character codes."""
    forms = {*_texts(key), *(text.translate(_URL_SAFE) for text in _texts(key)[1:]), quote_plus(key)}
    return frozenset(form.replace("\\", "").encode() for form in forms)


@cache
def _codes(key: str) -> re.Pattern[bytes]:
    """Return a pattern for a character of the key or of its base64 that is written as a character code."""
    codes = {f"{ord(char):02x}" for text in _texts(key) for char in text}
    return re.compile(rf"(?:\\u00|%(?:25)*+)(?i:{'|'.join(sorted(codes))})".encode())


@cache
def _pattern(key: str) -> re.Pattern[bytes]:
    """Return a pattern for the key and its base64, with any of the characters escaped, also repeatedly."""
    plain, *encoded = _texts(key)
    same = {"+": "+-", "/": "/_"}
    texts = ["".join(_character(char, char) for char in plain)]
    texts += ["".join(_character(char, same.get(char, char)) for char in text) for text in encoded]
    return re.compile("|".join(texts).encode())


def _character(char: str, same: str) -> str:
    """Return a pattern for a character in all its notations. `same` has the characters that stand for it."""
    codes = f"(?i:{'|'.join(f'{ord(each):02x}' for each in same)})"
    signs = f"[{re.escape(same)}{'+' if char == ' ' else ''}]"
    return rf"(?:\\*+(?:{signs}|u00{codes})|%(?:25)*+{codes}{'|\\\\+' if char == '\\' else ''})"
