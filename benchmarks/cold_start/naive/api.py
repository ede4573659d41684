"""The API function, written without optimizing cold starts."""

import json
import os
import uuid
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import logger, metrics, stepfunctions, table, tracer
from pydantic import BaseModel, Field

app = APIGatewayRestResolver(enable_validation=True)


class RequestBody(BaseModel):
    """The body of a request."""

    input_data: dict[str, Any]
    metadata: dict[str, Any] = Field(default_factory=dict)


@app.post("/v1/executions/<chatbot_id>/async")
@tracer.capture_method
def accept(chatbot_id: str, body: Annotated[RequestBody, Body()]) -> Response[dict[str, str]]:
    """Accept a request."""
    execution_id = uuid.uuid4().hex
    request = {"chatbot_id": chatbot_id, **body.model_dump()}
    record = {"execution_id": execution_id, "status": "ACCEPTED", "request": json.dumps(request)}
    table.put_item(Item=record, ConditionExpression="attribute_not_exists(execution_id)")
    stepfunctions.start_execution(
        stateMachineArn=os.environ["WATERHOOK_STATE_MACHINE_ARN"],
        name=execution_id,
        input=json.dumps(request),
    )
    logger.info("accepted", execution_id=execution_id)
    return Response(202, "application/json", {"execution_id": execution_id, "status": "ACCEPTED"})


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_REST)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle one HTTP request."""
    return app.resolve(event, context)
