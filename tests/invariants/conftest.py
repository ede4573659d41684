"""Fixtures of the model test: moto's table, and no log lines."""

import importlib
from collections.abc import Iterator

import pytest

from tests.fakes.aws import aws, dynamodb, table, webhook_table
from tests.support import properties

__all__ = ["aws", "dynamodb", "table", "webhook_table"]

properties.load()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: the warnings of 10,000 histories would take longer than the histories."""
    # All functions share Powertools' logger of the service.
    loggers = [importlib.import_module("functions.reconcile.app").telemetry.logger]
    levels = [logger.log_level for logger in loggers]
    for logger in loggers:
        logger.setLevel("CRITICAL")
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
