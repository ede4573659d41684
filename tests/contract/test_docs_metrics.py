"""docs/contract.md lists every metric and log field, and the queries in docs/operations.md use only these."""

import re

import pytest

from tests.contract.markdown import fences, table
from tests.contract.template import ROOT
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import LOG_FIELDS

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
FIELDS = {row[0] for row in table(CONTRACT, "Log field")}
QUERIES = {fence.heading: fence.text for fence in fences(OPERATIONS, "sql")}
# CloudWatch Logs adds this field to every line.
CLOUDWATCH_FIELDS = {"@timestamp"}
WORDS = {
    "fields", "filter", "sort", "limit", "stats", "by", "as", "asc", "desc", "in",
    "count", "pct", "sum", "latest", "bin", "ispresent", "or",
}  # fmt: skip


def test_each_metric_is_listed_with_its_unit() -> None:
    rows = {row[0]: row[1] for row in table(CONTRACT, "Metric")}
    assert rows == {str(metric): metric.unit for metric in Metric}


def test_each_log_field_is_listed() -> None:
    assert set(LOG_FIELDS) <= FIELDS


def fields_in(query: str) -> set[str]:
    """Return the fields that a query uses: no strings, durations, keywords, and names that the query defines."""
    plain = re.sub(r'"[^"]*"|\b\d+\w?\b', " ", query)
    own = set(re.findall(r"\bas (\w+)", plain))
    return set(re.findall(r"@?[a-z_]\w*", plain)) - WORDS - own


def test_each_query_has_a_section() -> None:
    assert len(QUERIES) == len(fences(OPERATIONS, "sql")) > 0


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_uses_logged_fields_only(query: str) -> None:
    assert fields_in(query) <= FIELDS | CLOUDWATCH_FIELDS


def test_a_query_of_a_field_that_is_not_logged_is_found() -> None:
    assert fields_in('fields lateness | filter outcome = "LOST" | stats count(*) as n by bin(5m)') == {
        "lateness",
        "outcome",
    }
