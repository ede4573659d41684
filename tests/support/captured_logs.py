"""What functions said of themselves: the lines of their log and the figures that CloudWatch would take from it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from waterhook.observability.metrics import DIMENSION, NAMESPACE


@dataclass
class CapturedLogs:
    """The log of some invocations, read: one line each, and the figures in the embedded metric format."""

    text: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    blobs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "CapturedLogs":
        said = cls(text)
        for line in filter(None, text.splitlines()):
            entry = json.loads(line)
            (said.blobs if "_aws" in entry else said.lines).append(entry)
        return said

    def of(self, verb: str) -> list[dict[str, Any]]:
        """The lines of one function."""
        return [line for line in self.lines if line["message"] == verb]

    @property
    def figures(self) -> dict[str, list[float]]:
        """Every value of every metric."""
        found: dict[str, list[float]] = {}
        for blob in self.blobs:
            for name, _ in metrics_of(blob):
                found.setdefault(name, []).extend(blob[name])
        return found


def metrics_of(blob: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and unit of the metrics of a blob, once it is what CloudWatch takes and has our one dimension.

    The rules are those of "Specification: Embedded metric format" in the CloudWatch user guide.
    """
    assert isinstance(blob["_aws"]["Timestamp"], int)
    (directive,) = blob["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == NAMESPACE
    assert directive["Dimensions"] == [[DIMENSION]]
    assert isinstance(blob[DIMENSION], str)
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert 1 <= len(names) <= 100
    # Nothing is beside the metrics: a property of an EMF line can be read in the log like any other.
    assert blob.keys() == {"_aws", DIMENSION, *names}
    for metric in directive["Metrics"]:
        values = blob[metric["Name"]]
        assert 1 <= len(values) <= 100
        assert all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        yield metric["Name"], metric["Unit"]
