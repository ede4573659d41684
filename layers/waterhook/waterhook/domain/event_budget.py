"""The history events of a state machine execution, of which Step Functions allows 25,000: how many are used."""

import math

from waterhook.domain.poll_history import PollHistory

# Step Functions ends an execution at 25,000 history events. This much is planned with. With start, cancel and notify
# the worst simulated case has 18,802; the rest suffices for 2,000 retries of tasks, of three events each.
EVENT_BUDGET = 18_500
# Entering and leaving a Wait and a Choice writes two events each, a task five.
EVENTS_PER_POLL = 9
EVENTS_PER_FOLLOW = 7
# A task that failed for lack of concurrency, its one retry included, and a Choice.
EVENTS_PER_REFUSAL = 10
# Starting, and waiting to start again, writes as many events as a poll.
EVENTS_PER_START = 9
# Above this the events that are left are for polls: their waits can grow, the length of a follow can't.
FOLLOW_EVENT_BUDGET = 16_000
# Attempts to start, and checks for a free slot, before the upstream accepts the job.
MAX_STARTS = 200
MAX_QUEUE_CHECKS = 1_000
# The state machine accepts waits up to this; see "What next?" in its definition.
WAIT_LIMIT_S = 3_600


def events_before_start(attempts: int, waited_s: float, timeout_s: float) -> int:
    """Return how many history events an execution may have by now: starts and checks for a slot, as many as possible.

    `waited_s` counts from acceptance, `timeout_s` is the time from acceptance to the deadline.
    """
    check_s = min(max(timeout_s / MAX_QUEUE_CHECKS, 1.0), WAIT_LIMIT_S)
    return EVENTS_PER_START * (attempts + math.ceil(max(waited_s, 0.0) / check_s))


def events_used(history: PollHistory) -> int:
    """Return how many history events the loop has written, without task retries."""
    return (
        history.earlier_events
        + EVENTS_PER_POLL * history.polls
        + EVENTS_PER_FOLLOW * history.follows
        + EVENTS_PER_REFUSAL * history.refusals
    )


def shortest_wait_s(history: PollHistory, rest_s: float) -> float:
    """Return the shortest wait that the history events left allow, in seconds."""
    polls = max((EVENT_BUDGET - history.earlier_events) // EVENTS_PER_POLL, 1)
    spent = math.ceil((events_used(history) - history.earlier_events) / EVENTS_PER_POLL)
    return spread(rest_s, spent, polls)


def spread(rest_s: float, spent: int, budget: int) -> float:
    """Return the shortest wait of which no more than `budget` fit before the deadline, in seconds.

    It is nothing at first and approaches rest / (budget - spent), so a young job with a far deadline is polled as
    often as any other.
    """
    spent = min(spent, budget - 1)
    return rest_s / (budget - spent) * (spent / budget)
