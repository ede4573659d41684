"""The local AWS evaluates JSONata also after the machine was suspended, and polls queues with limited concurrency."""

from itertools import count
from typing import Any

import pytest
from jsonata import Jsonata
from jsonata.jexception import JException
from jsonata.timebox import Timebox

from local.local_aws import run_ministack

A_SECOND_MS = 1000


@pytest.fixture(autouse=True)
def halting_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance the clock by two seconds for each read."""
    clock = count(0, 2 * A_SECOND_MS)
    monkeypatch.setattr(Timebox, "current_milli_time", staticmethod(lambda: next(clock)))


def test_an_expression_continues_after_seconds_without_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timebox, "__init__", run_ministack.init_with_longer_timeout)
    assert Jsonata.jsonata("1 + 1", timeout=A_SECOND_MS).evaluate(None) == 2


def test_an_endless_expression_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timebox, "__init__", run_ministack.init_with_longer_timeout)
    with pytest.raises(JException, match="timeout"):
        Jsonata.jsonata("($f := function() { $f() }; $f())", timeout=A_SECOND_MS).evaluate(None)


@pytest.mark.parametrize(
    ("mapping", "limit"),
    [({"ScalingConfig": {"MaximumConcurrency": "10"}}, 10), ({"ScalingConfig": {}}, 5), ({}, 5)],
    ids=["from a parameter", "empty", "none"],
)
def test_the_limit_of_an_event_source_mapping_may_be_text(mapping: dict[str, Any], limit: int) -> None:
    def concurrency_of(mapping: dict[str, Any], reserved: int) -> int:
        limit: int = mapping["ScalingConfig"].get("MaximumConcurrency", 5)
        return min(limit, reserved)

    given = {**mapping}
    assert run_ministack.with_numeric_limit(concurrency_of)(mapping, 100) == limit
    assert mapping == given


@pytest.mark.parametrize("action", ["sqs:SendMessage", "sqs:SendMessageBatch"])
def test_a_batch_of_messages_needs_the_permission_of_one_message(action: str) -> None:
    action_of = run_ministack.with_send_message_for_batches(lambda *_request: action)
    assert action_of("sqs", "POST", "/", {}) == "sqs:SendMessage"


def test_a_throttled_invocation_is_repeated_for_a_message_of_a_queue_only() -> None:
    answers: list[dict[str, Any]] = [{"throttle": True}, {"throttle": True}, {"body": {}}]
    results: list[Any] = []
    pauses: list[float] = []

    def run_batch(event: str) -> None:
        results.append(execute(event))

    execute, run = run_ministack.with_repeated_throttles(
        lambda _event: answers.pop(0), run_batch, pauses.append
    )
    assert execute("of a caller") == {"throttle": True}
    run("of a queue")
    assert (results, len(pauses), answers) == ([{"body": {}}], 1, [])


def test_an_invocation_that_stays_throttled_fails() -> None:
    results: list[Any] = []
    execute, run = run_ministack.with_repeated_throttles(
        lambda: {"throttle": True}, lambda: results.append(execute()), lambda _seconds: None
    )
    run()
    assert results == [{"throttle": True}]
