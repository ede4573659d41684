"""Deliver: sends webhooks, one attempt for each invocation, and sweeps for attempts that are due."""

import json
import os
from contextlib import suppress
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("deliver", correlation_id_path="Records[0].messageId")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the messages of the queue, with one attempt at most. An exception makes SQS deliver them again.

    `{"sweep": {}}` sends the messages of attempts that are due before the next sweep. Operators send
    `{"resend": {"execution_id": "..."}}` and `{"test": {"url": "..."}}`.
    """
    if "sweep" in event:
        swept = dependencies.delivery_sweeper.sweep(lambda: context.get_remaining_time_in_millis() / 1000)
        return telemetry.record_delivery_sweep(swept)
    if "resend" in event:
        return telemetry.record_resend(dependencies.resender.resend(event["resend"]))
    if "test" in event:
        return dependencies.webhook_tester.test(event["test"])
    telemetry.record_webhooks(dependencies.deliver_batch.deliver(map(_message, event["Records"])))
    return {}


def _message(record: dict[str, Any]) -> object:
    """Return the message of a record, or None if it is not JSON: it is dropped, or it would come again for weeks."""
    with suppress(ValueError):
        return json.loads(record["body"])
    return None


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.deliver_batch  # built while the container initializes
