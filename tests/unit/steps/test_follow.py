"""The follow step: a final event leads to an early poll. Polls beside the stream find the outcome without it."""

import itertools
import json
from dataclasses import replace

import pytest

from tests.fakes.aws import Table, Topic
from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import NO_BUCKET
from tests.fakes.upstream_client import Answer, FakeUpstream, StreamItem, next_answer
from tests.support.build import build_progress_publisher
from tests.support.builders import history, running_record, running_state, settings
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
    "unreachable": UpstreamUnavailableError("unreachable", "no connection"),
    "never starts": PerhapsAcceptedError("no_answer", "no answer"),
}


class FollowScenario:
    """A follow step with its streams and the upstream that it polls, on one clock."""

    def __init__(
        self,
        *scripts: list[StreamItem],
        statuses: list[Answer[StatusDocument]] | None = None,
        done_s: float | None = None,
        publisher: ProgressPublisher | None = None,
        limit_bytes: int = 1024,
    ) -> None:
        """`done_s`: the status is COMPLETED from then on, and RUNNING before."""
        self.clock = Clock()
        self.publisher = publisher
        self.polls: list[float] = []
        self._answers = list(statuses or [RUNNING])
        self._done_s = done_s
        self.upstream = FakeUpstream(statuses=[self._status], streams=list(scripts), clock=self.clock)
        self.poller = StatusPoller(
            self.upstream, NO_BUCKET, settings(follow_concurrency=50), self.clock, limit_bytes=limit_bytes
        )
        self.step = self.build_step()

    def build_step(self, check: FinalRecordCheck | None = None) -> FollowStep:
        return FollowStep(
            self.upstream,
            self.poller,
            self._publisher,
            check,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
        )

    def follow(self, loop_state: LoopState | None = None, follow_s: float = 840) -> LoopState:
        result = self.step.follow(loop_state or running_state(), follow_s)
        assert all(stream.closed for stream in self.upstream.streams)
        assert {request.idle_timeout_s for request in self.upstream.stream_requests} <= {IDLE_TIMEOUT_S}
        return result

    @property
    def opened_at(self) -> list[float]:
        """Seconds after the start at which a stream was requested."""
        return [request.at - NOW for request in self.upstream.stream_requests]

    def _status(self) -> StatusDocument:
        now_s = self.clock.now - NOW
        self.polls.append(round(now_s, 3))
        if self._done_s is not None:
            return COMPLETED if now_s >= self._done_s else RUNNING
        return next_answer(self._answers)

    def _publisher(self) -> ProgressPublisher:
        assert self.publisher is not None, "the caller wants no progress events"
        return self.publisher


def test_after_a_final_event_one_poll_returns_the_outcome() -> None:
    scenario = FollowScenario([1.0, NODE, 0.5, DONE], done_s=1.5)
    result = scenario.follow()
    assert (result.outcome, result.next, result.result) == (
        Status.COMPLETED,
        NextStep.NOTIFY,
        {"final_output_json": '{"n":1.0}'},
    )
    assert (scenario.polls, len(scenario.upstream.streams)) == ([1.5], 1)
    assert (result.history.follow_seconds, result.history.status_requests, result.history.follows) == (
        1.5,
        1,
        1,
    )


def test_the_outcome_is_that_of_the_status_and_not_of_the_final_event() -> None:
    assert FollowScenario([1.0, DONE], statuses=[StatusDocument("FAILED")]).follow().outcome == "FAILED"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([], id="heartbeats only: the stream is open and delivers nothing"),
        pytest.param([NOT_FOUND], id="no stream"),
        pytest.param([1.0, NODE, 2.0, NODE], id="final event lost, the stream stays open"),
    ],
)
def test_the_outcome_of_a_job_with_a_silent_stream_is_found_within_the_polling_cadence(
    script: list[StreamItem],
) -> None:
    scenario = FollowScenario(script, done_s=20.0)
    result = scenario.follow()
    assert result.outcome is Status.COMPLETED
    assert scenario.clock.now - NOW <= 20 + 2.2
    assert len(scenario.polls) <= 12


def test_events_do_not_postpone_a_poll_beyond_30_s() -> None:
    scenario = FollowScenario([1.0, NODE] * 100, done_s=31.0)
    assert scenario.follow().outcome is Status.COMPLETED
    assert scenario.polls == [30.0, 60.0]


def test_a_stream_that_closes_without_a_final_event_is_followed_by_a_poll() -> None:
    scenario = FollowScenario([1.0, NODE, 0.9, CLOSED], done_s=1.9)
    assert scenario.follow().outcome is Status.COMPLETED
    assert scenario.polls == [1.9]


def test_events_that_a_proxy_held_back_lead_to_a_poll_when_they_arrive() -> None:
    scenario = FollowScenario([21.05, NODE, NODE, NODE, DONE], done_s=21.0)
    assert scenario.follow().outcome is Status.COMPLETED
    assert scenario.clock.now - NOW == pytest.approx(21.05)


def test_a_stream_that_is_refused_at_first_is_opened_again_after_a_second() -> None:
    scenario = FollowScenario([NOT_FOUND], [1.0, NODE, 13.0, DONE], done_s=15.0)
    assert scenario.follow().outcome is Status.COMPLETED
    assert (scenario.opened_at, scenario.clock.now - NOW) == ([0.0, 1.0], 15.0)


def test_a_status_that_lags_behind_the_final_event_is_polled_at_growing_intervals() -> None:
    scenario = FollowScenario([1.5, DONE], done_s=3.5)
    assert scenario.follow().outcome is Status.COMPLETED
    assert scenario.polls == [1.5, 2.0, 2.5, 3.5]


def test_a_poll_after_a_final_event_respects_retry_after() -> None:
    refused = UpstreamUnavailableError("unavailable", "HTTP 429", status=429, retry_after_s=3.0)
    scenario = FollowScenario([1.0, DONE], statuses=[refused, COMPLETED])
    assert scenario.follow().outcome is Status.COMPLETED
    assert scenario.polls[0] == 1.0
    assert scenario.polls[1] >= 4.0


def test_retry_after_of_a_successful_answer_is_respected() -> None:
    slow = StatusDocument("RUNNING", retry_after_s=20.0)
    scenario = FollowScenario(statuses=[slow, slow, COMPLETED])
    scenario.follow()
    assert [later - sooner for sooner, later in zip(scenario.polls, scenario.polls[1:], strict=False)] == [
        20,
        20,
    ]


def test_after_a_false_final_event_the_stream_is_opened_again() -> None:
    scenario = FollowScenario([1.0, DONE], done_s=200.0)
    result = scenario.follow()
    assert (result.outcome, result.error) == (Status.COMPLETED, None)
    assert [round(at) for at in scenario.opened_at] == [0, 31, 92]
    assert len(scenario.polls) <= 200 / 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_fails_is_opened_again_with_growing_pauses_while_the_polls_go_on(
    fault: UpstreamError,
) -> None:
    scenario = FollowScenario([fault], done_s=100.0)
    result = scenario.follow()
    assert (result.outcome, result.history.errors) == (Status.COMPLETED, 0)
    assert [round(at) for at in scenario.opened_at] == [0, 1, 3, 7, 15, 31, 63]
    assert all(
        later - sooner <= 2.5 for sooner, later in zip(scenario.polls, scenario.polls[1:], strict=False)
    )


def test_a_stream_that_breaks_after_a_while_is_opened_again_immediately() -> None:
    scenario = FollowScenario([NODE, 20.0, BROKEN], [NODE, 20.0, CLOSED], [NODE, 20.0, DONE], done_s=60.0)
    result = scenario.follow()
    assert (result.outcome, scenario.opened_at) == (Status.COMPLETED, [0.0, 20.0, 40.0])
    assert result.history.follow_seconds == 60.0


def test_an_idle_stream_is_opened_again_without_an_additional_poll() -> None:
    scenario = FollowScenario([60.0, IDLE], done_s=130.0)
    scenario.follow()
    assert scenario.opened_at == [0.0, 60.0, 120.0]
    assert not {60.0, 120.0} & set(scenario.polls)


def test_a_stream_that_ends_soon_each_time_does_not_cause_frequent_polls() -> None:
    scenario = FollowScenario([0.1, NODE, 0.1, CLOSED], done_s=300.0)
    scenario.follow()
    assert len(scenario.polls) <= 300 / 2 + 9


def test_a_stream_that_delivered_events_and_is_then_not_found_is_followed_by_a_poll() -> None:
    """The job, and with it the stream, may have ended between two invocations."""
    scenario = FollowScenario([NOT_FOUND], done_s=0.0)
    old = history(started_at=NOW - 3000, polled_at=NOW)
    result = scenario.follow(running_state(history=old, stream=StreamHistory(delivered=True)))
    assert (result.outcome, scenario.polls) == (Status.COMPLETED, [0.0])


def test_three_consecutive_failed_status_requests_end_the_follow() -> None:
    scenario = FollowScenario(statuses=[DOWN])
    result = scenario.follow()
    assert (result.outcome, result.next, result.history.errors) == (Status.RUNNING, NextStep.WAIT, 3)
    assert (len(scenario.polls), scenario.clock.now - NOW < 60) == (3, True)


def test_two_failed_status_requests_do_not_end_the_follow() -> None:
    scenario = FollowScenario(statuses=[DOWN, DOWN, RUNNING, DOWN, DOWN, COMPLETED])
    assert (scenario.follow().outcome, len(scenario.polls)) == (Status.COMPLETED, 6)


def test_a_follow_ends_after_its_time_and_the_next_one_continues_from_its_state() -> None:
    scenario = FollowScenario([NOT_FOUND], [NODE, 1000.0], statuses=[RUNNING])
    result = scenario.follow(follow_s=100)
    assert (result.next, scenario.clock.now - NOW) == (NextStep.FOLLOW, 100)
    state = LoopState.from_dict(json.loads(json.dumps(result.to_dict())))
    assert state.stream == result.stream
    assert (state.stream.delivered, state.history.polled_at is not None) == (True, True)
    assert (state.history.follows, state.history.follow_seconds) == (1, 100.0)
    before = len(scenario.polls)
    scenario.follow(state, follow_s=30)
    assert len(scenario.polls) > before


def test_a_final_event_at_the_end_of_a_follow_leads_to_a_poll_in_the_next_follow() -> None:
    stream = stream_history.after_final_event(StreamHistory(), NOW)
    result = FollowScenario(statuses=[COMPLETED]).follow(
        running_state(stream=stream, history=history(polled_at=NOW - 1))
    )
    assert result.outcome is Status.COMPLETED


def test_status_requests_of_a_follow_do_not_count_as_history_events() -> None:
    result = FollowScenario(statuses=[RUNNING]).follow()
    assert result.history.status_requests > 100
    assert polling_policy.events_used(result.history) == polling_policy.EVENTS_PER_FOLLOW


def test_a_follow_ends_at_the_deadline_after_one_last_poll() -> None:
    scenario = FollowScenario([NODE, 1000.0], statuses=[RUNNING])
    result = scenario.follow(running_state(deadline=NOW + 50))
    assert (result.next, scenario.clock.now - NOW, scenario.polls[-1]) == (NextStep.CANCEL, 50, 50)


def test_a_job_that_has_completed_at_its_deadline_is_completed() -> None:
    assert (
        FollowScenario([NODE, 9.0], done_s=50.0).follow(running_state(deadline=NOW + 50)).outcome
        is Status.COMPLETED
    )


@pytest.mark.parametrize("follow_s", [-30.0, 0.0])
def test_without_time_to_follow_the_status_is_polled_once(follow_s: float) -> None:
    scenario = FollowScenario([NODE, 1000.0], statuses=[COMPLETED])
    assert (scenario.follow(follow_s=follow_s).outcome, scenario.clock.now) == (Status.COMPLETED, NOW)


def test_a_result_is_fetched_before_its_cleanup() -> None:
    scenario = FollowScenario(statuses=[StatusDocument("RUNNING", cleanup_after=NOW + 12.0), COMPLETED])
    old = running_state(history=history(started_at=NOW - 5000))
    assert scenario.follow(old).outcome is Status.COMPLETED
    assert scenario.clock.now - NOW <= 12 - polling_policy.CLEANUP_MARGIN_S


def test_a_status_document_too_large_for_this_function_is_left_to_the_poll_function() -> None:
    scenario = FollowScenario([1.0, DONE], statuses=[StatusDocument("COMPLETED", too_large=True)])
    result = scenario.follow()
    assert (result.outcome, result.next, result.wait_seconds) == (Status.RUNNING, NextStep.POLL, 0)
    assert (scenario.polls, result.history.large_document) == ([1.0], True)


def test_a_follow_leaves_the_rest_of_the_state_unchanged() -> None:
    loop_state = running_state(unsaved=True, history=history(status_requests=7, follow_seconds=3.5))
    result = FollowScenario([1.0, DONE], statuses=[COMPLETED]).follow(loop_state)
    assert (result.unsaved, result.history.status_requests, result.history.follow_seconds) == (True, 8, 4.5)


# Progress events


def published(topic: Topic) -> list[tuple[str | None, float | None, str | None]]:
    """Return event, progress and node of each progress event, in their order."""
    events = sorted(
        (json.loads(text)["data"] for text in topic.messages()), key=lambda data: data["sequence"]
    )
    return [(data.get("event"), data.get("progress"), data.get("node_id")) for data in events]


def moved(percent: float) -> StreamEvent:
    return StreamEvent("progress_update", progress=percent)


def scenario_with_topic(
    table: Table, topic: Topic, *scripts: list[StreamItem], statuses: list[Answer[StatusDocument]]
) -> FollowScenario:
    table.put(running_record(progress_events=True))
    scenario = FollowScenario(*scripts, statuses=statuses)
    scenario.publisher = build_progress_publisher(table, topic, scenario.clock)
    return scenario


EAGER = running_state(progress_events=True)


def test_events_of_the_stream_are_published_until_the_final_one(table: Table, topic: Topic) -> None:
    script: list[StreamItem] = [
        NODE,
        1.5,
        moved(40.0),
        1.5,
        StreamEvent("node_completed", node_id="a"),
        1.5,
        DONE,
    ]
    scenario = scenario_with_topic(table, topic, script, statuses=[COMPLETED])
    scenario.follow(EAGER)
    assert published(topic) == [
        ("node_started", None, "a"),
        ("node_started", 40.0, "a"),
        ("node_completed", 40.0, "a"),
    ]


def test_progress_of_a_job_without_events_is_published_from_the_polls(table: Table, topic: Topic) -> None:
    statuses: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=percent) for percent in (10.0, 10.0, 25.0)
    ]
    scenario = scenario_with_topic(table, topic, statuses=[*statuses, COMPLETED])
    scenario.follow(EAGER)
    assert published(topic) == [(None, 10.0, None), (None, 25.0, None)]


def test_events_that_a_reopened_stream_replays_do_not_lower_the_published_progress(
    table: Table, topic: Topic
) -> None:
    replayed: list[StreamItem] = [moved(0.0), 1.5, moved(10.0), 1.5, moved(60.0), 1.5, moved(70.0), 1.5, DONE]
    scenario = scenario_with_topic(
        table, topic, [moved(60.0), 6.0, BROKEN], replayed, statuses=[RUNNING, RUNNING, RUNNING, COMPLETED]
    )
    scenario.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 70.0]


def test_the_next_follow_does_not_lower_the_published_progress(table: Table, topic: Topic) -> None:
    scenario = scenario_with_topic(table, topic, [moved(10.0), 1.5, DONE], statuses=[COMPLETED])
    table.put(replace(running_record(progress_events=True), progress=60.0, progress_sequence=1))
    scenario.follow(EAGER)
    assert published(topic) == []


def test_progress_may_decrease_where_the_status_shows_a_retry(table: Table, topic: Topic) -> None:
    documents: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=60.0, retry_count=0),
        StatusDocument("RUNNING", progress=5.0, retry_count=1),
        COMPLETED,
    ]
    scenario = scenario_with_topic(table, topic, [10.0, moved(8.0)], statuses=documents)
    scenario.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 5.0]


def test_progress_that_decreases_without_a_retry_is_not_published(table: Table, topic: Topic) -> None:
    documents: list[Answer[StatusDocument]] = [
        StatusDocument("RUNNING", progress=percent) for percent in (60.0, 50.0, 65.0)
    ]
    scenario = scenario_with_topic(table, topic, statuses=[*documents, COMPLETED])
    scenario.follow(EAGER)
    assert [progress for _, progress, _ in published(topic)] == [60.0, 65.0]


# Faults of Waterhook


NO_KEY = KeyUnavailableError("the secret: AccessDeniedException")


def test_an_unreadable_api_key_at_a_poll_ends_the_follow_with_a_wait() -> None:
    scenario = FollowScenario([], statuses=[RUNNING, NO_KEY])
    result = scenario.follow()
    assert (result.outcome, result.next) == (Status.RUNNING, NextStep.WAIT)
    assert 30 <= result.wait_seconds <= 45
    assert (result.history.faults, result.history.errors, len(scenario.polls)) == (1, 0, 2)


def test_an_unreadable_api_key_at_the_stream_ends_the_follow_without_a_poll() -> None:
    scenario = FollowScenario([NO_KEY])
    result = scenario.follow()
    assert (result.next, result.history.faults, scenario.polls) == (NextStep.WAIT, 1, [])


def test_a_job_is_followed_again_once_the_api_key_can_be_read() -> None:
    scenario = FollowScenario([], statuses=[NO_KEY])
    result = scenario.follow()
    polling = StatusPoller(FakeUpstream(), NO_BUCKET, settings(follow_concurrency=50), scenario.clock)
    assert polling.poll(result).next is NextStep.FOLLOW


# A record that is final


class Check(FinalRecordCheck):
    """A check that finds the record final from `final_s` on, and stores the times of its reads."""

    def __init__(self, clock: Clock, final_s: float) -> None:
        self.clock, self.final_s = clock, final_s
        self.read_at: list[float] = []

    def end_if_final(self, job: LoopState, began_at: float) -> LoopState:
        now = self.clock.now - NOW
        self.read_at.append(now)
        return job.ended(Status.CANCELLED) if now >= self.final_s else job


def checked(final_s: float) -> tuple[FollowScenario, Check]:
    scenario = FollowScenario([1.0, NODE] * 1000)
    check = Check(scenario.clock, final_s)
    scenario.step = scenario.build_step(check)
    return scenario, check


def test_a_follow_ends_within_a_minute_after_its_record_became_final() -> None:
    scenario, _ = checked(100.0)
    result = scenario.follow()
    assert (result.outcome, result.next) == (Status.CANCELLED, NextStep.NOTIFY)
    assert 100 <= scenario.clock.now - NOW <= 100 + 60


def test_a_follow_reads_the_record_every_30_s_at_most_and_not_for_a_young_job() -> None:
    scenario, check = checked(9e9)
    scenario.follow(follow_s=300)
    assert check.read_at[0] >= 30
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(check.read_at))
    assert len(check.read_at) >= 5


def test_short_follows_also_read_the_record() -> None:
    scenario, check = checked(9e9)
    result = running_state()
    for _ in range(5):
        result = scenario.follow(result, follow_s=30)
    assert len(check.read_at) >= 2
