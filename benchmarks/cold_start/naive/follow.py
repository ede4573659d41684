"""The follow function, written without optimizing cold starts."""

import json
from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import BASE_URL, TIMEOUT_S, Step, headers, logger, metrics, polled, session, tracer


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
@event_parser(model=Step)
def handler(event: Step, context: LambdaContext) -> dict[str, Any]:
    """Follow the stream to its end, then poll."""
    logger.info("follow", execution_id=event.state.execution_id)
    url = f"{BASE_URL}/v1/executions/{event.state.waterflai_execution_id}/stream"
    with session.get(url, headers=headers(), stream=True, timeout=TIMEOUT_S) as response:
        for line in response.iter_lines():
            if line.startswith(b"data: ") and json.loads(line[6:])["type"] == "execution_completed":
                break
    return polled(event.state)
