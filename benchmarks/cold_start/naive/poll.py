"""The poll function, written without optimizing cold starts."""

from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import Step, logger, metrics, polled, tracer


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
@event_parser(model=Step)
def handler(event: Step, context: LambdaContext) -> dict[str, Any]:
    """Poll once."""
    logger.info("poll", execution_id=event.state.execution_id)
    return polled(event.state)
