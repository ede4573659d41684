"""The local AWS ends no expression because the machine stood still."""

from itertools import count

import pytest
from jsonata import Jsonata
from jsonata.jexception import JException
from jsonata.timebox import Timebox

from local.local_aws import run_ministack

A_SECOND_MS = 1000


@pytest.fixture(autouse=True)
def halting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by two seconds whenever it is looked at."""
    clock = count(0, 2 * A_SECOND_MS)
    monkeypatch.setattr(Timebox, "current_milli_time", staticmethod(lambda: next(clock)))


def test_an_expression_outlasts_some_seconds_in_which_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timebox, "__init__", run_ministack.init_with_longer_timeout)
    assert Jsonata.jsonata("1 + 1", timeout=A_SECOND_MS).evaluate(None) == 2


def test_without_it_the_expression_is_ended() -> None:
    with pytest.raises(JException, match="timeout"):
        Jsonata.jsonata("1 + 1", timeout=A_SECOND_MS).evaluate(None)


def test_an_expression_without_an_end_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timebox, "__init__", run_ministack.init_with_longer_timeout)
    with pytest.raises(JException, match="timeout"):
        Jsonata.jsonata("($f := function() { $f() }; $f())", timeout=A_SECOND_MS).evaluate(None)
