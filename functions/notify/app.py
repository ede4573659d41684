"""Notify: writes the outcome of an execution, unless there is one, and publishes it from the record."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("notify", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Write and publish the outcome. Returns the output of the state machine.

    `{"redeliver": {"execution_id": "..."}}`, sent by an operator, publishes the event of a finished execution again.
    """
    telemetry.add_fields(event.get("state"))
    if "redeliver" in event:
        return telemetry.record_redelivery(dependencies.notify_step.redeliver(event["redeliver"]))
    execution = event["execution"]
    output = dependencies.notify_step.notify(
        event["state"], owner=execution["arn"], started_at=execution["started_at"]
    )
    telemetry.add_fields(output)
    return output


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.notify_step  # built while the container initializes
