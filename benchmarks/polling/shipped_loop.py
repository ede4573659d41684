"""Runs the shipped loop in simulated time, with the deployed classes FollowStep and StatusPoller and their policy.

A small state machine follows their decisions and counts each entered state.
"""

import heapq
from dataclasses import replace

from benchmarks.environment import environment
from benchmarks.polling.measurements import INVOKE_S, TRANSITION_S, WaitMeasurement
from benchmarks.polling.upstream import Upstream
from benchmarks.polling.workloads import SimulatedJob, Workload
from tests.fakes.clock import Clock
from tests.fakes.placeholders import NO_BUCKET, unused
from waterhook.domain import cost
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.settings import Settings
from waterhook.steps.follow import FollowStep
from waterhook.steps.status_poller import StatusPoller

DEADLINE_S = 86_400.0


class Loop:
    """One execution that runs in the state machine."""

    def __init__(self, job: SimulatedJob, workload: Workload, settings: Settings) -> None:
        """Begin at the state "What next?" after the start of the job."""
        self._job = job
        self._settings = settings
        self._clock = Clock(job.arrives_s)
        self._upstream = Upstream(job, self._clock, workload.stream_limit_s, workload.behaviour)
        self._poller = StatusPoller(self._upstream, NO_BUCKET, settings, self._clock)
        self._follower = FollowStep(
            self._upstream,
            self._poller,
            unused,
            clock=self._clock,
            monotonic=self._clock,
            sleep=self._clock.sleep,
        )
        state = LoopState(f"job at {job.arrives_s}", job.arrives_s + DEADLINE_S, PollHistory(job.arrives_s))
        self._state = self._poller.decide(state)
        # The first transition is "What next?" after the start. It is part of the loop and its cost.
        self._transitions, self._polls, self._follows, self.followed_s = 1, 0, 0, 0.0

    @property
    def now(self) -> float:
        """Current simulated time of this execution."""
        return self._clock.now

    def run(self, *, can_follow: bool) -> bool:
        """Follow if `can_follow`, then poll and wait until the next follow. Return whether another follow is due.

        It returns before each follow, because the concurrency depends on the other executions.
        """
        if self._state.next is NextStep.FOLLOW:
            self._follow(can_follow=can_follow)
        while not self._state.outcome.is_final and self._state.next is not NextStep.FOLLOW:
            if self._state.next is NextStep.WAIT:
                self._enter(1, self._state.wait_seconds)
            self._poll()
        return not self._state.outcome.is_final

    def _follow(self, *, can_follow: bool) -> None:
        self._enter(1, INVOKE_S)
        if not can_follow:
            # The Catch of the state machine does the same.
            self._state = replace(self._state, follow_refused=True, next=NextStep.WAIT)
            self._enter(1, 0)
            return
        self._follows += 1
        began = self.now
        self._state = self._follower.follow(self._state, self._settings.follow_s)
        self.followed_s += self.now - began
        self._enter(1, 0)

    def _poll(self) -> None:
        self._polls += 1
        self._enter(1, INVOKE_S)
        self._state = self._poller.poll(self._state)
        self._enter(1, 0)

    def _enter(self, states: int, seconds: float) -> None:
        self._transitions += states
        self._clock.sleep(states * TRANSITION_S + seconds)

    def measurement(self) -> WaitMeasurement:
        """Return what this execution has measured so far."""
        return WaitMeasurement(
            delay_s=self.now - self._job.arrives_s - self._job.finish_s,
            invocations=self._polls + self._follows,
            transitions=self._transitions,
            followed_s=self.followed_s,
            requests=self._upstream.requests,
            status_requests=self._upstream.status_requests,
            age_s=self._job.finish_s,
            cost_usd=cost.waiting_usd(self._transitions, self._follows, self.followed_s, self._polls),
        )


def wait(workload: Workload, *, follow: bool = True) -> list[WaitMeasurement]:
    """Run the shipped loop for each job of the workload."""
    settings = Settings.from_env({**environment(), "WATERHOOK_FOLLOW_CONCURRENCY": "50" if follow else "0"})
    loops = [Loop(job, workload, settings) for job in workload.jobs]
    queue = [(loop.now, number) for number, loop in enumerate(loops)]
    heapq.heapify(queue)
    followed_until: list[float] = []
    while queue:
        now, number = heapq.heappop(queue)
        loop = loops[number]
        while followed_until and followed_until[0] <= now:
            heapq.heappop(followed_until)
        can_follow = len(followed_until) < workload.units
        followed_s, is_follow_due = loop.followed_s, loop.run(can_follow=can_follow)
        if loop.followed_s > followed_s:
            heapq.heappush(followed_until, now + loop.followed_s - followed_s)
        if is_follow_due:
            heapq.heappush(queue, (loop.now, number))
    return [loop.measurement() for loop in loops]
