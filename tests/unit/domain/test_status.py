"""Statuses of an execution: which of them are final, and the error names of the state machine."""

import pytest

from waterhook.domain.status import Status


def test_every_status_but_three_is_final() -> None:
    assert {status for status in Status if not status.is_final} == {"ACCEPTED", "STARTING", "RUNNING"}
    assert {status for status in Status if status.is_final} == {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMED_OUT",
        "LOST",
        "REJECTED",
        "UNCERTAIN",
        "ERROR",
    }


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("FAILED", "Waterhook.Failed"),
        ("CANCELLED", "Waterhook.Cancelled"),
        ("TIMED_OUT", "Waterhook.TimedOut"),
        ("LOST", "Waterhook.Lost"),
        ("REJECTED", "Waterhook.Rejected"),
        ("UNCERTAIN", "Waterhook.Uncertain"),
        ("ERROR", "Waterhook.Error"),
    ],
)
def test_every_failed_outcome_has_its_error_name(status: str, name: str) -> None:
    assert Status(status).error_name == name
