"""Deadlines: an overdue job is cancelled. A job that ended before its cancel keeps its outcome."""

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


@pytest.mark.parametrize(
    ("answer", "last", "error"),
    [
        (TOO_LATE, completed('{"just": "in time"}'), None),
        (http_error(409), status("FAILED"), "Waterhook.Failed"),
    ],
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


def test_a_cancel_that_fails_is_repeated_for_ten_minutes(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(503))
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.clock.elapsed_s == 30 + 600
    assert 10 <= world.upstream.count("cancel") <= 15
    assert "the job at Waterflai may still be running" in run.result["message"]
    assert len(world.notifications()) == 1


def test_a_cancel_that_succeeds_at_the_second_attempt_is_the_last(world: World) -> None:
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


def test_an_overdue_job_that_is_not_found_is_timed_out(world: World) -> None:
    world.upstream.respond_with("cancel", http_error(404))
    world.upstream.respond_with("status", http_error(404))
    run = world.run(OVERDUE)
    assert run.error == "Waterhook.TimedOut"
    assert world.upstream.count("cancel") == 3


def test_the_deadline_counts_from_the_moment_the_request_was_accepted(world: World) -> None:
    world.upstream.respond_with("start", http_error(429, Retry_After="20"), started("late"))
    world.run(OVERDUE)
    assert world.clock.elapsed_s == 30


def test_the_retry_after_of_a_failed_poll_is_waited(world: World) -> None:
    world.upstream.respond_with("status", http_error(429, Retry_After="120"), completed("{}"))
    world.run(request())
    # Jitter adds up to half of the wait.
    assert world.clock.waits[0] == 4
    assert 120 <= world.clock.waits[1] <= 180


@pytest.mark.parametrize("answer", [http_error(500), NO_RESPONSE])
def test_a_failed_poll_is_not_a_failed_job(world: World, answer: Response) -> None:
    world.upstream.respond_with("status", *[answer] * 5, completed("{}"))
    run = world.run(request())
    assert run.status == "SUCCEEDED"
    assert run.path.count("Poll") == 6
