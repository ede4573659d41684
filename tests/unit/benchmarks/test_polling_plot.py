"""The plot of the report shows every strategy under its name, and is the same for the same numbers."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from benchmarks.polling.baselines import BASELINES
from benchmarks.polling.comparison import FOLLOW, FOLLOW_FEW, OFF, Comparison
from benchmarks.polling.plot import draw
from benchmarks.polling.waited import Summary, Waited
from benchmarks.polling.workloads import Kind


def summary(name: str, delay_s: float, cost_usd: float) -> Summary:
    waited = Waited(delay_s, 1, 3, 0.0, 1, cost_usd / 1000, 1, 10.0)
    return Summary.of(name, [waited])


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    baselines = tuple(summary(each.name, 40 / n, 0.1 * n) for n, each in enumerate(BASELINES, 1))
    ours = summary(FOLLOW, 0.2, 0.1), summary(FOLLOW_FEW, 2.1, 0.44), summary(OFF, 2.3, 0.42)
    of_chats = Comparison(Kind.CHAT, 10, 1, baselines, ours, (), (), ours[0])
    return [replace(of_chats, kind=kind) for kind in Kind]


@pytest.fixture(scope="module")
def texts(comparisons: list[Comparison]) -> list[str]:
    root = ET.fromstring(draw(comparisons))  # noqa: S314  # drawn above
    return [str(each.text) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_plot_is_the_same_for_the_same_numbers(comparisons: list[Comparison]) -> None:
    assert draw(comparisons) == draw(comparisons)


def test_every_strategy_is_named_once_in_each_panel(texts: list[str]) -> None:
    names = [each.name for each in BASELINES]
    names += ["follow all jobs", "follow 10 of 100 jobs", "follow none"]
    assert {name: texts.count(name) for name in names} == dict.fromkeys(names, len(Kind))


def test_the_axes_have_names_and_units_and_the_title_says_what_is_better(texts: list[str]) -> None:
    assert "mean delay, seconds (logarithmic)" in texts
    assert "cost of waiting, US$ per 1,000 jobs (logarithmic)" in texts
    assert any("Lower left is better" in text for text in texts)
