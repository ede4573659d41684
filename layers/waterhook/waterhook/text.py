"""Text from outside, such as upstream messages, for messages and logs: shortened, without control characters."""

import re

# Longest accepted identifier. Every id that Waterflai returned so far is a UUID.
MAX_ID_CHARS = 200
# Longest message that is stored and published, far below the limits of SNS and DynamoDB.
MAX_MESSAGE_CHARS = 2_000
# Longest upstream status that one of our messages quotes.
MAX_WORD_CHARS = 60
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")


def clip(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return `text` on one line, without control characters or lone surrogates, at most `limit` characters."""
    plain = _UNPRINTABLE.sub(" ", text[: limit * 2]).strip()
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def format_duration(seconds: float) -> str:
    """Return a duration for a message: `45 s`, `15 min`, `6 h`."""
    for unit, length_s in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def split_list(text: str) -> list[str]:
    """Return the entries of a comma-separated list without surrounding spaces and without empty ones."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
