"""What AWS charges for, in one place: the benchmark and the estimate in a notification count with the same table.

us-east-1, USD, from the price pages of the services, read in January 2026; without a free tier, and without
what costs the same however one waits (logs, storage, data transfer). Other regions differ by some percent.
"""

# Step Functions, Standard: every state entered, and every retry of one.
TRANSITION_USD = 25.00 / 1e6
# Lambda on arm64: every request, and the memory for as long as it is held.
LAMBDA_REQUEST_USD = 0.20 / 1e6
LAMBDA_GB_SECOND_USD = 0.000_013_333_4
# API Gateway REST, SNS and EventBridge custom events: every request or message.
API_REQUEST_USD = 3.50 / 1e6
SNS_MESSAGE_USD = 0.50 / 1e6
EVENTBRIDGE_EVENT_USD = 1.00 / 1e6
# DynamoDB on demand: every KB written, every 4 KB read.
DYNAMODB_WRITE_USD = 0.625 / 1e6
DYNAMODB_READ_USD = 0.125 / 1e6

_MB_PER_GB = 1024


def lambda_usd(requests: int, held_s: float, memory_mb: int) -> float:
    """Return what so many requests cost that together held a function of this size for `held_s`."""
    return requests * LAMBDA_REQUEST_USD + held_s * memory_mb / _MB_PER_GB * LAMBDA_GB_SECOND_USD
