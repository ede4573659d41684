"""Statuses of an execution: which are final, and how a failed one is named."""

import pytest

from waterhook.domain.status import Status


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("ACCEPTED", False),
        ("STARTING", False),
        ("RUNNING", False),
        ("COMPLETED", True),
        ("FAILED", True),
        ("CANCELLED", True),
        ("TIMED_OUT", True),
        ("LOST", True),
        ("REJECTED", True),
        ("UNCERTAIN", True),
        ("ERROR", True),
    ],
)
def test_three_statuses_are_alive_and_eight_are_final(status: str, *, final: bool) -> None:
    assert Status(status).is_final is final


def test_there_are_no_other_statuses() -> None:
    assert len(Status) == 11


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
def test_every_outcome_has_the_error_name_that_parents_catch(status: str, name: str) -> None:
    assert Status(status).error_name == name
