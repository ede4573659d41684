"""What AWS charges for, in one place: the benchmark and the estimate in a notification count with the same table.

us-east-1, USD, from the price pages of the services, read in January 2026; without a free tier, and without
what goes by size (logs, storage, data transfer). Other regions differ by some percent.
"""

from waterhook.domain.poll_history import PollHistory

# Step Functions, Standard: every state entered, and every retry of one.
TRANSITION_USD = 25.00 / 1e6
# Lambda on arm64: every request, and the memory for as long as it is held.
LAMBDA_REQUEST_USD = 0.20 / 1e6
LAMBDA_GB_SECOND_USD = 0.000_013_333_4
# API Gateway REST and SNS: every request or message.
API_REQUEST_USD = 3.50 / 1e6
SNS_MESSAGE_USD = 0.50 / 1e6
# DynamoDB on demand: every KB written.
DYNAMODB_WRITE_USD = 0.625 / 1e6

# The functions as template.yaml makes them, and how long a warm one is held: by a question to the upstream, by a
# start and by a notification. Measured against a server 0.1 s away; they matter by a hundredth of the estimate.
FOLLOW_MB = 128
FUNCTION_MB = 512
QUESTION_S = 0.12
START_S = 0.3
NOTIFY_S = 0.2
# Writes, to the table and to its indexes: accepted (both indexes), starting and running (the callers' one); the outcome
# (likewise) and that it was published (out of the index of what is unfinished). Each is of a KB or less.
START_WRITES = 7
END_WRITES = 4

_MB_PER_GB = 1024
# An estimate is rounded to this: a tenth of a cent for a thousand executions.
_DIGITS = 6


def lambda_usd(requests: int, held_s: float, memory_mb: int) -> float:
    """Return what so many requests cost that together held a function of this size for `held_s`."""
    return requests * LAMBDA_REQUEST_USD + held_s * memory_mb / _MB_PER_GB * LAMBDA_GB_SECOND_USD


def waiting_usd(transitions: int, follows: int, held_s: float, polls: int) -> float:
    """Return what waiting in our loop costs: the states entered, `held_s` of listening, the questions."""
    return (
        transitions * TRANSITION_USD
        + lambda_usd(follows, held_s, FOLLOW_MB)
        + lambda_usd(polls, polls * QUESTION_S, FUNCTION_MB)
    )


def start_usd() -> float:
    """Return what a start costs, whichever way its end is waited for."""
    return TRANSITION_USD + lambda_usd(1, START_S, FUNCTION_MB) + START_WRITES * DYNAMODB_WRITE_USD


def end_usd() -> float:
    """Return what an outcome and its notification cost: Notify, Completed? and the state the machine ends in."""
    written = END_WRITES * DYNAMODB_WRITE_USD
    return 3 * TRANSITION_USD + lambda_usd(1, NOTIFY_S, FUNCTION_MB) + written + SNS_MESSAGE_USD


def loop_transitions(history: PollHistory) -> int:
    """Return the states entered between start and Notify: a Choice after the start, and those of every cycle.

    A poll is three (Wait, Poll, What next?), a follow two, whether it found concurrency or not.
    """
    return 1 + 3 * history.polls + 2 * (history.follows + history.refusals)


def estimated_usd(history: PollHistory) -> float:
    """Return what an execution has cost on AWS by its end: one start, its waiting, one notification.

    An estimate, rounded to a millionth: retries, a queue before the start, API Gateway and what goes by size are
    not in it.
    """
    waited = waiting_usd(loop_transitions(history), history.follows, history.follow_seconds, history.polls)
    return round(start_usd() + waited + end_usd(), _DIGITS)
