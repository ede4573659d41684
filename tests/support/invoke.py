"""Handlers called as Lambda calls them, wired as by their environment."""

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
    """Call the handler of a module with an event; keywords change its environment."""

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
        # As in a new container.
        monkeypatch.setattr(app, "dependencies", Dependencies(app.telemetry))
        answer: dict[str, Any] = app.handler(event, CONTEXT)
        return answer

    return call


@contextmanager
def log_of(app: Any) -> Iterator[StringIO]:
    """Yield what the function of a module logs, its figures aside, as CloudWatch would get it."""
    with log_into(app.telemetry) as log:
        yield log


@contextmanager
def log_into(telemetry: Telemetry) -> Iterator[StringIO]:
    """Yield the lines that a function's voice logs; its figures go to standard output."""
    log, handler = StringIO(), telemetry.logger.registered_handler
    assert isinstance(handler, StreamHandler)
    # Not by setStream: it flushes the stream before, which pytest may have closed with the test that opened it.
    before, handler.stream = handler.stream, log
    try:
        yield log
    finally:
        handler.stream = before
