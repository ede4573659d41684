"""Reconcile: closes executions whose state machine execution ended without an outcome, and sweeps for missed ones."""

import os
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry
from waterhook.steps.reconcile import close_ended

telemetry = Telemetry("reconcile", correlation_id_path="event_id")
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Close the execution that a status event names by ARN and status. `{"sweep": {}}` closes all that need it."""
    telemetry.add_fields(execution_arn=event.get("arn"))

    def remaining_s() -> float:
        return context.get_remaining_time_in_millis() / 1000

    if "sweep" in event:
        return telemetry.record_sweep(dependencies.sweeper.sweep(remaining_s))
    step, executions = dependencies.reconcile_step, dependencies.state_machine_executions
    record = close_ended(step, executions, event["arn"], event["status"], remaining_s)
    if record is not None:
        telemetry.add_metric(Metric.RECONCILED)
    return {"closed": record is not None}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _ = dependencies.sweeper  # built while the container initializes, with the reconcile step and its clients
