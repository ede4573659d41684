"""Following: one execution's event stream, and the status requests that do not depend on it.

A `FollowSession` is one execution with its stream and its state; a `FollowStep` is the invocation that hosts it.
"""

from collections.abc import Callable
from dataclasses import replace

from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.steps.follow_session import FollowSession, StreamOpener
from waterhook.steps.record_check import RecordCheck
from waterhook.steps.status_poller import StatusPoller


class FollowStep:
    """Hosts one session for the duration of an invocation."""

    def __init__(
        self,
        streams: StreamOpener,
        poller: StatusPoller,
        publisher: Callable[[], ProgressPublisher],
        check: RecordCheck | None = None,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`publisher` is called only for an execution whose caller wants progress events.

        With `check` a record that is final ends the follow.
        """
        self._streams = streams
        self._poller = poller
        self._publisher = publisher
        self._check = check
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    def follow(self, job: LoopState, follow_s: float) -> LoopState:
        """Return the job with an outcome or with what to do next, after at most `follow_s` of following.

        The status is polled at least once, also where there is no time left, unless the key can't be read.
        """
        began = self._monotonic()
        ends_at = began + max(follow_s, 0.0)
        session = FollowSession(
            replace(job, next=NextStep.FOLLOW, history=replace(job.history, follows=job.history.follows + 1)),
            self._streams,
            self._poller,
            clock=self._clock,
            publisher=self._publisher() if job.progress_events else None,
            check=self._check,
            stream_ends_at=ends_at,
        )
        try:
            self._run(session, ends_at)
        finally:
            session.close()
        job = session.job if session.job.next is not NextStep.FOLLOW else self._poller.decide(session.job)
        seconds = round(job.history.follow_seconds + self._monotonic() - began, 3)
        return replace(job, stream=session.history, history=replace(job.history, follow_seconds=seconds))

    def _run(self, session: FollowSession, ends_at: float) -> None:
        while not session.finished and (left_s := ends_at - self._monotonic()) > 0:
            wakes_at = session.advance()
            if not session.finished:
                session.wait(max(min(wakes_at - self._clock(), left_s), 0.0), self._sleep)
        if not session.has_polled and not session.finished:
            session.poll()
