"""Cancel: cancels a job that is overdue or given up. A job that has already ended keeps its real outcome."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import LoopState
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("cancel", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Cancel the job of an execution. Returns the loop state."""
    telemetry.add_fields(event["state"])
    state = dependencies.cancel_step.cancel(LoopState.from_dict(event["state"]), event["execution"]["arn"])
    plain = state.to_dict()
    telemetry.add_fields(plain)
    return plain


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.cancel_step  # built while the container initializes
