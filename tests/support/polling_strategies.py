"""Hypothesis strategies for the poll histories and limits that are the input of the policies."""

from hypothesis import strategies as st

from tests.fakes.clock import NOW
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.polling_policy import EVENT_BUDGET, EVENTS_PER_POLL, Limits

DAY_S = 86_400
LONGEST_DEADLINE_S = 30 * DAY_S
MAX_POLLS = EVENT_BUDGET // EVENTS_PER_POLL
# Times in the past and the future, also implausible ones.
times = st.floats(NOW - LONGEST_DEADLINE_S, NOW + 2 * LONGEST_DEADLINE_S)
percents = st.floats(0, 100) | st.sampled_from([0.0, 5e-324, 1e-300, 99.99999999999999, 100.0])
histories = st.builds(
    PollHistory,
    started_at=times,
    status_requests=st.integers(0, 3 * MAX_POLLS),
    polls=st.integers(0, 3 * MAX_POLLS),
    follows=st.integers(0, 3000),
    refusals=st.integers(0, 500),
    earlier_events=st.integers(0, 9000),
    polled_at=st.none() | times,
    errors=st.integers(0, 5000),
    retry_after_s=st.none() | st.floats(0, 1e9),
    not_found=st.integers(0, 5000),
    not_found_since=st.none() | times,
    progress=st.none() | percents,
    progress_at=st.none() | times,
    progress_readings=st.integers(0, 5),
    first_progress=st.none() | percents,
    first_progress_at=st.none() | times,
    cleanup_after=st.none() | times | st.floats(NOW - 10, NOW + 4000) | st.floats(-6e10, 2.5e11),
    cancels=st.integers(0, 3),
    unknown_status=st.none() | st.just("EXPIRED"),
    ended_polls=st.integers(0, 3),
    ended_since=st.none() | times,
    faults=st.integers(0, 500),
    fault_since=st.none() | times,
)
waits = st.integers(1, 3600)
jitters = st.floats(0, 1, exclude_max=True)
limit_sets = st.builds(
    lambda first, second, deadline: Limits(min(first, second), max(first, second), deadline),
    waits,
    waits,
    times,
)
