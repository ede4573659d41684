"""Number of history events. Step Functions ends an execution at 25,000."""

import itertools
from dataclasses import replace

import pytest

from tests.fakes.scripted_waterflai import completed, http_error, started, status
from tests.workflow.clock import MIDNIGHT
from tests.workflow.run import Run
from tests.workflow.world import World, request
from waterhook.domain import cost, poll_history, polling_policy, retry_policy
from waterhook.domain.loop_state import NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.polling_policy import Limits
from waterhook.domain.status_document import StatusDocument

EVENTS_LIMIT = 20_000  # of 25,000
# Entered, exited: a Wait and a Choice. A Task is scheduled, started and succeeds in between.
CYCLE = ["Wait", "Poll", "What next?"]
EVENTS_PER_CYCLE = 2 + 5 + 2
# Started, start, choice, ..., notify, choice, succeed, succeeded.
EVENTS_AROUND = 1 + 5 + 2 + 5 + 2 + 2 + 1
# The prices of a start and of an end include these transitions.
OF_START_AND_END = ["Start execution", "Notify", "Completed?", "Completed"]
THIRTY_DAYS_S = 30 * 24 * 3600


def poll_cycles(run: Run) -> int:
    """Return the number of poll cycles."""
    return run.path.count("Poll")


@pytest.mark.parametrize("polls", [1, 10])
def test_each_poll_cycle_adds_nine_events_to_the_eighteen_around_it(world: World, polls: int) -> None:
    world.upstream.respond_with("status", *[status("RUNNING")] * (polls - 1), completed("{}"))
    run = world.run(request())
    assert poll_cycles(run) == polls
    assert len(run.events) == EVENTS_AROUND + polls * EVENTS_PER_CYCLE
    assert run.path == ["Start execution", "What next?", *CYCLE * polls, "Notify", "Completed?", "Completed"]


def test_the_estimated_cost_counts_the_transitions_of_the_history(world: World) -> None:
    polls = 4
    world.upstream.respond_with("status", *[status("RUNNING")] * (polls - 1), completed("{}"))
    run = world.run(request())
    around = cost.start_usd() + cost.end_usd()
    polling_usd = cost.waiting_usd(len(run.path) - len(OF_START_AND_END), follows=0, follow_s=0, polls=polls)
    assert run.result["usage"]["estimated_cost_usd"] == pytest.approx(around + polling_usd, abs=1e-6)


def test_a_retry_adds_three_events(world: World) -> None:
    world.upstream.respond_with("status", completed("{}"))
    world.functions.fail("poll", "Lambda.TooManyRequestsException", times=4)
    run = world.run(request())
    assert len(run.events) == EVENTS_AROUND + EVENTS_PER_CYCLE + 4 * 3


def test_a_cycle_before_the_start_adds_as_many_events_as_a_poll_cycle(world: World) -> None:
    world.upstream.respond_with("start", *[http_error(429)] * 3, started("job"))
    world.upstream.respond_with("status", completed("{}"))
    run = world.run(request())
    assert len(run.events) == EVENTS_AROUND + EVENTS_PER_CYCLE + 3 * EVENTS_PER_CYCLE


def endless(limits: Limits, document: StatusDocument) -> int:
    """Return how often a job that never ends is polled until its deadline."""
    history, now = PollHistory(MIDNIGHT), MIDNIGHT
    for cycle in itertools.count():
        decision = polling_policy.next_step(history, now, limits)
        if decision.next is not NextStep.WAIT:
            return cycle
        now += decision.wait_seconds
        moved = replace(document, cleanup_after=now + 6) if document.cleanup_after else document
        history = poll_history.after_response(replace(history, polls=history.polls + 1), moved, now)
    raise AssertionError


@pytest.mark.parametrize("longest_s", [1, 60])
@pytest.mark.parametrize(
    "document",
    [StatusDocument("RUNNING"), StatusDocument("RUNNING", progress=99.9), StatusDocument(cleanup_after=1.0)],
    ids=["silent", "almost there", "about to be cleaned up"],
)
def test_a_job_that_never_ends_stays_far_below_the_limit_of_events(
    longest_s: int, document: StatusDocument
) -> None:
    limits = Limits(shortest_wait_s=1, longest_wait_s=longest_s, deadline=MIDNIGHT + THIRTY_DAYS_S)
    assert EVENTS_AROUND + endless(limits, document) * EVENTS_PER_CYCLE < EVENTS_LIMIT


def test_a_job_that_never_ends_takes_as_many_poll_cycles_as_the_policy_calculates(world: World) -> None:
    limits = Limits(shortest_wait_s=2, longest_wait_s=60, deadline=MIDNIGHT + 120)
    run = world.run(request(timeout_seconds=120))
    assert run.error == "Waterhook.TimedOut"
    assert poll_cycles(run) == endless(limits, StatusDocument("RUNNING"))


def starts(limits: Limits) -> int:
    """Return how often a start that is always refused is tried until the start deadline."""
    now = MIDNIGHT
    for attempts in itertools.count(1):
        decision = retry_policy.next_start_attempt(attempts, None, now, limits)
        if decision.next is not NextStep.START:
            return attempts
        now += decision.wait_seconds
    raise AssertionError


@pytest.mark.parametrize("longest_s", [1, 60])
def test_a_start_that_is_always_refused_stays_far_below_the_limit_of_events(longest_s: int) -> None:
    limits = Limits(shortest_wait_s=1, longest_wait_s=longest_s, deadline=MIDNIGHT + THIRTY_DAYS_S)
    assert EVENTS_AROUND + starts(limits) * EVENTS_PER_CYCLE < EVENTS_LIMIT
