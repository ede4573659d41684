"""Arguments for parameters that a test does not use."""

from typing import Any

from waterhook.observability.telemetry import Telemetry
from waterhook.storage.results_bucket import ResultsBucket


def unused() -> Any:
    """Raise AssertionError: a factory of something that the test must not use."""
    raise AssertionError("this is not expected to be used")


# Outside an invocation it logs and measures nothing.
TELEMETRY = Telemetry("test", correlation_id_path="id")
NO_BUCKET = ResultsBucket("none", unused)
