"""Retries of a webhook: pure functions that decide when the next attempt is made, and when none is made any more."""

# Delays in seconds after the first, second … attempt: about 75 hours in all. The first ones cover a restart of the
# receiver, the last ones an outage over a weekend.
DELAYS_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
MAX_ATTEMPTS = len(DELAYS_S) + 1
JITTER = 0.1
# No attempt is made after this age of the delivery.
MAX_AGE_S = 5 * 24 * 3600
# How long a record and its output outlive the delivery, so that an operator can repeat it.
KEPT_AFTER_S = 24 * 3600
# The last attempt is made at this age or later. Without it, jitter might end the attempts before three days.
LAST_ATTEMPT_AGE_S = 73 * 3600.0
# A longer `Retry-After` is shortened to this.
MAX_RETRY_AFTER_S = 24 * 3600
# An attempt without a result for this time has ended: the function's timeout is shorter.
CLAIM_S = 60.0
# An attempt may begin this much before it is due. `DelaySeconds` of SQS has whole seconds, and clocks differ.
TOLERANCE_S = 2.0


def next_attempt_at(
    attempts: int, *, created_at: float, now: float, retry_after_s: float | None, jitter: float
) -> float | None:
    """Return when the next attempt is due after attempt number `attempts` failed, or None to give up.

    `jitter` from 0 to 1 changes the delay by -10 % to +10 %. `Retry-After` postpones the attempt but never makes it
    earlier. Gives up after MAX_ATTEMPTS, or if the attempt would be later than MAX_AGE_S after the creation.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    delay_s = _delay_s(attempts) * (1 + JITTER * (2 * jitter - 1))
    at = now + max(delay_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
    if attempts == MAX_ATTEMPTS - 1:
        at = max(at, created_at + LAST_ATTEMPT_AGE_S)
    return at if at <= created_at + MAX_AGE_S else None


def claimed_until(attempts: int, now: float) -> float:
    """Return `next_at` while attempt number `attempts` runs.

    An attempt whose function crashed is repeated after the same delay as a failed one, but not before its claim ends.
    """
    return now + max(CLAIM_S, _delay_s(attempts) if attempts < MAX_ATTEMPTS else 0.0)


def _delay_s(attempts: int) -> float:
    return DELAYS_S[max(attempts, 1) - 1]
