"""The documents on callers that wait."""

from benchmarks import wait_cost
from tests.contract.markdown import names, table
from tests.contract.template import ROOT
from waterhook.api.outcome_wait import WaitResult

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")


def test_each_result_of_a_wait_is_listed() -> None:
    (row,) = (row for row in table(CONTRACT, "Log field") if row[0] == "wait_result")
    assert [name for name in names(row[1]) if name not in {"api", "MaxWaiters"}] == [*WaitResult]


def test_the_costs_of_a_wait_are_those_that_the_benchmark_prints() -> None:
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    listed = [(row[0], row[1]) for row in table(document, "Waited")]
    assert listed == [(text, f"{micro_usd:.1f}") for text, micro_usd in wait_cost.rows()]
