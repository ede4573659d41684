"""The documents on callers that wait."""

from benchmarks import wait_cost
from tests.contract.markdown import names, table
from tests.contract.template import ROOT
from waterhook import aws_config
from waterhook.api.outcome_wait import LEAST_S, RESERVE_S, WaitResult

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")


def test_each_result_of_a_wait_is_listed() -> None:
    (row,) = (row for row in table(CONTRACT, "Log field") if row[0] == "wait_result")
    assert [name for name in names(row[1]) if name not in {"api", "MaxWaiters"}] == [*WaitResult]


def test_the_costs_of_a_wait_are_those_that_the_benchmark_prints() -> None:
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    listed = [(row[0], row[1]) for row in table(document, "Waited")]
    assert listed == [(text, f"{micro_usd:.1f}") for text, micro_usd in wait_cost.rows()]


def test_the_times_of_a_wait_are_those_of_the_code() -> None:
    document = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    section = " ".join(document.partition("## A caller that waits")[2].partition("\n## ")[0].split())
    assert f"the invocation less {RESERVE_S:g} s" in section
    assert f"With less than {LEAST_S:.2g} s left" in section
    assert f"one attempt of at most {aws_config.longest_call_s(aws_config.SHORT):g} s" in section
