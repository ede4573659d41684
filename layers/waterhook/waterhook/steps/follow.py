"""The follow step: reads the event stream of one execution and polls its status in the same invocation.

A `FollowSession` is one execution with its stream and its state. `FollowStep` runs a session for one invocation.
"""

from collections.abc import Callable
from dataclasses import replace

from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.settings import Settings
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.follow_session import FollowSession, StreamOpener
from waterhook.steps.status_poller import StatusPoller

# Time reserved for the last status request and for storing an output.
RESERVE_S = 30.0
# 128 MB of memory are enough for a small status document. The poll function reads larger ones.
MAX_STATUS_BYTES = 256 * 1024


def longest_follow_s(settings: Settings, remaining_s: float) -> float:
    """Return the seconds that an invocation may follow if it has `remaining_s` left."""
    # Following may have been switched off since the last step. Then the status is polled once.
    return min(settings.follow_s, remaining_s - RESERVE_S) if settings.follow else 0.0


class FollowStep:
    """Runs one follow session for the duration of an invocation."""

    def __init__(
        self,
        streams: StreamOpener,
        poller: StatusPoller,
        publisher: Callable[[], ProgressPublisher],
        check: FinalRecordCheck | None = None,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`publisher` is called only for an execution whose caller wants progress events.

        With `check`, a follow ends when the record is final.
        """
        self._streams = streams
        self._poller = poller
        self._publisher = publisher
        self._check = check
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    def follow(self, state: LoopState, follow_s: float) -> LoopState:
        """Return the state with an outcome or the next step, after following for at most `follow_s`.

        The status is polled at least once, even if `follow_s` is 0, unless the key can't be read.
        """
        began = self._monotonic()
        ends_at = began + max(follow_s, 0.0)
        session = FollowSession(
            replace(
                state, next=NextStep.FOLLOW, history=replace(state.history, follows=state.history.follows + 1)
            ),
            self._streams,
            self._poller,
            clock=self._clock,
            publisher=self._publisher() if state.progress_events else None,
            check=self._check,
            stream_ends_at=ends_at,
        )
        try:
            self._run(session, ends_at)
        finally:
            session.close()
        state = (
            session.state if session.state.next is not NextStep.FOLLOW else self._poller.decide(session.state)
        )
        seconds = round(state.history.follow_seconds + self._monotonic() - began, 3)
        return replace(
            state, stream=session.stream_history, history=replace(state.history, follow_seconds=seconds)
        )

    def _run(self, session: FollowSession, ends_at: float) -> None:
        while not session.finished and (left_s := ends_at - self._monotonic()) > 0:
            wakes_at = session.advance()
            if not session.finished:
                session.wait(max(min(wakes_at - self._clock(), left_s), 0.0), self._sleep)
        if not session.has_polled and not session.finished:
            session.poll()
