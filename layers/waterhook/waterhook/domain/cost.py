"""Prices of AWS and the cost of an execution. The benchmark and the estimate in a notification both use this module.

Prices are those of us-east-1 in USD, read from the services' price pages in January 2026. The free tier and costs by
size (logs, storage, data transfer) are not included. Other regions differ by a few percent.
"""

from waterhook.domain.poll_history import PollHistory

# Step Functions Standard: per state transition, retries included.
TRANSITION_USD = 25.00 / 1e6
# Lambda on arm64: per request, and per GB-second of memory.
LAMBDA_REQUEST_USD = 0.20 / 1e6
LAMBDA_GB_SECOND_USD = 0.000_013_333_4
# API Gateway REST API: per request. SNS: per message.
API_REQUEST_USD = 3.50 / 1e6
SNS_MESSAGE_USD = 0.50 / 1e6
# DynamoDB on demand: per KB written, and per consistent read of 4 KB.
DYNAMODB_WRITE_USD = 0.625 / 1e6
DYNAMODB_READ_USD = 0.125 / 1e6
# SQS standard: per request of up to 64 KB.
SQS_REQUEST_USD = 0.40 / 1e6
# In addition for a message with a MessageGroupId (fair queues).
SQS_FAIR_QUEUE_USD = 0.10 / 1e6

# Memory of the functions as in template.yaml, and duration of a warm invocation: one status request, a start, and a
# notification. Measured with a server 0.1 s away. The durations are about 1 % of the estimate.
FOLLOW_MB = 128
FUNCTION_MB = 512
STATUS_REQUEST_S = 0.12
START_S = 0.3
NOTIFY_S = 0.2
# Writes of 1 KB or less to the table and its indexes. Start: accepted (table and three indexes), starting and running
# (table and both indexes of lists). End: the outcome (likewise), then notified (table and the unfinished index).
START_WRITES = 10
END_WRITES = 5

# An attempt of a webhook: memory of the deliver function, and its duration without the time of the receiver.
DELIVER_MB = 256
ATTEMPT_S = 0.2
# Its message is sent, received and deleted. Reads: the record, the delivery, and the host twice.
ATTEMPT_QUEUE_REQUESTS = 3
ATTEMPT_READS = 4
# Writes of the only attempt: the host twice, the new delivery with its index, the result with its index. A failed
# attempt adds the host twice, and twice a change of the index key: the table, and one entry deleted and one written.
ATTEMPT_WRITES = 6
FAILED_ATTEMPT_WRITES = 8

_MB_PER_GB = 1024
# Decimal places of the estimate: a millionth of a dollar is a tenth of a cent for 1,000 executions.
_DIGITS = 6


def lambda_usd(requests: int, duration_s: float, memory_mb: int) -> float:
    """Return the cost of `requests` invocations that together ran for `duration_s` with this much memory."""
    return requests * LAMBDA_REQUEST_USD + duration_s * memory_mb / _MB_PER_GB * LAMBDA_GB_SECOND_USD


def waiting_usd(transitions: int, follows: int, follow_s: float, polls: int) -> float:
    """Return the cost of the loop: its state transitions, `follow_s` seconds of following, and its polls."""
    return (
        transitions * TRANSITION_USD
        + lambda_usd(follows, follow_s, FOLLOW_MB)
        + lambda_usd(polls, polls * STATUS_REQUEST_S, FUNCTION_MB)
    )


def start_usd() -> float:
    """Return the cost of a start, the same for followed and polled executions."""
    return TRANSITION_USD + lambda_usd(1, START_S, FUNCTION_MB) + START_WRITES * DYNAMODB_WRITE_USD


def end_usd() -> float:
    """Return the cost of an outcome and its notification: the states Notify, Completed? and the final state."""
    written = END_WRITES * DYNAMODB_WRITE_USD
    return 3 * TRANSITION_USD + lambda_usd(1, NOTIFY_S, FUNCTION_MB) + written + SNS_MESSAGE_USD


def attempt_usd(receiver_s: float = 0.1) -> float:
    """Return the cost of a webhook that is delivered in one attempt, if the receiver answers after `receiver_s`.

    An output that makes the record larger than 4 KB costs more to read.
    """
    return _attempt_usd(ATTEMPT_WRITES, receiver_s)


def failed_attempt_usd(receiver_s: float = 0.1) -> float:
    """Return what one failed attempt adds to the cost of a webhook."""
    return _attempt_usd(FAILED_ATTEMPT_WRITES, receiver_s)


def _attempt_usd(writes: int, receiver_s: float) -> float:
    return (
        lambda_usd(1, ATTEMPT_S + receiver_s, DELIVER_MB)
        + ATTEMPT_QUEUE_REQUESTS * (SQS_REQUEST_USD + SQS_FAIR_QUEUE_USD)
        + ATTEMPT_READS * DYNAMODB_READ_USD
        + writes * DYNAMODB_WRITE_USD
    )


def loop_transitions(history: PollHistory) -> int:
    """Return the number of state transitions between start and Notify: a Choice, then those of every cycle.

    A poll cycle has three (Wait, Poll, What next?). A follow has two, also when it is refused for lack of concurrency.
    """
    return 1 + 3 * history.polls + 2 * (history.follows + history.refusals)


def estimated_usd(history: PollHistory) -> float:
    """Return the estimated AWS cost of an execution: one start, its loop, and one notification.

    Rounded to a millionth of a dollar. Not included: retries, a queue before the start, API Gateway, events on a bus,
    webhooks, and costs by size.
    """
    waited = waiting_usd(loop_transitions(history), history.follows, history.follow_seconds, history.polls)
    return round(start_usd() + waited + end_usd(), _DIGITS)
