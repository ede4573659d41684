"""Prints the cost of a request that waits for its outcome, by the price table of `waterhook.domain.cost`.

Run `PYTHONPATH=layers/waterhook python -m benchmarks.wait_cost`. docs/cost.md has the table.
"""

from waterhook.api.outcome_wait import PAUSE_S
from waterhook.domain import cost

WAITS_S = (1, 5, 20)
# An eventually consistent read of a record of at most 4 KB is half a read. The last read is consistent.
_STATUS_READS = 0.5
# Take a place, and give it back.
_PLACE_WRITES = 2


def wait_usd(waited_s: float) -> float:
    """Return what a wait adds to the cost of a request. MaxWaiters is small, so the item of the places has 1 KB."""
    reads = waited_s / PAUSE_S * _STATUS_READS + 1
    return (
        cost.lambda_usd(0, waited_s, cost.FUNCTION_MB)
        + reads * cost.DYNAMODB_READ_USD
        + _PLACE_WRITES * cost.DYNAMODB_WRITE_USD
    )


def rows() -> list[tuple[str, float]]:
    """Return each row of the table in docs/cost.md: its text, and its cost in millionths of a dollar."""
    return [(f"{waited_s} s", wait_usd(waited_s) * 1e6) for waited_s in WAITS_S]


def main() -> None:
    """Print the table."""
    print("| Waited | µ$ |\n|---|---|")
    for text, micro_usd in rows():
        print(f"| {text} | {micro_usd:.1f} |")


if __name__ == "__main__":
    main()
