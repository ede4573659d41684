"""Follow: reads the event stream and polls the status, until there is an outcome or the invocation's time is over."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.domain.loop_state import LoopState
from waterhook.observability.telemetry import Telemetry
from waterhook.steps.follow import longest_follow_s

telemetry = Telemetry("follow", correlation_id_path="execution.arn")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Follow the execution. Returns the loop state."""
    telemetry.add_fields(event["state"])
    remaining_s = context.get_remaining_time_in_millis() / 1000
    follow_s = longest_follow_s(dependencies.settings, remaining_s)
    state = dependencies.follow_step.follow(LoopState.from_dict(event["state"]), follow_s)
    return telemetry.record_state(state)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.follow_step  # built while the container initializes
