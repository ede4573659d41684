"""Times as text (RFC 3339, Retry-After) and as seconds."""

import re
from datetime import UTC, datetime

# The years 1 to 9999. Python can parse a time outside of them if it has a zone, but can't format it.
_MIN_EPOCH_S, _END_EPOCH_S = -62_135_596_800.0, 253_402_300_800.0
# A leap second in RFC 3339. POSIX time has none, so it becomes the first second of the next minute.
_LEAP_SECOND = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:)60(.*)")
# Numbers are read as epoch seconds in the years 2000 to 2100, else as milliseconds. The two ranges don't overlap.
_EPOCH_S = (946_684_800, 4_102_444_800)


def to_rfc3339(epoch_s: float | None) -> str | None:
    """Return the time as RFC 3339 in UTC with milliseconds, or None for None."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_epoch_s(time: object) -> float | None:
    """Return a time as seconds since 1970, or None if the value is not a time.

    Accepts RFC 3339 (also in lower case, with a leap second, or without a zone, which means UTC) and epoch numbers in
    seconds or milliseconds of the years 2000 to 2100.
    """
    if isinstance(time, int | float) and not isinstance(time, bool):
        first, last = _EPOCH_S
        return next((time / unit for unit in (1, 1000) if first * unit <= time < last * unit), None)
    if not isinstance(time, str):
        return None
    text, leap_s = time.upper(), 0
    if leap := _LEAP_SECOND.fullmatch(text):
        text, leap_s = f"{leap[1]}59{leap[2]}", 1
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() + leap_s
    except (ValueError, OverflowError):
        return None
    return seconds if _MIN_EPOCH_S <= seconds < _END_EPOCH_S else None


def read_retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds of a Retry-After header in either format (RFC 9110, 10.2.3), or None.

    `now` is in seconds since 1970.
    """
    from email.utils import parsedate_to_datetime

    value = (header or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None
