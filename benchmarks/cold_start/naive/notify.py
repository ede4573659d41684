"""The notify function, written without optimizing cold starts."""

import json
import os
from typing import Any

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext
from common import Step, logger, metrics, sns, table, tracer


@logger.inject_lambda_context
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
@event_parser(model=Step)
def handler(event: Step, context: LambdaContext) -> dict[str, Any]:
    """Write the outcome, publish it, and record the publication."""
    key = {"execution_id": event.state.execution_id}
    record = table.get_item(Key=key, ConsistentRead=True)["Item"]
    change(key, "status", event.state.outcome)
    data = {"execution_id": record["execution_id"], "status": event.state.outcome, **event.state.result}
    status = {"DataType": "String", "StringValue": event.state.outcome}
    sns.publish(
        TopicArn=os.environ["WATERHOOK_TOPIC_ARN"],
        Message=json.dumps({"specversion": "1.0", "data": data}),
        MessageAttributes={"status": status},
    )
    change(key, "notified", "true")
    logger.info("notify", execution_id=event.state.execution_id)
    return data


def change(key: dict[str, Any], name: str, value: str) -> None:
    """Set one attribute."""
    table.update_item(
        Key=key,
        UpdateExpression="SET #n = :v",
        ExpressionAttributeNames={"#n": name},
        ExpressionAttributeValues={":v": value},
        ConditionExpression="attribute_exists(execution_id)",
    )
