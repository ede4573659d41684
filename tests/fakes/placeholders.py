"""Arguments for parameters that a test does not use."""

from typing import Any

from waterhook.observability.telemetry import Telemetry
from waterhook.storage.results_bucket import ResultsBucket


def unused() -> Any:
    """Raise AssertionError. For a factory whose object the test must not use."""
    raise AssertionError("the test must not use this object")


# Outside of an invocation it logs nothing.
TELEMETRY = Telemetry("test", correlation_id_path="id")
NO_BUCKET = ResultsBucket("none", unused)
