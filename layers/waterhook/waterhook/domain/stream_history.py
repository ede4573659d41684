"""The observations of one execution's event streams, and what follows from them: pure functions."""

from dataclasses import dataclass, replace

from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S

# A stream that was refused or ended early is reopened after REOPEN_S, doubled with every failure.
REOPEN_S, REOPEN_LIMIT_S = 1.0, 240.0
# A stream that lasted this long counts as no failure and is reopened immediately.
WORTHWHILE_S = 5.0
# Pause before a stream is reopened whose final event the status does not confirm.
REOPEN_AFTER_FINAL_EVENT_S = 30.0


@dataclass(frozen=True, slots=True)
class StreamHistory:
    """Observations of one execution's streams. Times are epoch seconds."""

    delivered: bool = False
    """A stream has sent an event of a known type."""
    event_at: float | None = None
    """When the last known event arrived that was not final."""
    final_event_at: float | None = None
    """When a stream first sent a final event."""
    failures: int = 0
    """Streams in a row that were refused or ended early."""
    reopens_at: float | None = None


def after_stream_event(stream: StreamHistory, now: float) -> StreamHistory:
    """Return the history after a known event that is not final: the stream works and the job runs."""
    return replace(stream, delivered=True, event_at=now)


def after_final_event(stream: StreamHistory, now: float) -> StreamHistory:
    """Return the history after a final event. The status is polled until it confirms the end."""
    # Only the first final event starts the quick polls: a stream may send it too early, and repeatedly.
    first_at = now if stream.final_event_at is None else stream.final_event_at
    pause_s = min(REOPEN_AFTER_FINAL_EVENT_S * 2.0 ** min(stream.failures, 3), REOPEN_LIMIT_S)
    return replace(
        stream,
        delivered=True,
        final_event_at=first_at,
        failures=stream.failures + 1,
        reopens_at=now + pause_s,
    )


def after_stream_end(
    stream: StreamHistory, now: float, lasted_s: float, retry_after_s: float | None = None
) -> StreamHistory:
    """Return the history after a stream that was refused, broke off, was idle or was closed."""
    if lasted_s >= WORTHWHILE_S:
        return replace(stream, failures=0, reopens_at=now)
    pause_s = min(REOPEN_S * 2.0 ** min(stream.failures, 16), REOPEN_LIMIT_S)
    pause_s = max(pause_s, min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S))
    return replace(stream, failures=stream.failures + 1, reopens_at=now + pause_s)
