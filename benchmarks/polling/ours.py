"""The shipped loop in virtual time: the very Follower, Poller and policy that are deployed.

What they decide is obeyed as the state machine obeys it, and each state it enters is counted.
"""

import heapq
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any, cast

from benchmarks.environment import environment
from benchmarks.polling.upstream import Clock, Upstream
from benchmarks.polling.waited import INVOKE_S, TRANSITION_S, Waited
from benchmarks.polling.workloads import Task, Workload
from waterhook import prices
from waterhook.models import History, Job, Next
from waterhook.polling import Poller
from waterhook.results import Results
from waterhook.settings import Settings

ROOT = Path(__file__).parents[2]
DEADLINE_S = 86_400.0


@cache
def follower_type() -> Callable[..., Any]:
    """Return the class that the deployed follow function is made of; its folder is no package."""
    app = run_path(str(ROOT / "functions" / "follow" / "app.py"))
    return cast("Callable[..., Any]", app["Follower"])


class Loop:
    """One execution on its way through the state machine."""

    def __init__(self, task: Task, workload: Workload, settings: Settings) -> None:
        """Stand where "What next?" is entered first, right after the start."""
        self._task = task
        self._settings = settings
        self._clock = Clock(task.arrives_s)
        self._upstream = Upstream(task, self._clock, workload.stream_limit_s)
        self._poller = Poller(self._upstream, Results("bucket"), settings, self._clock)
        self._job = self._poller.decide(Job("id", task.arrives_s + DEADLINE_S, History(task.arrives_s)))
        # "What next?" after the start: the loop has it, so it is the loop's to pay.
        self._transitions, self._polls, self._follows, self.held_s = 1, 0, 0, 0.0

    @property
    def now(self) -> float:
        """This execution's time."""
        return self._clock.now

    def run(self, *, seat: bool) -> bool:
        """Follow if there is a seat, else poll and wait on; return whether another follow is asked for.

        It comes back where it would take a seat, since only then do others matter to it.
        """
        if self._job.next is Next.FOLLOW:
            self._follow(seat=seat)
        while not self._job.outcome.is_final and self._job.next is not Next.FOLLOW:
            if self._job.next is Next.WAIT:
                self._enter(1, self._job.wait_seconds)
            self._poll()
        return not self._job.outcome.is_final

    def _follow(self, *, seat: bool) -> None:
        self._enter(1, INVOKE_S)
        if not seat:
            # As the ASL's Catch does it.
            self._job = replace(self._job, follow_refused=True)
            self._poll()
            return
        self._follows += 1
        opened = self.now
        follower = follower_type()(
            self._upstream, self._poller, lambda: None, self._clock, self._clock, self._clock.sleep
        )
        self._job = follower.follow(self._job, self._settings.follow_s)
        self.held_s += self.now - opened
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
        """Return what it took."""
        return Waited(
            lag_s=self.now - self._task.arrives_s - self._task.finish_s,
            turns=self._polls + self._follows,
            transitions=self._transitions,
            held_s=self.held_s,
            requests=self._upstream.requests,
            cost_usd=prices.waiting_usd(self._transitions, self._follows, self.held_s, self._polls),
        )


def wait(workload: Workload, *, follow: bool = True) -> list[Waited]:
    """Return what the shipped loop takes to wait for each job of the workload."""
    settings = Settings.from_env({**environment(), "WATERHOOK_FOLLOW_CONCURRENCY": "50" if follow else "0"})
    loops = [Loop(task, workload, settings) for task in workload.tasks]
    ahead = [(loop.now, number) for number, loop in enumerate(loops)]
    heapq.heapify(ahead)
    held_until: list[float] = []
    while ahead:
        now, number = heapq.heappop(ahead)
        loop = loops[number]
        while held_until and held_until[0] <= now:
            heapq.heappop(held_until)
        seat = len(held_until) < workload.units
        held_s, goes_on = loop.held_s, loop.run(seat=seat)
        if loop.held_s > held_s:
            heapq.heappush(held_until, now + loop.held_s - held_s)
        if goes_on:
            heapq.heappush(ahead, (loop.now, number))
    return [loop.waited() for loop in loops]
