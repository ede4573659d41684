"""docs/operations.md lists the metrics and the log fields that there are, and its queries ask for those."""

import re

import pytest

from tests.contract.markdown import fences, table
from tests.contract.template import ROOT
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import LOG_FIELDS

DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
FIELDS = {row[0] for row in table(DOCUMENT, "Field")}
QUERIES = {fence.heading: fence.text for fence in fences(DOCUMENT, "sql")}
# What CloudWatch Logs adds to every line.
OF_CLOUDWATCH = {"@timestamp"}
WORDS = {
    "fields", "filter", "sort", "limit", "stats", "by", "as", "asc", "desc", "in",
    "count", "pct", "sum", "latest", "bin", "ispresent",
}  # fmt: skip


def test_the_table_of_metrics_has_each_of_them_and_its_unit() -> None:
    rows = {row[0]: row[1] for row in table(DOCUMENT, "Metric")}
    assert rows == {str(figure): figure.unit for figure in Metric}


def test_the_table_of_fields_has_all_that_a_line_may_hold() -> None:
    assert set(LOG_FIELDS) <= FIELDS


def asked_for(query: str) -> set[str]:
    """The fields of a query: its words less strings, durations, the language's own and what it names itself."""
    plain = re.sub(r'"[^"]*"|\b\d+\w?\b', " ", query)
    own = set(re.findall(r"\bas (\w+)", plain))
    return set(re.findall(r"@?[a-z_]\w*", plain)) - WORDS - own


def test_every_query_is_in_a_section_of_its_own() -> None:
    assert len(QUERIES) == len(fences(DOCUMENT, "sql")) > 0


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_asks_for_fields_that_are_logged(query: str) -> None:
    assert asked_for(query) <= FIELDS | OF_CLOUDWATCH


def test_a_field_that_is_not_logged_is_noticed() -> None:
    assert asked_for('fields lateness | filter outcome = "LOST" | stats count(*) as n by bin(5m)') == {
        "lateness",
        "outcome",
    }
