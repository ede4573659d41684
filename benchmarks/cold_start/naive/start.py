"""The start function, written without optimizing cold starts."""

import hashlib
from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import BASE_URL, TIMEOUT_S, Request, headers, logger, metrics, session, table, tracer
from pydantic import BaseModel


class Start(BaseModel):
    """The input from the state machine."""

    input: Request


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
@event_parser(model=Start)
def handler(event: Start, context: LambdaContext) -> dict[str, Any]:
    """Create the record, start the job, and save its id."""
    request = event.input
    execution_id = hashlib.sha256((request.idempotency_key or "").encode()).hexdigest()[:32]
    record = request.model_dump() | {"execution_id": execution_id, "status": "ACCEPTED"}
    table.put_item(Item=record, ConditionExpression="attribute_not_exists(execution_id)")
    change(execution_id, "STARTING", "")
    response = session.post(
        f"{BASE_URL}/v1/executions/{request.chatbot_id}/async",
        json={"input_data": request.input_data},
        headers=headers(),
        timeout=TIMEOUT_S,
    )
    response.raise_for_status()
    waterflai_execution_id = response.json()["execution_id"]
    change(execution_id, "RUNNING", waterflai_execution_id)
    logger.info("start", execution_id=execution_id)
    return {
        "execution_id": execution_id,
        "waterflai_execution_id": waterflai_execution_id,
        "outcome": "RUNNING",
        "next": "poll",
        "wait_seconds": 5,
    }


def change(execution_id: str, status: str, waterflai_execution_id: str) -> None:
    """Set the status and the id in the record."""
    table.update_item(
        Key={"execution_id": execution_id},
        UpdateExpression="SET #s = :s, waterflai_execution_id = :w",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":s": status, ":w": waterflai_execution_id},
        ConditionExpression="attribute_exists(execution_id)",
    )
