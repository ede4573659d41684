"""The end of patience: an overdue job is cancelled, and one that was faster than the cancel keeps its outcome."""

import pytest

from tests.fakes.scripted_waterflai import (
    NO_RESPONSE,
    TOO_LATE,
    Response,
    completed,
    http_error,
    on_request,
    response,
    started,
    status,
)
from tests.workflow.world import World, request

OVERDUE = request(timeout_seconds=30)


def test_an_overdue_job_is_cancelled_upstream_and_timed_out(world: World) -> None:
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.upstream.count("cancel") == 1
    assert world.clock.elapsed_s == 30
    assert run.path[-5:] == ["Cancel", "What next?", "Notify", "Completed?", "Fail with the outcome"]


@pytest.mark.parametrize("answer", [TOO_LATE, http_error(409), http_error(400), http_error(404)])
@pytest.mark.parametrize(
    ("last", "error"),
    [(completed('{"just": "in time"}'), None), (status("FAILED"), "Waterhook.Failed")],
    ids=["COMPLETED", "FAILED"],
)
def test_a_job_that_ended_before_its_cancel_keeps_its_real_outcome(
    world: World, answer: Response, last: Response, error: str | None
) -> None:
    @on_request
    def cancel() -> Response:
        world.upstream.respond_with("status", last)
        return answer

    world.upstream.respond_with("cancel", cancel)
    run = world.run(OVERDUE)
    assert run.error == error
    assert run.path.count("Cancel") == 1
    if error is None:
        assert run.result["final_output_json"] == '{"just": "in time"}'


@pytest.mark.parametrize("code", [500, 503])
def test_an_upstream_that_cannot_cancel_is_tried_for_ten_minutes(world: World, code: int) -> None:
    world.upstream.respond_with("cancel", http_error(code))
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.clock.elapsed_s == 30 + 600
    assert 10 <= world.upstream.count("cancel") <= 15
    assert "the job at Waterflai may still be running" in run.result["message"]
    assert len(world.notifications()) == 1


def test_a_cancel_that_works_at_the_second_attempt_is_the_last(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(502), response(body='{"cancelled": true}'))
    run = world.run(OVERDUE)
    assert run.result["message"].endswith("cancelled at its deadline")
    assert world.upstream.count("cancel") == 2


def test_a_job_that_ends_between_two_cancels_keeps_its_real_outcome(world: World) -> None:
    @on_request
    def cancel() -> Response:
        world.upstream.respond_with("status", completed("{}"))
        return http_error(500)

    world.upstream.respond_with("cancel", cancel)
    run = world.run(OVERDUE)
    assert run.status == "SUCCEEDED"
    assert run.path.count("Cancel") == 1


def test_a_job_that_is_not_known_any_more_when_it_is_overdue_is_timed_out(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(404))
    world.upstream.respond_with("status", http_error(404))
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.upstream.count("cancel") == 3


def test_the_deadline_counts_from_the_moment_the_request_was_accepted(world: World) -> None:
    world.upstream.respond_with("start", http_error(429, Retry_After="20"), started("late"))
    world.run(OVERDUE)
    assert world.clock.elapsed_s == 30


@pytest.mark.parametrize("code", [429, 503])
def test_the_retry_after_of_a_failed_poll_is_waited(world: World, code: int) -> None:
    world.upstream.respond_with("status", http_error(code, Retry_After="120"), completed("{}"))
    world.run(request())
    # Executions differ by up to half of the wait.
    assert world.clock.waits[0] == 4
    assert 120 <= world.clock.waits[1] <= 180


def test_no_patience_outlasts_the_deadline(world: World) -> None:
    world.upstream.respond_with("status", http_error(429, Retry_After="3000"))
    run = world.run(request(timeout_seconds=100))
    assert world.clock.elapsed_s == 100
    assert run.error == "Waterhook.TimedOut"


@pytest.mark.parametrize(
    "answer",
    [
        http_error(500),
        http_error(401),
        http_error(403),
        response(200, "<html>"),
        response(200, "[]"),
        NO_RESPONSE,
    ],
)
def test_a_failed_poll_is_not_a_failed_job(world: World, answer: Response) -> None:
    world.upstream.respond_with("status", *[answer] * 5, completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path.count("Poll") == 6
