"""Measurements of waiting: for one job, and summarized for many jobs."""

from dataclasses import dataclass, fields
from statistics import fmean

from waterhook.domain.cost import STATUS_REQUEST_S

# Seconds of a status request, of opening a stream, and from Waterflai to the follow function for an event.
REQUEST_S = STATUS_REQUEST_S
OPEN_S = 0.2
EVENT_S = 0.05
# Seconds of a transition in Step Functions, and of invoking a warm function.
TRANSITION_S = 0.02
INVOKE_S = 0.03

# A poll of a baseline uses the cheapest function: 128 MB. Its longer duration is part of the cost.
BASELINE_POLL_MB = 128
BASELINE_POLL_S = 0.24


@dataclass(frozen=True, slots=True)
class WaitMeasurement:
    """Measurements of waiting for one job, from its start until its end is detected."""

    delay_s: float
    invocations: int
    """Number of invocations: polls and follows."""
    transitions: int
    followed_s: float
    """Seconds of following."""
    requests: int
    """Number of requests to Waterflai: status requests and streams."""
    cost_usd: float
    status_requests: int
    age_s: float
    """Seconds from the start of the job to its completion."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over jobs, percentiles of the delay, and cost in dollars for 1,000 jobs."""

    name: str
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    invocations: float
    transitions: float
    followed_s: float
    requests: float
    usd_per_1000: float
    s_per_status_request: float
    """Sum of the ages of the jobs divided by the number of status requests."""

    @classmethod
    def of(cls, name: str, waited: list[WaitMeasurement]) -> "Summary":
        """Return the summary of at least one job."""
        delays, count = sorted(each.delay_s for each in waited), len(waited)
        p50_s, p95_s, p99_s = (delays[min(int(count * part), count - 1)] for part in (0.5, 0.95, 0.99))
        return cls(
            name,
            mean_s=fmean(delays),
            p50_s=p50_s,
            p95_s=p95_s,
            p99_s=p99_s,
            invocations=fmean(each.invocations for each in waited),
            transitions=fmean(each.transitions for each in waited),
            followed_s=fmean(each.followed_s for each in waited),
            requests=fmean(each.requests for each in waited),
            usd_per_1000=fmean(each.cost_usd for each in waited) * 1000,
            s_per_status_request=sum(each.age_s for each in waited)
            / max(sum(each.status_requests for each in waited), 1),
        )

    def between(self, other: "Summary", part: float, name: str) -> "Summary":
        """Return the linear interpolation between self (`part` 0) and `other` (`part` 1)."""
        numbers = {
            each.name: getattr(self, each.name) * (1 - part) + getattr(other, each.name) * part
            for each in fields(Summary)
            if each.name != "name"
        }
        return Summary(name, **numbers)

    def is_beaten_by(self, other: "Summary") -> bool:
        """Return whether `other` is faster on average and cheaper."""
        return other.mean_s < self.mean_s and other.usd_per_1000 < self.usd_per_1000
