"""Numbers in the report of the run, and functions that log nothing."""

import importlib
from collections.abc import Iterator

import pytest

from tests.fakes.aws import aws, dynamodb, table
from tests.support import properties

__all__ = ["aws", "dynamodb", "table"]

properties.load()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: what ten thousand histories complain of would take longer than they do."""
    # Powertools keeps one for a service: silenced once, it is so for every function.
    loggers = [importlib.import_module("functions.reconcile.app").telemetry.logger]
    levels = [logger.log_level for logger in loggers]
    for logger in loggers:
        logger.setLevel("CRITICAL")
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
