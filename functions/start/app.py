"""Start: claims the record of an execution, sends one POST to Waterflai, saves the id of the job."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("start", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Start the execution that the state machine was given; return the state of its loop."""
    given, execution = event["input"], event["execution"]
    if isinstance(given, dict):
        telemetry.add_fields(event_id=given.get("event_id"), execution_id=given.get("execution_id"))
    state = dependencies.start_step.start(given, owner=execution["arn"], started_at=execution["started_at"])
    telemetry.add_fields(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.start_step  # built while the container starts
