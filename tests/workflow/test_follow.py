"""The Follow state: paths with and without it, cancels by callers, and progress events."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.scripted_server import sse
from tests.fakes.scripted_waterflai import (
    CANCELLED,
    TOO_LATE,
    Response,
    completed,
    http_error,
    on_request,
    started,
    status,
)
from tests.workflow.run import Run
from tests.workflow.world import World, request, service
from waterhook.api.callers import Caller
from waterhook.domain import cost, polling_policy
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.upstream.client import CancelResult

NODE = {"type": "node_started", "node_id": "a"}
DONE = {"type": "execution_completed"}
# The path of a job that one follow follows to its end.
STRAIGHT = ["Start execution", "What next?", "Follow", "What next?", "Notify", "Completed?", "Completed"]


@pytest.fixture
def following(world: World) -> Iterator[World]:
    """The world with following enabled."""
    with world.deployed_with(FOLLOW_CONCURRENCY="50"):
        yield world


def after(world: World, seconds: float, answer: Response, then: Response | None = None) -> Response:
    """Return a stream that takes `seconds`. At its end the status is `then`."""

    @on_request
    def respond() -> Response:
        world.clock.now += seconds
        if then is not None:
            world.upstream.respond_with("status", then)
        return answer

    return respond


def finish(world: World, seconds: float = 12.0) -> Response:
    return after(world, seconds, sse(NODE, DONE), completed('{"just": "in time"}'))


def test_a_job_that_one_follow_covers_takes_eight_transitions_at_most(following: World) -> None:
    following.upstream.respond_with("stream", finish(following))
    run = following.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path == STRAIGHT
    # Each state entered is a transition, and the start of the execution is one more.
    assert len(run.path) + 1 <= 8
    assert (following.upstream.count("stream"), following.upstream.count("status")) == (1, 1)
    assert following.clock.waits == []
    assert run.result["final_output_json"] == '{"just": "in time"}'
    usage = run.result["usage"]
    assert (usage["polls"], usage["follow_seconds"]) == (1, pytest.approx(12, abs=1))
    # Start execution and the three from Notify on are in the prices of a start and of an end.
    waited_usd = cost.waiting_usd(len(run.path) - 4, follows=1, follow_s=usage["follow_seconds"], polls=0)
    everything_usd = cost.start_usd() + waited_usd + cost.end_usd()
    assert usage["estimated_cost_usd"] == pytest.approx(everything_usd, abs=1e-6)
    assert len(following.notifications()) == 1


def test_the_outcome_of_a_followed_job_is_its_status(following: World) -> None:
    following.upstream.respond_with("stream", after(following, 12, sse(DONE), status("FAILED")))
    run = following.run(request())
    assert run.error == "Waterhook.Failed"
    assert run.path.count("Follow") == 1


def test_without_concurrency_the_loop_polls_and_a_later_cycle_follows_again(following: World) -> None:
    following.functions.fail("follow", "Lambda.TooManyRequestsException", times=1)
    following.upstream.respond_with("stream", finish(following))
    run = following.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path[:6] == ["Start execution", "What next?", "Follow", "What next?", "Wait", "Poll"]
    assert following.clock.waits[0] == 4
    assert run.path.count("Follow") == 2
    assert run.path[-5:] == STRAIGHT[-5:]
    assert following.clock.elapsed_s >= polling_policy.FOLLOW_PAUSE_S


@pytest.mark.parametrize(
    "name",
    [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "States.Timeout",
    ],
)
def test_a_job_whose_follows_always_fail_is_polled_to_its_outcome(following: World, name: str) -> None:
    following.functions.fail("follow", name)
    following.upstream.respond_with("status", *[status("RUNNING")] * 20, completed("{}"))
    run = following.run(request())
    assert run.status == "SUCCEEDED"
    assert "Report the fault" not in run.path
    # Spaced by at least a minute, and each one is followed by a poll.
    assert run.path.count("Follow") <= 1 + following.clock.elapsed_s / polling_policy.FOLLOW_PAUSE_S
    assert len(following.notifications()) == 1


def test_a_follow_that_returns_an_unknown_step_is_an_error_and_notified(following: World) -> None:
    following.functions.alter("follow", lambda state: state | {"next": "dance"})
    following.upstream.respond_with("stream", after(following, 12, sse(NODE)))
    run = following.run(request())
    assert run.error == "Waterhook.Error"
    assert len(following.notifications()) == 1


def test_without_a_stream_the_status_is_polled_in_the_same_invocation(following: World) -> None:
    following.upstream.respond_with("stream", http_error(404))
    following.upstream.respond_with("status", status("RUNNING"), completed("{}"))
    run = following.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path == STRAIGHT
    assert following.upstream.count("status") == 2
    assert following.clock.elapsed_s <= 5
    assert len(following.notifications()) == 1


def test_after_three_consecutive_failures_the_upstream_is_polled_from_the_wait_state(
    following: World,
) -> None:
    following.upstream.respond_with("stream", http_error(404))
    following.upstream.respond_with("status", *[http_error(503)] * 4, status("RUNNING"), completed("{}"))
    run = following.run(request())
    assert run.path == [
        *STRAIGHT[:4],
        "Wait",
        "Poll",
        "What next?",
        "Wait",
        "Poll",
        "What next?",
        *STRAIGHT[2:],
    ]


def test_a_job_longer_than_a_follow_is_followed_several_times(following: World) -> None:
    following.upstream.respond_with("stream", *[after(following, 840, sse(NODE))] * 3, finish(following))
    run = following.run(request(timeout_seconds=7200))
    assert run.status == "SUCCEEDED"
    assert run.path.count("Follow") == 4
    assert "Wait" not in run.path
    assert run.result["usage"]["follow_seconds"] == pytest.approx(3 * 840 + 12, abs=2)


def test_a_deadline_that_passes_during_a_follow_cancels_the_job(following: World) -> None:
    following.upstream.respond_with("stream", after(following, 31, sse(NODE)))
    run = following.run(request(timeout_seconds=30))
    assert run.error == "Waterhook.TimedOut"
    assert run.path[2:6] == ["Follow", "What next?", "Cancel", "What next?"]
    assert following.upstream.count("cancel") == 1
    assert len(following.notifications()) == 1


def test_a_status_document_too_large_for_follow_is_read_by_a_poll(following: World) -> None:
    output = json.dumps({"text": "x" * 300 * 1024})
    following.upstream.respond_with("stream", after(following, 12, sse(DONE), completed(output)))
    run = following.run(request())
    assert run.path == [*STRAIGHT[:4], "Poll", *STRAIGHT[3:]]
    assert following.stored(run.result["output_ref"]) == output
    assert following.upstream.count("status") == 2


def cancel(keyed_request: dict[str, Any]) -> CancelResult:
    """Cancel the execution of a request through the API, as its caller does."""
    caller = Caller("caller")
    execution_id = derive_execution_id("api/caller", keyed_request["idempotency_key"])
    answer: CancelResult = service().cancel(service().find(execution_id, caller), caller)
    return answer


def keyed() -> dict[str, Any]:
    """Return a request whose execution's id is known before it is accepted."""
    return request(idempotency_key=str(uuid.uuid4()))


def cancelled_job(world: World) -> Response:
    """Return a response to a cancel after which each status is CANCELLED."""

    @on_request
    def respond() -> Response:
        world.upstream.respond_with("status", status("CANCELLED")).respond_with("cancel", TOO_LATE)
        return CANCELLED

    return respond


def finished(world: World, keyed_request: object) -> Run:
    """Accept a request as the API does, and return its finished execution."""
    execution_id = world.accept(keyed_request)
    return world.finished(world.record(execution_id).owner_execution_arn)


@pytest.mark.parametrize(
    ("moment", "concurrency"),
    [("start", "50"), ("status", "50"), ("status", "0"), ("stream", "50"), ("wait", "50"), ("wait", "0")],
)
def test_a_cancel_at_any_moment_is_one_outcome_published_once(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str, concurrency: str
) -> None:
    keyed_request, answers = keyed(), list[CancelResult]()

    def meanwhile(then: Response) -> Response:
        @on_request
        def respond() -> Response:
            # The cancel may send a status request of its own, which must not cancel again.
            world.upstream.respond_with(moment, then)
            answers.append(cancel(keyed_request))
            return then

        return respond

    def during_a_wait() -> None:
        world.clock.while_waiting = None
        answers.append(cancel(keyed_request))

    world.upstream.respond_with("cancel", cancelled_job(world)).respond_with("stream", sse(NODE))
    if moment == "start":
        world.upstream.respond_with("start", meanwhile(started("job")))
    elif moment == "status":
        world.upstream.respond_with("status", meanwhile(status("RUNNING")))
    elif moment == "stream":
        world.upstream.respond_with("stream", meanwhile(sse(NODE)))
    else:
        world.functions.fail("follow", "Lambda.TooManyRequestsException", times=1)
        world.clock.while_waiting = during_a_wait
    with world.deployed_with(FOLLOW_CONCURRENCY=concurrency):
        run = finished(world, keyed_request)
    assert run.error == "Waterhook.Cancelled"
    assert [answer.cancelled for answer in answers] == [moment != "start"]
    assert world.upstream.count("cancel") == 1
    (notification,) = world.notifications()
    assert notification.event["data"]["error"]["message"] == "cancelled by its caller"


def test_a_cancel_during_the_start_is_carried_out_though_the_upstream_fails_at_first(
    world: World,
) -> None:
    keyed_request = keyed()

    @on_request
    def start() -> Response:
        cancel(keyed_request)
        return started("job")

    world.upstream.respond_with("start", start).respond_with(
        "cancel", http_error(500), http_error(503), CANCELLED
    )
    run = finished(world, keyed_request)
    assert run.error == "Waterhook.Cancelled"
    assert world.upstream.count("cancel") == 3
    assert world.clock.elapsed_s <= 15
    assert "may still be running" not in run.result["message"]


def test_a_cancel_of_a_job_that_completes_meanwhile_returns_the_completion_and_it_is_published(
    following: World,
) -> None:
    keyed_request, answers = keyed(), list[CancelResult]()

    @on_request
    def respond() -> Response:
        following.upstream.respond_with("status", completed("{}")).respond_with("cancel", TOO_LATE)
        answers.append(cancel(keyed_request))
        return sse(DONE)

    following.upstream.respond_with("stream", respond)
    run = finished(following, keyed_request)
    assert run.status == "SUCCEEDED"
    assert [answer.message for answer in answers] == ["too late: the execution is COMPLETED"]
    assert len(following.notifications()) == 1


def test_progress_events_of_a_followed_job_are_published_before_its_outcome(following: World) -> None:
    following.upstream.respond_with("stream", finish(following))
    run = following.run(request(progress_events=True))
    assert run.path == STRAIGHT
    kinds = sorted(one.event["type"] for one in following.notifications())
    assert kinds == ["waterhook.execution.completed", "waterhook.execution.progress"]


def test_with_following_disabled_no_job_is_followed(world: World) -> None:
    world.upstream.respond_with("status", status("RUNNING"), completed("{}"))
    run = world.run(request())
    assert ("Follow" in run.path, world.upstream.count("stream")) == (False, 0)
