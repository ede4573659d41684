"""The deliver function, written without optimizing cold starts."""

import base64
import hashlib
import hmac
import json
import os
import time
from pathlib import Path
from typing import Any

import boto3
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.data_classes import SQSEvent, event_source
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import TIMEOUT_S, logger, metrics, session, table, tracer
from pydantic import BaseModel

deliveries = boto3.resource("dynamodb").Table(os.environ["WATERHOOK_WEBHOOK_TABLE"])
sqs = boto3.client("sqs")
bundle = Path(f"/tmp/bundle-{os.getpid()}.pem")  # noqa: S108 - as a function in Lambda


class Message(BaseModel):
    """A message of the queue."""

    execution_id: str
    event_id: str


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
@event_source(data_class=SQSEvent)
def handler(event: SQSEvent, context: LambdaContext) -> dict[str, Any]:
    """Send the webhook of each message."""
    for record in event.records:
        deliver(Message.model_validate_json(record.body))
    return {}


def deliver(message: Message) -> None:
    """Send one webhook, and write its result."""
    record = table.get_item(Key={"execution_id": message.execution_id}, ConsistentRead=True)["Item"]
    key = dict(zip(("pk", "sk"), message.event_id.split("/", 1), strict=True))
    if "Item" in deliveries.get_item(Key=key, ConsistentRead=True):
        return
    body = json.dumps({"specversion": "1.0", "id": message.event_id, "data": record}, default=str)
    timestamp = str(int(time.time()))
    master = str(json.loads(parameters.get_secret(os.environ["WATERHOOK_WEBHOOK_SECRET_ARN"]))["key"])
    text = f"{message.event_id}.{timestamp}.{body}".encode()
    signature = base64.b64encode(hmac.new(master.encode(), text, hashlib.sha256).digest()).decode()
    change(key, "pending")
    bundle.write_text(
        str(parameters.get_secret(os.environ["WATERHOOK_WEBHOOK_CA_BUNDLE_ARN"])), encoding="utf-8"
    )
    try:
        response = session.post(
            str(record["webhook"]["url"]),
            data=body,
            headers={
                "webhook-id": message.event_id,
                "webhook-timestamp": timestamp,
                "webhook-signature": f"v1,{signature}",
            },
            timeout=TIMEOUT_S,
            allow_redirects=False,
            verify=str(bundle),
        )
    finally:
        bundle.unlink()
    response.raise_for_status()
    change(key, "delivered")
    logger.info("deliver", execution_id=message.execution_id)


def change(key: dict[str, Any], status: str) -> None:
    """Set the status of the delivery."""
    deliveries.update_item(
        Key=key,
        UpdateExpression="SET #s = :s",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":s": status},
    )
