"""Subscriber of Waterhook's topic: works once on each outcome, with Powertools' Parser, Idempotency and Batch.

Replace `work()` with your own work. Logs contain ids, statuses and sizes, never an output.
"""

import json
import os
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parser import BaseModel, ValidationError, parse
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from pydantic import ConfigDict

MAX_OUTPUT_BYTES = 50 * 1024 * 1024  # the longest output that Waterhook stores
OUTPUTS = f"s3://{os.environ['BUCKET_NAME']}/executions/"

logger = Logger(service="waterhook-subscriber")
# Each timeout is shorter than that of the function, so that an item fails and not the whole batch.
aws = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
s3 = boto3.client("s3", config=aws)
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
idempotency = IdempotencyConfig(
    event_key_jmespath="id",
    raise_on_no_idempotency_key=True,
    # Longer than a notification can be repeated: SQS stores it for 14 days, and an operator can publish it again
    # (`waterhook redeliver`) as long as the record exists.
    expires_after_seconds=int(os.environ["IDEMPOTENCY_DAYS"]) * 86_400,
)
table = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE"], boto_config=aws)


# ---- Models ---------------------------------------------------------------------------------------------------


class Tolerant(BaseModel):
    """Ignores fields that a later version of Waterhook adds, and shows no values in errors."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True)


class Event(Tolerant):
    """What each event has, also one of an unknown type."""

    id: str
    type: str

    @property
    def is_outcome(self) -> bool:
        """Whether it ends an execution."""
        return self.type.startswith("waterhook.execution.") and not self.type.endswith(".progress")


class Error(Tolerant):
    """Why there is no output. A later version may add codes."""

    code: str
    message: str = ""


class Outcome(Tolerant):
    """The result of an execution. A status that is not known is not `COMPLETED`."""

    execution_id: str
    status: str
    chatbot_id: str | None = None
    final_output: Any = None
    output_error: str | None = None
    error: Error | None = None
    metadata: dict[str, Any] | None = None


class Notification(Event):
    """A notification. `dataref` is the address of an output that is too large for it."""

    dataref: str | None = None
    data: Outcome


# ---- Your work ------------------------------------------------------------------------------------------------


def work(notification: Notification, output: Any) -> None:
    """Do something with an outcome. `output` is null if there is none: then `data.error` or `data.output_error` is set.

    After an exception SQS delivers the notification again, and after five times to the dead-letter queue. If the
    function is stopped halfway, the work is repeated: give `notification.id` to other systems as the idempotency key.
    """
    logger.info("processed", status=notification.data.status, has_output=output is not None)


# ---- The function ---------------------------------------------------------------------------------------------


def read_output(notification: Notification) -> Any:
    """Return the output, from S3 if it is there.

    Raises ValueError if its address is another one than Waterhook's, or if it is too long.
    """
    if not notification.dataref:
        return notification.data.final_output
    if not notification.dataref.startswith(OUTPUTS):
        raise ValueError("dataref: not in the bucket of Waterhook")
    bucket, _, key = notification.dataref.removeprefix("s3://").partition("/")
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_OUTPUT_BYTES + 1)
    if len(content) > MAX_OUTPUT_BYTES:
        raise ValueError(f"the output is longer than {MAX_OUTPUT_BYTES} bytes")
    return json.loads(content)


@idempotent_function(  # type: ignore[untyped-decorator]
    data_keyword_argument="notification",
    config=idempotency,
    persistence_store=table,
    key_prefix="waterhook",  # by default the name of the function, which may change
)
def once(*, notification: Notification) -> None:
    """Work on a notification, unless it was worked on before. Nothing is returned, so the table stores no output."""
    work(notification, read_output(notification))


def receive(record: SQSRecord) -> None:
    """Process one message. An exception leaves it in the queue, and the others of the batch are deleted."""
    logger.append_keys(message_id=record.message_id, event_id=None)
    try:
        body = json.loads(record.body)
        event = parse(event=body, model=Event)
        logger.append_keys(event_id=event.id)
        if event.is_outcome:
            once(notification=parse(event=body, model=Notification))
        else:
            logger.info("ignored", event_type=event.type)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in error.errors()]
        logger.error("not a notification", problems=problems)  # noqa: TRY400  # the text has values
        raise
    except Exception as error:
        # Not the text of the error: it may contain a part of the output.
        logger.error("failed", error=type(error).__name__)  # noqa: TRY400
        raise


@logger.inject_lambda_context(log_event=False, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Lambda entry point. Return the messages that stay in the queue."""
    # An attempt that is cut off by the timeout counts as failed when the timeout has passed.
    idempotency.register_lambda_context(context)
    return dict(process_partial_response(event, receive, processor, context))
