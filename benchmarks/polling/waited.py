"""What waiting for one job took, and what it took for many."""

from dataclasses import dataclass, fields
from statistics import fmean

from waterhook.domain.cost import STATUS_REQUEST_S

# The way to the upstream and back; opening a stream; an event's way here.
REQUEST_S = STATUS_REQUEST_S
OPEN_S = 0.2
EVENT_S = 0.05
# Step Functions from one state to the next, and Lambda from there to a warm function and back.
TRANSITION_S = 0.02
INVOKE_S = 0.03

# A baseline's poll is the cheapest there is: 128 MB, and slower only as far as one pays for it.
BASELINE_POLL_MB = 128
BASELINE_POLL_S = 0.24


@dataclass(frozen=True, slots=True)
class Waited:
    """From a job's start until its end was known: seconds of delay and of functions held, and counts."""

    lag_s: float
    turns: int
    """Invocations: polls and follows."""
    transitions: int
    held_s: float
    """Of following."""
    requests: int
    """To the upstream: status requests and streams."""
    cost_usd: float
    status_requests: int
    age_s: float
    """From the job's start to its completion."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over jobs, quantiles of the delay, and dollars for a thousand jobs."""

    name: str
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    turns: float
    transitions: float
    held_s: float
    requests: float
    usd_per_1000: float
    s_per_status_request: float
    """The sum of the jobs' ages over the number of status requests."""

    @classmethod
    def of(cls, name: str, waited: list[Waited]) -> "Summary":
        """Return it for at least one job."""
        lags, count = sorted(each.lag_s for each in waited), len(waited)
        p50_s, p95_s, p99_s = (lags[min(int(count * part), count - 1)] for part in (0.5, 0.95, 0.99))
        return cls(
            name,
            mean_s=fmean(lags),
            p50_s=p50_s,
            p95_s=p95_s,
            p99_s=p99_s,
            turns=fmean(each.turns for each in waited),
            transitions=fmean(each.transitions for each in waited),
            held_s=fmean(each.held_s for each in waited),
            requests=fmean(each.requests for each in waited),
            usd_per_1000=fmean(each.cost_usd for each in waited) * 1000,
            s_per_status_request=sum(each.age_s for each in waited)
            / max(sum(each.status_requests for each in waited), 1),
        )

    def between(self, other: "Summary", part: float, name: str) -> "Summary":
        """Return the numbers at this part of the way to the other ones."""
        numbers = {
            each.name: getattr(self, each.name) * (1 - part) + getattr(other, each.name) * part
            for each in fields(Summary)
            if each.name != "name"
        }
        return Summary(name, **numbers)

    def is_beaten_by(self, other: "Summary") -> bool:
        """Whether the other one is faster on average and costs less."""
        return other.mean_s < self.mean_s and other.usd_per_1000 < self.usd_per_1000
