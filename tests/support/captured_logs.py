"""The output of functions: log lines, and metrics in the embedded metric format (EMF)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from waterhook.observability.metrics import DIMENSION, NAMESPACE


@dataclass
class CapturedLogs:
    """The parsed output of some invocations: log lines, and EMF lines, which contain metrics."""

    text: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    emf_lines: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "CapturedLogs":
        logs = cls(text)
        for line in filter(None, text.splitlines()):
            entry = json.loads(line)
            (logs.emf_lines if "_aws" in entry else logs.lines).append(entry)
        return logs

    def of(self, function: str) -> list[dict[str, Any]]:
        """Return the log lines of one function."""
        return [line for line in self.lines if line["message"] == function]

    @property
    def metrics(self) -> dict[str, list[float]]:
        """Every value of every metric, by its name."""
        values: dict[str, list[float]] = {}
        for emf in self.emf_lines:
            for name, _ in metrics_of(emf):
                values.setdefault(name, []).extend(emf[name])
        return values


def metrics_of(emf: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and unit of the metrics of an EMF line.

    Fails if CloudWatch would refuse the line, or if it has another dimension than the stack. The rules are those of
    "Specification: Embedded metric format" in the CloudWatch user guide.
    """
    assert isinstance(emf["_aws"]["Timestamp"], int)
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == NAMESPACE
    assert directive["Dimensions"] == [[DIMENSION]]
    assert isinstance(emf[DIMENSION], str)
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert 1 <= len(names) <= 100
    # No other property: the log contains EMF lines, so a property could reveal customer data.
    assert emf.keys() == {"_aws", DIMENSION, *names}
    for metric in directive["Metrics"]:
        values = emf[metric["Name"]]
        assert 1 <= len(values) <= 100
        assert all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        yield metric["Name"], metric["Unit"]
