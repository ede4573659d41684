"""Deliver: sends the webhooks that a message of the queue names."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("deliver", correlation_id_path="Records[0].messageId")


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Log the number of messages."""
    return {"messages": len(event.get("Records", []))}
