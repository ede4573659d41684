"""Prints the cost of webhooks, by the price table of `waterhook.domain.cost`.

Run `PYTHONPATH=layers/waterhook python -m benchmarks.webhook_cost`. docs/cost.md has the table.
"""

from waterhook.domain import cost

HOURS_PER_MONTH = 730
# Lambda polls a queue with five pollers of 20 s, also while it is empty.
POLLS_PER_HOUR = 5 * 3600 / 20
SWEEPS_PER_HOUR = 4
# The time of a sweep that finds nothing: sixteen queries, each at least half a read of 4 KB.
SWEEP_S = 0.3
SWEEP_READS = 8
# Three metrics in alarms at $0.10, and the secret.
ALARM_METRICS_USD = 0.30
SECRET_USD = 0.40


def idle_queue_usd() -> float:
    """Return what the polls of the empty queue cost in a month."""
    return HOURS_PER_MONTH * POLLS_PER_HOUR * cost.SQS_REQUEST_USD


def idle_sweeps_usd() -> float:
    """Return what the sweeps cost in a month if they find nothing."""
    sweep_usd = cost.lambda_usd(1, SWEEP_S, cost.DELIVER_MB) + SWEEP_READS * cost.DYNAMODB_READ_USD
    return HOURS_PER_MONTH * SWEEPS_PER_HOUR * sweep_usd


def rows() -> list[tuple[str, float]]:
    """Return each row of the table in docs/cost.md: its text, and its cost in millionths of a dollar."""
    return [
        ("delivered in one attempt, the receiver answers in 0.1 s", cost.attempt_usd() * 1e6),
        ("the same, the receiver answers in 5 s", cost.attempt_usd(5.0) * 1e6),
        ("each failed attempt, the receiver answers in 0.1 s", cost.failed_attempt_usd() * 1e6),
        ("each failed attempt, no answer for 15 s", cost.failed_attempt_usd(15.0) * 1e6),
    ]


def main() -> None:
    """Print the tables."""
    print("| Webhook | µ$ |\n|---|---|")
    for text, micro_usd in rows():
        print(f"| {text} | {micro_usd:.1f} |")
    print(f"\nIdle, per month: queue ${idle_queue_usd():.2f}, sweeps ${idle_sweeps_usd():.2f}, ", end="")
    idle_usd = idle_queue_usd() + idle_sweeps_usd() + ALARM_METRICS_USD + SECRET_USD
    print(f"secret ${SECRET_USD:.2f}, alarms ${ALARM_METRICS_USD:.2f}; together ${idle_usd:.2f}")


if __name__ == "__main__":
    main()
