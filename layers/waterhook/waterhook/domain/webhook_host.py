"""Circuit breaker and share of a host: pure functions that decide whether an attempt may use the host now.

Many deliveries use one host. The breaker prevents that each of them uses up its attempts while the host is down. The
share prevents that a slow host uses the whole concurrency of the function.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

# The breaker opens after this many failures in a row: for FIRST_OPEN_S, doubled with each failed probe.
OPEN_AFTER = 5
FIRST_OPEN_S = 60.0
LONGEST_OPEN_S = 900.0
# A place is free again after this time, also if the function crashed. The function's timeout is shorter.
PLACE_S = 60.0
# An older delivery is not held back by the breaker, so that it can use its attempts before it ends.
MAX_HELD_BACK_S = 3 * 24 * 3600
# Without a free place, a delivery waits this long. Each further time doubles it up to the longest wait, and jitter up
# to doubles it again: few deliveries wait shortly, and many do not keep the function busy.
FULL_WAIT_S = 1.0
LONGEST_FULL_WAIT_S = 16.0
# While another attempt probes the host, a delivery waits this long: an attempt takes at most about 15 s.
PROBE_WAIT_S = 15.0
# Deliveries that wait for the same breaker are spread over this time.
SPREAD_S = 60.0


class Admission(StrEnum):
    """Whether an attempt may use a host."""

    ADMITTED = "admitted"
    FULL = "full"
    """Other attempts hold all places of the host."""
    OPEN = "open"
    """The host failed several times in a row. It is not used, or another attempt probes it."""


@dataclass(frozen=True, slots=True)
class HostState:
    """Failures of a host, and the attempts that use it now. Times are epoch seconds."""

    failures: int = 0
    """Failures in a row."""
    openings: int = 0
    """How often the breaker opened since the last success."""
    open_until: float = 0.0
    places: Mapping[str, float] = field(default_factory=dict)
    """When the place of each attempt expires, by the token of the attempt."""
    last_error: str | None = None
    """Error code of the last failure, also after a success."""
    last_failed_at: float | None = None


def enter(
    state: HostState, token: str, now: float, *, limit: int, held_back_s: float
) -> tuple[Admission, HostState]:
    """Return whether the attempt `token` may use the host, and the state with its place.

    An attempt that has a place gets it again. `held_back_s` is the age of the delivery: above MAX_HELD_BACK_S only the
    limit applies. Once an open period has ended, one attempt at a time probes the host.
    """
    places = {holder: expires for holder, expires in state.places.items() if expires > now}
    if token in places:
        return Admission.ADMITTED, state
    if held_back_s <= MAX_HELD_BACK_S:
        is_probed = state.failures >= OPEN_AFTER and bool(places)
        if now < state.open_until or is_probed:
            return Admission.OPEN, state
    if len(places) >= limit:
        return Admission.FULL, state
    return Admission.ADMITTED, replace(state, places=places | {token: now + PLACE_S})


def leave(
    state: HostState, token: str, now: float, *, host_failed: bool | None, error: str | None
) -> HostState:
    """Return the state after the attempt `token`, without its place.

    `host_failed` is None if no attempt was made after all. The result of an attempt without a place is ignored: it was
    counted already, or it is too old. A failure while the breaker is open does not open it for longer, because that
    attempt began earlier.
    """
    if token not in state.places:
        return state
    places = {
        holder: expires for holder, expires in state.places.items() if holder != token and expires > now
    }
    if host_failed is None:
        return replace(state, places=places)
    if not host_failed:
        return replace(state, failures=0, openings=0, open_until=0.0, places=places)
    failed = replace(state, failures=state.failures + 1, places=places, last_error=error, last_failed_at=now)
    if failed.failures < OPEN_AFTER or now < state.open_until:
        return failed
    # 2 to the power of 10 is far above LONGEST_OPEN_S already.
    open_s = min(FIRST_OPEN_S * 2.0 ** min(state.openings, 10), LONGEST_OPEN_S)
    return replace(failed, openings=state.openings + 1, open_until=now + open_s)


def enter_again_at(
    admission: Admission, open_until: float, now: float, jitter: float, *, earlier_waits: int
) -> float:
    """Return when a delivery that was not admitted tries to enter again.

    `jitter` is a number from 0 to 1. `earlier_waits` is how often it waited for a place since its last attempt.
    """
    if admission is not Admission.OPEN:
        wait_s = min(FULL_WAIT_S * 2.0 ** min(earlier_waits, 10), LONGEST_FULL_WAIT_S)
        return now + wait_s * (1 + jitter)
    return max(open_until, now + PROBE_WAIT_S) + SPREAD_S * jitter


def share_of(concurrency: int) -> int:
    """Return how many attempts may use one host at the same time: a quarter of the concurrency, at least one."""
    return max(concurrency // 4, 1)
