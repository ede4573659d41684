"""Stream history: when a stream is reopened."""

import pytest

from tests.fakes.clock import NOW
from waterhook.domain import stream_history
from waterhook.domain.poll_history import RETRY_AFTER_LIMIT_S
from waterhook.domain.stream_history import StreamHistory


def test_a_refused_stream_is_reopened_after_a_pause_that_doubles() -> None:
    stream, pauses = StreamHistory(), []
    for _ in range(10):
        stream = stream_history.after_stream_end(stream, NOW, lasted_s=0.1)
        pauses.append((stream.reopens_at or 0) - NOW)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(0.5, 1), (30.0, 30), (1e9, RETRY_AFTER_LIMIT_S)])
def test_a_stream_is_not_reopened_before_retry_after(retry_after_s: float, pause_s: float) -> None:
    stream = stream_history.after_stream_end(StreamHistory(), NOW, 0.1, retry_after_s)
    assert stream.reopens_at == NOW + pause_s


def test_a_stream_that_was_open_for_5_s_is_reopened_immediately() -> None:
    failed = stream_history.after_stream_end(StreamHistory(), NOW, lasted_s=4.9)
    assert (failed.failures, failed.reopens_at) == (1, NOW + 1)
    lasted = stream_history.after_stream_end(failed, NOW, lasted_s=5.0)
    assert (lasted.failures, lasted.reopens_at) == (0, NOW)


def test_a_stream_with_false_final_events_is_reopened_after_a_pause_that_doubles() -> None:
    stream, pauses = StreamHistory(), []
    for _ in range(5):
        stream = stream_history.after_final_event(stream, NOW)
        pauses.append((stream.reopens_at or 0) - NOW)
    assert pauses == [30, 60, 120, 240, 240]
