"""Calls a function's handler as Lambda does, with the environment variables of the template."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from logging import StreamHandler
from typing import Any

import pytest

from tests.fakes.aws import Bucket, Machine, Secret, Table, Topic
from tests.fakes.lambda_context import CONTEXT
from tests.support.builders import environment
from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

type Invoke = Callable[..., dict[str, Any]]


@pytest.fixture
def invoke(
    table: Table,
    topic: Topic,
    bucket: Bucket,
    secret: Secret,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> Invoke:
    """Return a function that calls the handler of a module. Keywords change its environment variables."""

    def call(app: Any, event: dict[str, Any], **changes: str) -> dict[str, Any]:
        env = environment(
            WATERHOOK_TABLE=table.name,
            WATERHOOK_TOPIC_ARN=topic.arn,
            WATERHOOK_BUCKET=bucket.name,
            WATERFLAI_API_KEY_SECRET_ARN=secret.arn,
            WATERHOOK_STATE_MACHINE_ARN=machine.arn,
            **changes,
        )
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        # A new container builds its dependencies anew.
        monkeypatch.setattr(app, "dependencies", Dependencies(app.telemetry))
        result: dict[str, Any] = app.handler(event, CONTEXT)
        return result

    return call


@contextmanager
def log_of(app: Any) -> Iterator[StringIO]:
    """Yield the log lines of a function. Its metrics go to standard output."""
    with log_into(app.telemetry) as log:
        yield log


@contextmanager
def log_into(telemetry: Telemetry) -> Iterator[StringIO]:
    """Yield the log lines of a Telemetry. Its metrics go to standard output."""
    log, handler = StringIO(), telemetry.logger.registered_handler
    assert isinstance(handler, StreamHandler)
    # setStream would flush the previous stream, which pytest may have closed at the end of another test.
    before, handler.stream = handler.stream, log
    try:
        yield log
    finally:
        handler.stream = before
