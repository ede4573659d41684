"""Start: claims the record of an execution, sends one POST to Waterflai and saves the id of the job."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("start", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Start the job of the state machine execution. Returns the loop state."""
    execution_input, execution = event["input"], event["execution"]
    if isinstance(execution_input, dict):
        telemetry.add_fields(
            event_id=execution_input.get("event_id"), execution_id=execution_input.get("execution_id")
        )
    state = dependencies.start_step.start(
        execution_input, owner=execution["arn"], started_at=execution["started_at"]
    )
    telemetry.add_fields(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.start_step  # built while the container initializes
