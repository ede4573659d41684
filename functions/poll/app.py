"""Poll: sends one status request and decides the next step."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import LoopState
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("poll", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Poll the status of an execution. Returns the loop state."""
    telemetry.add_fields(event["state"])
    state = LoopState.from_dict(event["state"])
    if state.follow_refused:
        telemetry.add_metric(Metric.FOLLOW_REFUSED)
    return telemetry.record_state(dependencies.poll_step.poll(state, event["execution"]["arn"]))


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.poll_step  # built while the container initializes
