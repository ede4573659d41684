"""Runs the shipped loop in simulated time, with the deployed classes FollowStep and StatusPoller and their policy.

A small state machine follows their decisions and counts each entered state.
"""

import heapq
from dataclasses import replace

from benchmarks.environment import environment
from benchmarks.polling.upstream import Upstream
from benchmarks.polling.waited import INVOKE_S, TRANSITION_S, Waited
from benchmarks.polling.workloads import Task, Workload
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
    """One execution in the state machine."""

    def __init__(self, task: Task, workload: Workload, settings: Settings) -> None:
        """Begin at the state "What next?" after the start of the job."""
        self._task = task
        self._settings = settings
        self._clock = Clock(task.arrives_s)
        self._upstream = Upstream(task, self._clock, workload.stream_limit_s, workload.behaviour)
        self._poller = StatusPoller(self._upstream, NO_BUCKET, settings, self._clock)
        self._follower = FollowStep(
            self._upstream,
            self._poller,
            unused,
            clock=self._clock,
            monotonic=self._clock,
            sleep=self._clock.sleep,
        )
        job = LoopState(f"job at {task.arrives_s}", task.arrives_s + DEADLINE_S, PollHistory(task.arrives_s))
        self._job = self._poller.decide(job)
        # The first transition is "What next?" after the start. It is part of the loop and its cost.
        self._transitions, self._polls, self._follows, self.held_s = 1, 0, 0, 0.0

    @property
    def now(self) -> float:
        """Current simulated time of this execution."""
        return self._clock.now

    def run(self, *, can_follow: bool) -> bool:
        """Follow if `can_follow`, then poll and wait until the next follow. Return whether another follow is due.

        It returns before each follow, because the concurrency depends on the other executions.
        """
        if self._job.next is NextStep.FOLLOW:
            self._follow(can_follow=can_follow)
        while not self._job.outcome.is_final and self._job.next is not NextStep.FOLLOW:
            if self._job.next is NextStep.WAIT:
                self._enter(1, self._job.wait_seconds)
            self._poll()
        return not self._job.outcome.is_final

    def _follow(self, *, can_follow: bool) -> None:
        self._enter(1, INVOKE_S)
        if not can_follow:
            # The Catch of the state machine does the same.
            self._job = replace(self._job, follow_refused=True, next=NextStep.WAIT)
            self._enter(1, 0)
            return
        self._follows += 1
        began = self.now
        self._job = self._follower.follow(self._job, self._settings.follow_s)
        self.held_s += self.now - began
        self._enter(1, 0)

    def _poll(self) -> None:
        self._polls += 1
        self._enter(1, INVOKE_S)
        self._job = self._poller.poll(self._job)
        self._enter(1, 0)

    def _enter(self, states: int, seconds: float) -> None:
        self._transitions += states
        self._clock.sleep(states * TRANSITION_S + seconds)

    def waited(self) -> Waited:
        """Return the measurements of this execution."""
        return Waited(
            lag_s=self.now - self._task.arrives_s - self._task.finish_s,
            turns=self._polls + self._follows,
            transitions=self._transitions,
            held_s=self.held_s,
            requests=self._upstream.requests,
            status_requests=self._upstream.status_requests,
            age_s=self._task.finish_s,
            cost_usd=cost.waiting_usd(self._transitions, self._follows, self.held_s, self._polls),
        )


def wait(workload: Workload, *, follow: bool = True) -> list[Waited]:
    """Run the shipped loop for each job of the workload."""
    settings = Settings.from_env({**environment(), "WATERHOOK_FOLLOW_CONCURRENCY": "50" if follow else "0"})
    loops = [Loop(task, workload, settings) for task in workload.tasks]
    queue = [(loop.now, number) for number, loop in enumerate(loops)]
    heapq.heapify(queue)
    held_until: list[float] = []
    while queue:
        now, number = heapq.heappop(queue)
        loop = loops[number]
        while held_until and held_until[0] <= now:
            heapq.heappop(held_until)
        can_follow = len(held_until) < workload.units
        held_s, is_follow_due = loop.held_s, loop.run(can_follow=can_follow)
        if loop.held_s > held_s:
            heapq.heappush(held_until, now + loop.held_s - held_s)
        if is_follow_due:
            heapq.heappush(queue, (loop.now, number))
    return [loop.waited() for loop in loops]
