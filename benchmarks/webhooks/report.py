"""Renders the section of the report, and computes the targets."""

from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from benchmarks.target import Target, at_most, table
from benchmarks.webhooks.burst import FAILING_SHARE, HOSTS, WebhookBurst
from benchmarks.webhooks.delay import Delay
from benchmarks.webhooks.share import ANSWERS_S, CONCURRENCIES, DELIVERIES, drain
from waterhook.domain.webhook_host import share_of

MAX_DELAY_S = 0.6
OF_SNS = 2.0


def targets(delays: Sequence[Delay], burst: WebhookBurst) -> Iterator[Target]:
    """Yield the targets with their results."""
    webhook_s, sns_s = (median(each.webhook_s for each in delays), median(each.sns_s for each in delays))
    yield at_most("median time from the completion of a job to its webhook:", webhook_s, MAX_DELAY_S, " s")
    yield at_most("the same, against the notification by SNS and SQS:", webhook_s / sns_s, OF_SNS)
    delivered = burst.delivered
    yield Target(
        f"each of {burst.executions} concurrent executions delivers its webhook",
        len(delivered) == burst.executions == burst.statuses["delivered"],
        f"{len(delivered)} received, {burst.statuses['delivered']} with status delivered",
    )
    unverified = sum(not each.verified for each in burst.requests)
    yield Target(
        "no webhook is received with different content or an invalid signature",
        not burst.different and not unverified,
        f"{burst.different} different, {unverified} not verified, of {len(burst.requests)} requests",
    )


def render(delays: Sequence[Delay], burst: WebhookBurst, results: Sequence[Target]) -> str:
    """Return the section in markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            "| | median s | p95 s | longest s |",
            "|---|---|---|---|",
            _row("webhook", [each.webhook_s for each in delays]),
            _row("SNS and SQS", [each.sns_s for each in delays]),
            "",
            f"{len(delays)} executions, one after the other.",
            "",
            "## Throughput",
            "",
            _throughput(burst),
            "",
            "## One host",
            "",
            _SHARE,
            *_shares(),
            "",
            *table(results),
            "",
        ]
    )


_INTRODUCTION = """# Webhooks

`python -m benchmarks.webhooks`: measures webhooks on the local AWS, with HTTPS receivers on the same machine. The
receivers verify each signature with the package `standardwebhooks`. Absolute times depend on the machine.

- Each number is the time from the completion of a job, by the simulator's clock, to the arrival of its event.
- **webhook**: at the receiver. **SNS and SQS**: at a consumer that long-polls the queue which is subscribed to the
  topic. Both belong to the same executions.
"""

_SHARE = f"""{DELIVERIES:,} webhooks for one host become due at the same time, and the host answers each with 200. One
host gets a quarter of `WebhookConcurrency`. Simulated with the functions that decide: deliveries per second, and in
brackets the invocations of the function per delivery.
"""


def _row(name: str, delays: Sequence[float]) -> str:
    p95 = quantiles(delays, n=20, method="inclusive")[18]
    return f"| {name} | {median(delays):.2f} | {p95:.2f} | {max(delays):.2f} |"


def _throughput(burst: WebhookBurst) -> str:
    delays, delivered = burst.delays_s, burst.delivered
    failing = f"every {FAILING_SHARE}th" if burst.failing else "no"
    p95 = quantiles(delays, n=20, method="inclusive")[18] if len(delays) > 1 else 0.0
    repeated = sum(number - 1 for number in delivered.values())
    return (
        f"{burst.executions} executions of 1 to 3 s, started within {burst.started_s:.1f} s, with webhooks for "
        f"{len(HOSTS)} hosts. The first answer of {failing} webhook is an error, a closed connection or garbage. The "
        f"last webhook was delivered {burst.wall_s:.1f} s after the first start, with {len(burst.requests)} requests: "
        f"{burst.failing} failed first, and {repeated} repeated a delivered webhook. Time from the completion of a job "
        f"to its delivery: median {median(delays):.1f} s, p95 {p95:.1f} s."
    )


def _shares() -> Iterator[str]:
    yield (
        "| `WebhookConcurrency` | requests at the same time | "
        + " | ".join(f"answers in {answer_s:g} s" for answer_s in ANSWERS_S)
        + " |"
    )
    yield "|---" * (len(ANSWERS_S) + 2) + "|"
    for concurrency in CONCURRENCIES:
        cells = (drain(concurrency, answer_s) for answer_s in ANSWERS_S)
        texts = " | ".join(f"{each.rate:.1f} ({each.invocations / each.deliveries:.1f})" for each in cells)
        yield f"| {concurrency} | {share_of(concurrency)} | {texts} |"
