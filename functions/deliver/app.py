"""Deliver: sends webhooks, one message of the queue at a time, and sweeps for attempts that are due."""

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
    """Make one attempt for the message of the queue. An exception makes SQS deliver the message again.

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
    for record in event["Records"]:
        message = None
        # A message that is not JSON is dropped, because it would come again for two weeks.
        with suppress(ValueError):
            message = json.loads(record["body"])
        telemetry.record_webhook(dependencies.deliver_step.deliver(message))
    return {}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.deliver_step  # built while the container initializes
