"""The local AWS evaluates a JSONata expression also after the machine was suspended."""

from itertools import count

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
