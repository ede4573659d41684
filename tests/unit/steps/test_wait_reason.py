"""The reason why a request waits for its start, and its outcome without a job."""

import pytest

from tests.fakes.clock import NOW
from tests.support.builders import record, running_state
from waterhook.domain.status import Status
from waterhook.errors import UpstreamUnavailableError
from waterhook.steps.wait_reason import WaitReason, end_without_job, waiting_attribute
from waterhook.timestamps import to_rfc3339


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "upstream_busy"),
        (401, "retrying"),
        (None, "retrying"),
    ],
)
def test_the_reason_is_busy_after_an_answer_and_retrying_without_one(status: int | None, reason: str) -> None:
    assert WaitReason.of(UpstreamUnavailableError("any", "any", status=status)) == reason


def test_since_is_unchanged_while_the_reason_is_the_same() -> None:
    first = waiting_attribute(WaitReason.RETRYING, "no connection", NOW, 5)
    assert waiting_attribute(WaitReason.RETRYING, "no key", NOW + 9, 5, first)["since"] == to_rfc3339(NOW)
    assert waiting_attribute(WaitReason.UPSTREAM_BUSY, "HTTP 429", NOW + 9, 5, first)["since"] == to_rfc3339(
        NOW + 9
    )


def test_the_detail_of_a_reason_is_shortened_to_500_characters() -> None:
    assert len(waiting_attribute(WaitReason.RETRYING, "x" * 9_999, NOW, 5)["detail"]) == 500


@pytest.mark.parametrize("outcome", [Status.REJECTED, Status.CANCELLED, Status.ERROR])
def test_without_a_lost_answer_the_outcome_is_the_requested_one(outcome: Status) -> None:
    ended = end_without_job(running_state(), record(), outcome, code="why", message="text")
    assert (ended.outcome, ended.error) == (outcome, {"code": "why", "message": "text"})


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Status.REJECTED, "why"),
        (Status.CANCELLED, "start_uncertain"),
        (Status.ERROR, "start_uncertain"),
    ],
)
def test_after_a_lost_answer_every_outcome_is_uncertain_and_contains_the_reason(
    outcome: Status, code: str
) -> None:
    ended = end_without_job(
        running_state(), record(perhaps_started=True), outcome, code="why", message="text"
    )
    assert ended.outcome is Status.UNCERTAIN
    assert ended.error is not None
    assert (ended.error["code"], ended.error["message"].partition(";")[0]) == (code, "text")
