"""Following: the stream makes a result known early, and the polls beside it make sure that it becomes known."""

import itertools
import json
from dataclasses import replace

import pytest

from tests.fakes.aws import Table, Topic
from tests.fakes.clock import NOW, Clock
from tests.fakes.upstream_client import NO_BUCKET, Answer, FakeUpstream
from tests.support.builders import SOURCE, history, job, running_record, settings
from waterhook.domain import polling_policy, stream_history
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.domain.stream_history import StreamHistory
from waterhook.errors import (
    KeyUnavailableError,
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
    WaterhookError,
)
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.follow import FollowStep
from waterhook.steps.follow_session import IDLE_TIMEOUT_S
from waterhook.steps.status_poller import StatusPoller
from waterhook.upstream.event_stream import StreamEnd, StreamEvent

RUNNING = StatusDocument("RUNNING")
COMPLETED = StatusDocument("COMPLETED", final_output_json='{"n":1.0}')
NODE = StreamEvent("node_started", node_id="a")
DONE = StreamEvent("execution_completed")
CLOSED = StreamEnd()
IDLE = StreamEnd(PerhapsAcceptedError("no_answer", "silent", status=200), idle=True)
BROKEN = StreamEnd(PerhapsAcceptedError("no_answer", "broke off", status=200))
NOT_FOUND = UpstreamRefusedError("refused", "HTTP 404", status=404)
DOWN = UpstreamUnavailableError("unavailable", "HTTP 503", status=503)
FAULTS: dict[str, UpstreamError] = {
    "404": NOT_FOUND,
    "401": UpstreamRefusedError("refused", "HTTP 401", status=401),
    "HTML": PerhapsAcceptedError("unusable_answer", "HTTP 200, but not text/event-stream", status=200),
    "unreachable": UpstreamUnavailableError("unreachable", "no connection"),
    "never starts": PerhapsAcceptedError("no_answer", "no answer"),
    "too much": PerhapsAcceptedError("unusable_answer", "HTTP 200, but more than 8388608 bytes", status=200),
}

# Seconds that pass, an event, an end, or why the stream is refused. After the last line a stream stays silent.
type Line = float | StreamEvent | StreamEnd | UpstreamError | KeyUnavailableError


class Stream:
    """A stream that does what its script says."""

    def __init__(self, clock: Clock, script: list[Line]) -> None:
        self.clock = clock
        self.script = list(script)
        self.opened = True
        self.closed = False

    def next(self, timeout_s: float) -> StreamEvent | StreamEnd | None:
        assert not self.closed
        while self.script:
            line = self.script[0]
            if isinstance(line, float):
                passes = min(line, timeout_s)
                self.clock.advance(passes)
                timeout_s -= passes
                if line > passes:
                    self.script[0] = line - passes
                    return None
                self.script.pop(0)
                continue
            self.script.pop(0)
            assert not isinstance(line, WaterhookError)
            return line
        self.clock.advance(timeout_s)
        return None

    def close(self) -> None:
        self.closed = True


class Streams:
    """Opens one script after the other; the last one is repeated."""

    def __init__(self, clock: Clock, scripts: tuple[list[Line], ...]) -> None:
        self.clock = clock
        self.scripts = list(scripts)
        self.opened: list[Stream] = []
        self.moments: list[float] = []

    def open_stream(self, execution_id: str, *, ends_at: float, idle_timeout_s: float) -> Stream:
        assert idle_timeout_s == IDLE_TIMEOUT_S
        self.moments.append(self.clock.now - NOW)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if script and isinstance(script[0], WaterhookError):
            raise script[0]
        self.opened.append(Stream(self.clock, script))
        return self.opened[-1]


class World:
    """A follower, its streams and the upstream that it polls, on one clock."""

    def __init__(
        self,
        *scripts: list[Line],
        statuses: list[Answer[StatusDocument]] | None = None,
        done_s: float | None = None,
        publisher: ProgressPublisher | None = None,
        limit_bytes: int = 1024,
    ) -> None:
        """`done_s`: the status is COMPLETED from then on, and RUNNING before."""
        self.clock = Clock()
        self.publisher = publisher
        self.streams = Streams(self.clock, scripts or ([],))
        self.polls: list[float] = []

        def status() -> StatusDocument:
            self.polls.append(round(self.clock.now - NOW, 3))
            if done_s is not None:
                return COMPLETED if self.clock.now - NOW >= done_s else RUNNING
            answer = (statuses or [RUNNING])[min(len(self.polls), len(statuses or [1])) - 1]
            if isinstance(answer, Exception):
                raise answer
            return answer() if callable(answer) else answer

        self.upstream = FakeUpstream(statuses=[status])
        results = NO_BUCKET
        poller = StatusPoller(
            self.upstream, results, settings(follow_concurrency=50), self.clock, limit_bytes=limit_bytes
        )
        self.follower = FollowStep(
            self.streams,
            poller,
            self._publisher,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.advance,
        )

    def follow(self, given: LoopState | None = None, follow_s: float = 840) -> LoopState:
        got = self.follower.follow(given or job(), follow_s)
        assert all(stream.closed for stream in self.streams.opened)
        return got

    def _publisher(self) -> ProgressPublisher:
        assert self.publisher is not None, "the caller wants no progress events"
        return self.publisher


def test_a_final_event_makes_the_outcome_known_with_one_poll() -> None:
    world = World([1.0, NODE, 0.5, DONE], done_s=1.5)
    got = world.follow()
    assert (got.outcome, got.next, got.result) == (
        Status.COMPLETED,
        NextStep.NOTIFY,
        {"final_output_json": '{"n":1.0}'},
    )
    assert (world.polls, len(world.streams.opened)) == ([1.5], 1)
    assert (got.history.follow_seconds, got.history.status_requests, got.history.follows) == (1.5, 1, 1)


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_the_status_decides_the_outcome_whatever_the_final_event_says(status: str) -> None:
    assert World([1.0, DONE], statuses=[StatusDocument(status)]).follow().outcome == status


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([], id="heartbeats only: the stream is open and delivers nothing"),
        pytest.param([NOT_FOUND], id="no stream"),
        pytest.param([1.0, NODE, 2.0, NODE], id="final event lost, the stream stays open"),
    ],
)
def test_a_job_whose_stream_stays_silent_is_known_to_be_over_within_the_polling_cadence(
    script: list[Line],
) -> None:
    world = World(script, done_s=20.0)
    got = world.follow()
    assert got.outcome is Status.COMPLETED
    assert world.clock.now - NOW <= 20 + 2.2
    assert len(world.polls) <= 12


def test_events_do_not_postpone_a_poll_beyond_30_s() -> None:
    world = World([1.0, NODE] * 100, done_s=31.0)
    assert world.follow().outcome is Status.COMPLETED
    assert world.polls == [30.0, 60.0]


def test_a_stream_that_closes_without_a_final_event_is_followed_by_a_poll() -> None:
    world = World([1.0, NODE, 0.9, CLOSED], done_s=1.9)
    assert world.follow().outcome is Status.COMPLETED
    assert world.polls == [1.9]


def test_events_that_a_proxy_releases_at_the_end_make_the_outcome_known() -> None:
    world = World([21.05, NODE, NODE, NODE, DONE], done_s=21.0)
    assert world.follow().outcome is Status.COMPLETED
    assert world.clock.now - NOW == pytest.approx(21.05)


def test_a_stream_refused_in_the_first_second_is_opened_again_soon() -> None:
    world = World([NOT_FOUND], [1.0, NODE, 13.0, DONE], done_s=15.0)
    assert world.follow().outcome is Status.COMPLETED
    assert (world.streams.moments, world.clock.now - NOW) == ([0.0, 1.0], 15.0)


def test_a_status_that_lags_behind_the_final_event_is_polled_again_and_again() -> None:
    world = World([1.5, DONE], done_s=3.5)
    assert world.follow().outcome is Status.COMPLETED
    assert world.polls == [1.5, 2.0, 2.5, 3.5]


def test_a_poll_after_a_final_event_respects_retry_after() -> None:
    refused = UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=3.0)
    world = World([1.0, DONE], statuses=[refused, COMPLETED])
    assert world.follow().outcome is Status.COMPLETED
    assert world.polls[0] == 1.0
    assert world.polls[1] >= 4.0


def test_retry_after_of_a_successful_answer_is_respected() -> None:
    slow = StatusDocument("RUNNING", retry_after_s=20.0)
    world = World(statuses=[slow, slow, COMPLETED])
    world.follow()
    assert [later - sooner for sooner, later in zip(world.polls, world.polls[1:], strict=False)] == [20, 20]


def test_a_final_event_that_is_false_changes_nothing_and_the_stream_is_opened_again_later() -> None:
    world = World([1.0, DONE], done_s=200.0)
    got = world.follow()
    assert (got.outcome, got.error) == (Status.COMPLETED, None)
    assert [round(at) for at in world.streams.moments] == [0, 31, 92]
    assert len(world.polls) <= 200 / 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_fails_is_opened_again_with_growing_pauses_while_the_polls_go_on(
    fault: UpstreamError,
) -> None:
    world = World([fault], done_s=100.0)
    got = world.follow()
    assert (got.outcome, got.history.errors) == (Status.COMPLETED, 0)
    assert [round(at) for at in world.streams.moments] == [0, 1, 3, 7, 15, 31, 63]
    assert all(later - sooner <= 2.5 for sooner, later in zip(world.polls, world.polls[1:], strict=False))


def test_a_stream_that_lasted_is_opened_again_immediately() -> None:
    world = World([NODE, 20.0, BROKEN], [NODE, 20.0, CLOSED], [NODE, 20.0, DONE], done_s=60.0)
    got = world.follow()
    assert (got.outcome, world.streams.moments) == (Status.COMPLETED, [0.0, 20.0, 40.0])
    assert got.history.follow_seconds == 60.0


def test_an_idle_stream_is_opened_again_without_an_additional_poll() -> None:
    world = World([60.0, IDLE], done_s=130.0)
    world.follow()
    assert world.streams.moments == [0.0, 60.0, 120.0]
    assert not {60.0, 120.0} & set(world.polls)


def test_a_stream_that_ends_soon_each_time_does_not_cause_frequent_polls() -> None:
    world = World([0.1, NODE, 0.1, CLOSED], done_s=300.0)
    world.follow()
    assert len(world.polls) <= 300 / 2 + 9


def test_a_stream_that_delivered_and_is_then_not_found_is_followed_by_a_poll() -> None:
    """The job may have ended between two invocations, and with it its stream."""
    world = World([NOT_FOUND], done_s=0.0)
    old = history(started_at=NOW - 3000, polled_at=NOW)
    got = world.follow(job(history=old, stream=StreamHistory(delivered=True)))
    assert (got.outcome, world.polls) == (Status.COMPLETED, [0.0])


def test_three_failed_status_requests_in_a_row_end_the_follow() -> None:
    world = World(statuses=[DOWN])
    got = world.follow()
    assert (got.outcome, got.next, got.history.errors) == (Status.RUNNING, NextStep.WAIT, 3)
    assert (len(world.polls), world.clock.now - NOW < 60) == (3, True)


def test_two_failed_status_requests_do_not_end_the_follow() -> None:
    world = World(statuses=[DOWN, DOWN, RUNNING, DOWN, DOWN, COMPLETED])
    assert (world.follow().outcome, len(world.polls)) == (Status.COMPLETED, 6)


def test_a_follow_ends_with_its_time_and_the_next_one_continues_where_it_was() -> None:
    world = World([NOT_FOUND], [NODE, 1000.0], statuses=[RUNNING])
    got = world.follow(follow_s=100)
    assert (got.next, world.clock.now - NOW) == (NextStep.FOLLOW, 100)
    state = LoopState.from_dict(json.loads(json.dumps(got.to_dict())))
    assert state.stream == got.stream
    assert (state.stream.delivered, state.history.polled_at is not None) == (True, True)
    assert (state.history.follows, state.history.follow_seconds) == (1, 100.0)
    before = len(world.polls)
    world.follow(state, follow_s=30)
    assert len(world.polls) > before


def test_a_final_event_at_the_very_end_of_a_follow_is_acted_on_by_the_next() -> None:
    seen = stream_history.after_final_event(StreamHistory(), NOW)
    got = World(statuses=[COMPLETED]).follow(job(stream=seen, history=history(polled_at=NOW - 1)))
    assert got.outcome is Status.COMPLETED


def test_status_requests_of_a_follow_are_no_history_events() -> None:
    got = World(statuses=[RUNNING]).follow()
    assert got.history.status_requests > 100
    assert polling_policy.events_used(got.history) == polling_policy.EVENTS_PER_FOLLOW


def test_a_follow_ends_at_the_deadline_after_one_last_poll() -> None:
    world = World([NODE, 1000.0], statuses=[RUNNING])
    got = world.follow(job(deadline=NOW + 50))
    assert (got.next, world.clock.now - NOW, world.polls[-1]) == (NextStep.CANCEL, 50, 50)


def test_a_job_that_is_done_at_its_deadline_is_completed() -> None:
    assert World([NODE, 9.0], done_s=50.0).follow(job(deadline=NOW + 50)).outcome is Status.COMPLETED


@pytest.mark.parametrize("follow_s", [-30.0, 0.0])
def test_without_time_to_follow_the_status_is_polled_once(follow_s: float) -> None:
    world = World([NODE, 1000.0], statuses=[COMPLETED])
    assert (world.follow(follow_s=follow_s).outcome, world.clock.now) == (Status.COMPLETED, NOW)


def test_a_result_that_is_about_to_be_cleaned_up_is_fetched_before() -> None:
    world = World(statuses=[StatusDocument("RUNNING", cleanup_after=NOW + 12.0), COMPLETED])
    old = job(history=history(started_at=NOW - 5000))
    assert world.follow(old).outcome is Status.COMPLETED
    assert world.clock.now - NOW <= 12 - polling_policy.CLEANUP_MARGIN_S


def test_a_status_document_too_large_for_this_function_is_left_to_the_poll_function() -> None:
    world = World([1.0, DONE], statuses=[StatusDocument("COMPLETED", too_large=True)])
    got = world.follow()
    assert (got.outcome, got.next, got.wait_seconds) == (Status.RUNNING, NextStep.POLL, 0)
    assert (world.polls, got.history.large_document) == ([1.0], True)


def test_a_follow_leaves_the_rest_of_the_state_as_it_was() -> None:
    given = job(unsaved=True, history=history(status_requests=7, follow_seconds=3.5))
    got = World([1.0, DONE], statuses=[COMPLETED]).follow(given)
    assert (got.unsaved, got.history.status_requests, got.history.follow_seconds) == (True, 8, 4.5)


# Progress events


def published(topic: Topic) -> list[tuple[str | None, float | None, str | None]]:
    """Return event, progress and node of each progress event, in their order."""
    found = sorted((json.loads(text)["data"] for text in topic.messages()), key=lambda data: data["sequence"])
    return [(data.get("event"), data.get("progress"), data.get("node_id")) for data in found]


def moved(percent: float) -> StreamEvent:
    return StreamEvent("progress_update", progress=percent)


def world_with_topic(
    table: Table, topic: Topic, *scripts: list[Line], statuses: list[Answer[StatusDocument]]
) -> World:
    table.put(running_record())
    world = World(*scripts, statuses=statuses)
    world.publisher = ProgressPublisher(
        table.records, topic.sns, topic_arn=topic.arn, source=SOURCE, clock=lambda: world.clock.now
    )
    return world


EAGER = job(progress_events=True)


def test_events_of_the_stream_are_published_until_the_final_one(table: Table, topic: Topic) -> None:
    script: list[Line] = [NODE, 1.5, moved(40.0), 1.5, StreamEvent("node_completed", node_id="a"), 1.5, DONE]
    world = world_with_topic(table, topic, script, statuses=[COMPLETED])
    world.follow(EAGER)
    assert published(topic) == [
        ("node_started", None, "a"),
        ("node_started", 40.0, "a"),
        ("node_completed", 40.0, "a"),
    ]


def test_progress_of_a_job_without_events_is_published_from_the_polls(table: Table, topic: Topic) -> None:
    statuses: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=percent) for percent in (10.0, 10.0, 25.0)
    ]
    world = world_with_topic(table, topic, statuses=[*statuses, COMPLETED])
    world.follow(EAGER)
    assert published(topic) == [(None, 10.0, None), (None, 25.0, None)]


def test_events_that_a_reopened_stream_replays_do_not_lower_the_published_progress(
    table: Table, topic: Topic
) -> None:
    replayed: list[Line] = [moved(0.0), 1.5, moved(10.0), 1.5, moved(60.0), 1.5, moved(70.0), 1.5, DONE]
    world = world_with_topic(
        table, topic, [moved(60.0), 6.0, BROKEN], replayed, statuses=[RUNNING, RUNNING, RUNNING, COMPLETED]
    )
    world.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 70.0]


def test_the_next_follow_does_not_lower_the_published_progress_either(table: Table, topic: Topic) -> None:
    world = world_with_topic(table, topic, [moved(10.0), 1.5, DONE], statuses=[COMPLETED])
    table.put(replace(running_record(), progress=60.0, progress_sequence=1))
    world.follow(EAGER)
    assert published(topic) == []


def test_progress_begins_anew_where_the_status_shows_that_the_upstream_retried(
    table: Table, topic: Topic
) -> None:
    documents: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=60.0, retry_count=0),
        StatusDocument("RUNNING", progress=5.0, retry_count=1),
        COMPLETED,
    ]
    world = world_with_topic(table, topic, [10.0, moved(8.0)], statuses=documents)
    world.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 5.0]


def test_a_status_that_goes_back_without_a_retry_publishes_nothing(table: Table, topic: Topic) -> None:
    documents: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=percent) for percent in (60.0, 50.0, 65.0)
    ]
    world = world_with_topic(table, topic, statuses=[*documents, COMPLETED])
    world.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 65.0]


# Faults of Waterhook


NO_KEY = KeyUnavailableError("the secret: AccessDeniedException")


def test_a_follow_whose_poll_finds_no_key_leaves_for_the_wait_state() -> None:
    world = World([], statuses=[RUNNING, NO_KEY])
    got = world.follow()
    assert (got.outcome, got.next) == (Status.RUNNING, NextStep.WAIT)
    assert 30 <= got.wait_seconds <= 45
    assert (got.history.faults, got.history.errors, len(world.polls)) == (1, 0, 2)


def test_a_follow_whose_stream_finds_no_key_leaves_for_the_wait_state_without_a_poll() -> None:
    world = World([NO_KEY])
    got = world.follow()
    assert (got.next, got.history.faults, world.polls) == (NextStep.WAIT, 1, [])


def test_a_follow_is_resumed_once_the_key_can_be_read() -> None:
    world = World([], statuses=[NO_KEY])
    got = world.follow()
    polling = StatusPoller(FakeUpstream(), NO_BUCKET, settings(follow_concurrency=50), world.clock)
    assert polling.poll(got).next is NextStep.FOLLOW


# A record that is final


class Check(FinalRecordCheck):
    """A record that is final from a moment on, and the moments at which it was read."""

    def __init__(self, clock: Clock, final_s: float) -> None:
        self.clock, self.final_s = clock, final_s
        self.moments: list[float] = []

    def end_if_final(self, job: LoopState, began_at: float) -> LoopState:
        now = self.clock.now - NOW
        self.moments.append(now)
        return job.ended(Status.CANCELLED) if now >= self.final_s else job


def checked(final_s: float) -> tuple[World, Check]:
    world = World([1.0, NODE] * 1000)
    check = Check(world.clock, final_s)
    poller = StatusPoller(world.upstream, NO_BUCKET, settings(follow_concurrency=50), world.clock)
    world.follower = FollowStep(
        world.streams,
        poller,
        world._publisher,  # noqa: SLF001 - of this file
        check,
        clock=world.clock,
        monotonic=world.clock,
        sleep=world.clock.advance,
    )
    return world, check


def test_a_follow_of_a_record_that_is_final_ends_within_one_more_poll() -> None:
    world, _ = checked(100.0)
    got = world.follow()
    assert (got.outcome, got.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert 100 <= world.clock.now - NOW <= 100 + 60


def test_a_follow_reads_the_record_every_30_s_at_most_and_not_for_a_young_job() -> None:
    world, check = checked(9e9)
    world.follow(follow_s=300)
    assert check.moments[0] >= 30
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(check.moments))
    assert len(check.moments) >= 5


def test_follows_of_30_s_read_the_record_too() -> None:
    world, check = checked(9e9)
    got = job()
    for _ in range(5):
        got = world.follow(got, follow_s=30)
    assert len(check.moments) >= 2
