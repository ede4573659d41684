"""Figures for whoever reads the run, and functions that keep quiet."""

import importlib
from collections.abc import Iterator

import pytest

from tests.support import properties
from tests.support.aws import aws, dynamodb, table

__all__ = ["aws", "dynamodb", "table"]

properties.load()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: what ten thousand histories complain of would take longer than they do."""
    loggers = [
        importlib.import_module(f"functions.{name}.app").logger for name in ("start", "reconcile", "follow")
    ]
    levels = [logger.log_level for logger in loggers]
    for logger in loggers:
        logger.setLevel("CRITICAL")
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
