"""Simulates how fast one host receives many webhooks, by WebhookConcurrency and by the time that it takes to answer.

The functions that decide are those of the deliver function. A message of the queue takes a free invocation of the
function. SQS and Lambda have no delays of their own, and the item of the host no conflicts: with fast answers and
hundreds of places the real rate is lower.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass
from itertools import count
from random import Random

from waterhook.domain import webhook_host
from waterhook.domain.webhook_host import Admission, HostState

DELIVERIES = 1_000
CONCURRENCIES = (10, 40, 100, 400)
ANSWERS_S = (0.1, 0.5, 2.0)
# Time of an invocation beside the answer of the receiver: reads and writes of the table, and the TLS handshake.
_ATTEMPT_S = 0.08
_POSTPONED_S = 0.03


@dataclass(frozen=True, slots=True)
class ShareResult:
    """Result of a case: when the last delivery ended, in seconds, and the number of invocations."""

    last_s: float
    invocations: int
    deliveries: int

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.last_s


def drain(concurrency: int, answer_s: float, deliveries: int = DELIVERIES, seed: int = 1) -> ShareResult:
    """Simulate deliveries to one host whose messages arrive at the same time."""
    chance, order = Random(seed), count()  # noqa: S311 - not used for security
    state, limit = HostState(), webhook_host.share_of(concurrency)
    visible = deque((number, 0) for number in range(deliveries))
    # Ends of invocations, and messages that become visible: time, order, token of an attempt, message.
    events: list[tuple[float, int, str | None, tuple[int, int] | None]] = []
    now, free, invocations, delivered, last_s = 0.0, concurrency, 0, 0, 0.0
    while delivered < deliveries:
        while visible and free:
            number, waits = visible.popleft()
            invocations, free = invocations + 1, free - 1
            token = f"{number}-{waits}"
            admission, state = webhook_host.enter(state, token, now, limit=limit, held_back_s=0)
            if admission is Admission.ADMITTED:
                heapq.heappush(events, (now + _ATTEMPT_S + answer_s, next(order), token, None))
                continue
            heapq.heappush(events, (now + _POSTPONED_S, next(order), None, None))
            at = webhook_host.enter_again_at(admission, 0.0, now, chance.random(), earlier_waits=waits)
            seen_at = now + math.ceil(at - now)  # DelaySeconds
            heapq.heappush(events, (seen_at, next(order), None, (number, waits + 1)))
        now, _, ended, message = heapq.heappop(events)
        if message is not None:
            visible.append(message)
            continue
        free += 1
        if ended is not None:
            state = webhook_host.leave(state, ended, now, host_failed=False, error=None)
            delivered, last_s = delivered + 1, now
    return ShareResult(last_s, invocations, deliveries)
