"""Follow: the stream says when to ask and never what is true; a stream that fails costs one question."""

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest

from functions.follow import app
from tests.support.aws import Bucket, Table, Topic
from tests.support.builders import (
    KEY,
    OWNER,
    SOURCE,
    STARTED_AT,
    UPSTREAM_ID,
    history,
    job,
    running_record,
    settings,
)
from tests.support.clock import NOW, Clock
from tests.support.context import Context
from tests.support.fakes import Answer, FakeUpstream
from tests.support.invoke import Invoke, log_of
from tests.support.server import Server, Step, hang_up, raw, reply, sse
from waterhook.errors import PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.models import Job, Next, Status
from waterhook.polling import Poller
from waterhook.progress import Relay
from waterhook.results import Results
from waterhook.status import StatusDocument

RUNNING = StatusDocument("RUNNING")
COMPLETED = StatusDocument("COMPLETED", final_output_json='{"n":1.0}')
DONE = {"type": "execution_completed"}
NODE = {"type": "node_started", "node_id": "a"}
FAULTS: dict[str, UpstreamError] = {
    "404": Refused("refused", "HTTP 404", status=404),
    "401": Refused("refused", "HTTP 401", status=401),
    "HTML": PerhapsAccepted("unusable_answer", "HTTP 200, but not text/event-stream", status=200),
    "unreachable": Unavailable("unreachable", "no connection"),
    "never starts": PerhapsAccepted("no_answer", "no answer"),
    "too much": PerhapsAccepted("unusable_answer", "HTTP 200, but more than 8388608 bytes", status=200),
}

type Line = dict[str, Any] | UpstreamError | float


class Streams:
    """One script for each stream: events, seconds that pass, or how it fails. The last one is repeated."""

    def __init__(self, clock: Clock, *scripts: list[Line]) -> None:
        self.clock = clock
        self.scripts = list(scripts)
        self.opened = 0
        self.closed = 0

    def stream(
        self, execution_id: str, *, ends_at: float, idle_timeout_s: float
    ) -> Generator[dict[str, Any]]:
        self.opened += 1
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            for line in script:
                if isinstance(line, float):
                    self.clock.advance(min(line, ends_at - self.clock.now))
                elif isinstance(line, UpstreamError):
                    raise line
                else:
                    yield line
                if self.clock.now >= ends_at:
                    return
        finally:
            self.closed += 1


class World:
    """A follower, the streams it hears and the upstream it asks, on one clock."""

    def __init__(
        self,
        *scripts: list[Line],
        statuses: list[Answer[StatusDocument]] | None = None,
        relay: Callable[[], Relay] | None = None,
        limit_bytes: int = 1024,
    ) -> None:
        self.clock = Clock()
        self.streams = Streams(self.clock, *scripts)
        self.upstream = FakeUpstream(statuses=statuses)
        poller = Poller(
            self.upstream,
            Results("none"),
            settings(follow_concurrency=50),
            self.clock,
            limit_bytes=limit_bytes,
        )
        self.slept: list[float] = []
        self.follower = app.Follower(
            self.streams, poller, relay or _no_relay, self.clock, self.clock, self._sleep
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def follow(self, given: Job | None = None, follow_s: float = 840) -> Job:
        got = self.follower.follow(given or job(), follow_s)
        assert self.streams.opened == self.streams.closed
        return got

    @property
    def asked(self) -> int:
        return len(self.upstream.asked)


def _no_relay() -> Relay:
    raise AssertionError("nobody asked for progress events")


def test_a_job_that_ends_while_it_is_listened_to_is_over_at_once_and_asked_once() -> None:
    world = World([NODE, 12.0, DONE, 100.0], statuses=[COMPLETED])
    got = world.follow()
    assert (got.outcome, got.next, got.result) == (
        Status.COMPLETED,
        Next.NOTIFY,
        {"final_output_json": '{"n":1.0}'},
    )
    assert (world.asked, world.streams.opened, world.clock.now - NOW) == (1, 1, 12)
    assert (got.history.follow_seconds, got.history.turns) == (12.0, 1)


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_the_status_says_what_the_end_was_whatever_the_event_said(status: str) -> None:
    assert World([6.0, DONE], statuses=[StatusDocument(status)]).follow().outcome == status


def test_an_event_ahead_of_the_status_is_believed_for_a_second() -> None:
    world = World([6.0, DONE], statuses=[RUNNING, COMPLETED])
    assert world.follow().outcome is Status.COMPLETED
    assert (world.asked, world.slept) == (2, [1.0])


def test_an_event_that_lies_costs_one_more_question_and_changes_nothing() -> None:
    world = World([6.0, DONE], statuses=[RUNNING])
    got = world.follow()
    assert (got.outcome, got.next, world.asked, world.streams.opened) == (Status.RUNNING, Next.WAIT, 2, 1)
    assert got.error is None


@pytest.mark.parametrize("after_s", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_fails_costs_one_question_and_then_polling_goes_on(
    fault: UpstreamError, after_s: float
) -> None:
    world = World([after_s, fault], statuses=[RUNNING])
    got = world.follow()
    assert (got.outcome, got.next, world.asked, world.streams.opened) == (Status.RUNNING, Next.WAIT, 1, 1)
    assert got.history.errors == 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_stream_that_fails_because_the_job_is_over_brings_the_outcome(fault: UpstreamError) -> None:
    world = World([fault], statuses=[COMPLETED])
    assert (world.follow().outcome, world.asked) == (Status.COMPLETED, 1)


def test_a_stream_that_ends_too_soon_is_not_opened_again_at_once() -> None:
    world = World([NODE, 1.0], statuses=[RUNNING])
    got = world.follow()
    assert (got.next, world.streams.opened, world.asked) == (Next.WAIT, 1, 1)


def test_a_stream_that_ends_early_is_taken_up_again_in_the_same_call() -> None:
    world = World([NODE, 20.0], [NODE, 20.0], [NODE, 20.0, DONE], statuses=[RUNNING, RUNNING, COMPLETED])
    got = world.follow()
    assert (got.outcome, world.streams.opened, world.asked) == (Status.COMPLETED, 3, 3)
    assert got.history.follow_seconds == 60.0


def test_listening_ends_when_its_time_is_up_and_the_next_turn_goes_on() -> None:
    world = World([NODE, 1000.0], statuses=[RUNNING])
    got = world.follow(follow_s=100)
    assert (got.next, world.clock.now - NOW, world.asked) == (Next.FOLLOW, 100, 1)


def test_listening_ends_at_the_deadline_which_is_then_acted_upon() -> None:
    world = World([NODE, 1000.0], statuses=[RUNNING])
    got = world.follow(job(deadline=NOW + 50))
    assert (got.next, world.clock.now - NOW) == (Next.CANCEL, 50)


def test_a_job_that_is_done_at_its_deadline_is_done() -> None:
    assert (
        World([NODE, 1000.0], statuses=[COMPLETED]).follow(job(deadline=NOW + 50)).outcome is Status.COMPLETED
    )


@pytest.mark.parametrize("follow_s", [-30.0, 0.0])
def test_without_time_to_listen_the_status_is_asked_all_the_same(follow_s: float) -> None:
    world = World([NODE, 1000.0], statuses=[COMPLETED])
    assert (world.follow(follow_s=follow_s).outcome, world.clock.now) == (Status.COMPLETED, NOW)


def test_no_stream_however_it_ends_makes_fast_polling_of_listening() -> None:
    world = World([NODE, app.WORTHWHILE_S], statuses=[RUNNING])
    world.follow(follow_s=300)
    assert world.asked <= 300 / app.WORTHWHILE_S


@pytest.mark.parametrize(
    "fault", [Unavailable("unavailable", "HTTP 503", status=503), FAULTS["404"]], ids=str
)
def test_a_failed_question_after_the_stream_is_not_a_failed_job(fault: UpstreamError) -> None:
    got = World([20.0], statuses=[fault]).follow()
    assert (got.outcome, got.next, got.history.errors) == (Status.RUNNING, Next.WAIT, 1)


def test_a_status_too_large_for_this_function_is_left_to_poll_without_a_second_look() -> None:
    world = World([6.0, DONE], statuses=[StatusDocument("COMPLETED", too_large=True)])
    got = world.follow()
    assert (got.outcome, got.next, got.wait_seconds) == (Status.RUNNING, Next.POLL, 0)
    assert (world.asked, world.slept) == (1, [])


def test_what_a_follow_is_not_about_stays_as_it_was() -> None:
    given = job(unsaved=True, history=history(turns=7, follow_seconds=3.5))
    got = World([6.0, DONE], statuses=[COMPLETED]).follow(given)
    assert (got.unsaved, got.history.turns, got.history.follow_seconds) == (True, 8, 9.5)


# What is relayed


def test_what_the_stream_tells_is_relayed_and_not_after_the_end(table: Table, topic: Topic) -> None:
    table.put(running_record())
    world = World(
        [
            NODE,
            2.0,
            {"type": "progress_update", "progress": 40.0},
            2.0,
            {"type": "node_completed", "node_id": "a"},
            2.0,
            DONE,
        ],
        statuses=[COMPLETED],
        relay=lambda: Relay(
            table.records, topic.sns, topic_arn=topic.arn, source=SOURCE, clock=lambda: world.clock.now
        ),
    )
    world.follow(job(progress_events=True))
    told = sorted((json.loads(text)["data"] for text in topic.messages()), key=lambda data: data["sequence"])
    assert [(data["event"], data.get("progress"), data["node_id"]) for data in told] == [
        ("node_started", None, "a"),
        ("node_started", 40.0, "a"),
        ("node_completed", 40.0, "a"),
    ]
    assert table.get(told[0]["execution_id"]).progress == 40.0


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ({"type": "node_started", "node_id": "a", "secret": "x"}, {"event": "node_started", "node_id": "a"}),
        ({"type": "progress_update", "progress": 50}, {"progress": 50.0}),
        ({"type": "progress_update", "progress": -3}, {"progress": 0.0}),
        ({"type": "progress_update", "progress": 1e9}, {"progress": 100.0}),
        ({"progress": float("inf")}, {"progress": 100.0}),
        ({"progress": float("nan")}, {}),
        ({"progress": 10**400}, {"progress": 100.0}),
        ({"progress": True}, {}),
        ({"progress": "50"}, {}),
        ({"current_node": "b"}, {"node_id": "b"}),
        ({"node_id": ["a"], "type": 7}, {}),
        ({"node_id": "a\n\ud800b"}, {"node_id": "a b"}),
        ({}, {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_only_what_is_known_to_be_harmless_is_relayed(event: dict[str, Any], change: dict[str, Any]) -> None:
    assert app.change_in(event) == change


def test_a_long_name_is_clipped() -> None:
    got = app.change_in({"type": "node_" + "x" * 500, "node_id": "y" * 5000})
    assert (len(got["event"]), len(got["node_id"])) == (40, 200)


# The function, over real sockets


class Patient(Context):
    """A context with time left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


@pytest.fixture
def follow(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Call the function, to which a fifth of a second is a long stream."""
    monkeypatch.setattr(app, "WORTHWHILE_S", 0.2)
    monkeypatch.setattr(app, "REPLICATION_S", 0.0)
    monkeypatch.setattr(app, "IDLE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("tests.support.invoke.CONTEXT", Patient())

    def call(server: Server, given: Job | None = None, **changes: str) -> dict[str, Any]:
        event = {
            "state": (given or job(deadline=9e9)).to_dict(),
            "execution": {"arn": OWNER, "started_at": STARTED_AT},
        }
        changes = {"WATERHOOK_FOLLOW_CONCURRENCY": "50", "WATERHOOK_FOLLOW_S": "5"} | changes
        state = invoke(app, event, WATERFLAI_BASE_URL=server.url, **changes)
        assert json.loads(json.dumps(state)) == state
        return state

    return call


DOCUMENT = reply(200, '{"status":"COMPLETED","final_output":{ "n":1.0 }}')


def test_the_function_hears_the_end_and_brings_the_output(follow: Any) -> None:
    with Server([sse(NODE, DONE), DOCUMENT]) as server:
        state = follow(server)
    assert [one.target for one in server.received] == [
        f"/v1/executions/{UPSTREAM_ID}/stream",
        f"/v1/executions/{UPSTREAM_ID}",
    ]
    assert {one.headers["x-api-key"] for one in server.received} == {KEY}
    assert (state["outcome"], state["next"]) == ("COMPLETED", "notify")
    assert state["result"]["final_output_json"] == '{ "n":1.0 }'


def stall(connection: Any) -> None:
    """Begin a stream and say nothing more until nobody listens."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
    connection.settimeout(5)
    connection.recv(1)
    hang_up(connection)


STREAMS: dict[str, Step] = {
    "ends early": sse(NODE),
    "empty": sse(),
    "404": reply(404, {"detail": "no such execution"}),
    "401": reply(401, {"detail": "no"}),
    "500": reply(500),
    "HTML": reply(200, "<html>hello</html>", {"Content-Type": "text/html"}),
    "nothing": hang_up,
    "stalls": stall,
    "floods": raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"x" * 300_000, close=True
    ),
    "garbage": raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\xff\xfe\0data: {\n\n"
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_no_stream_whatever_it_does_costs_more_than_one_question(follow: Any, name: str) -> None:
    with Server([STREAMS[name], reply(200, {"status": "RUNNING"}), reply(500)]) as server:
        state = follow(server)
    opened = sum(one.target.endswith("/stream") for one in server.received)
    assert (state["outcome"], "error" in state, len(server.received)) == ("RUNNING", False, 2 * opened)
    # Silence is no failure: the stream is taken up again, and fails for good this time.
    assert opened == (2 if name == "stalls" else 1)
    assert state["next"] in {"wait", "follow"}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_no_stream_whatever_it_does_hides_an_outcome(follow: Any, stream: Step) -> None:
    with Server([stream, DOCUMENT]) as server:
        assert follow(server)["outcome"] == "COMPLETED"


@pytest.mark.parametrize("size", [app.MAX_STATUS_BYTES - 60, app.MAX_STATUS_BYTES + 1])
def test_the_function_reads_a_status_up_to_its_limit_and_leaves_a_larger_one_to_poll(
    follow: Any, bucket: Bucket, size: int
) -> None:
    document = '{"status":"COMPLETED","final_output":"' + "x" * size + '"}'
    with Server([sse(DONE), reply(200, document)]) as server:
        state = follow(server)
    if size < app.MAX_STATUS_BYTES:
        assert (state["outcome"], len(bucket.keys())) == ("COMPLETED", 1)
    else:
        assert (state["outcome"], state["next"], bucket.keys()) == ("RUNNING", "poll", [])


def test_the_log_of_a_follow_holds_neither_the_key_nor_what_was_said(follow: Any) -> None:
    told = {"type": "node_completed", "node_id": "a", "output": "secret-7"}
    with log_of(app) as log, Server([sse(told, DONE), reply(500, {"detail": "secret-7"})]) as server:
        follow(server)
    assert "secret-7" not in log.getvalue()
    assert KEY not in log.getvalue()
