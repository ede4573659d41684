"""Recovery and deletion on the deployed stack: redelivery, erasure, and the sweep."""

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws, output
from tests.e2e.test_triggers import finish
from waterhook.domain.request import Request, RequestDefaults
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339
from waterhook_cli.commands.erase import Eraser
from waterhook_cli.commands.redeliver import Redeliverer
from waterhook_cli.errors import CommandError

pytestmark = pytest.mark.e2e

AN_HOUR_S = 3600


def test_a_redelivery_equals_the_first_notification_and_an_erased_execution_is_gone(
    stack: StackClient, marker: str
) -> None:
    redeliverer = Redeliverer(
        stack.dynamodb,
        aws(stack, "lambda"),
        table=stack.outputs.table_name,
        notify_function=output(stack, "NotifyFunctionName"),
    )
    s3, bucket = aws(stack, "s3"), output(stack, "BucketName")
    eraser = Eraser(stack.dynamodb, s3, table=stack.outputs.table_name, bucket=bucket)

    execution_id = stack.submit(
        "big-output", {"simulate": {"seconds": 60, "queue_seconds": 0.0}}, metadata={"order": marker}
    )
    with pytest.raises(CommandError, match="cancel it first"):
        eraser.erase(execution_id)
    finish(stack, execution_id)
    stack.wait_for_notification(execution_id)
    stack.wait_for_status(execution_id, "COMPLETED")
    (found,) = redeliverer.find(ids=[execution_id], status="COMPLETED")
    assert redeliverer.redeliver(found).redelivered
    first, again = stack.notification_bodies(execution_id)
    assert again == first
    assert json.loads(again)["dataref"].startswith(f"s3://{bucket}/executions/{execution_id}/")

    def objects() -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"executions/{execution_id}/")
        return [entry["Key"] for entry in listed.get("Contents", [])]

    (key,) = objects()
    erased = eraser.erase(execution_id)
    assert (erased.record, erased.notified, erased.objects) == (True, True, (key,))
    assert (stack.get(execution_id).status_code, stack.item(execution_id), objects()) == (404, None, [])
    refused = redeliverer.redeliver(execution_id)
    assert not refused.redelivered
    assert "erased" in (refused.reason or "")
    assert len(stack.notification_bodies(execution_id)) == 2


def test_a_sweep_finalizes_stalled_records_deletes_unstarted_ones_and_leaves_running_ones(
    strict: StackClient,
) -> None:
    """On the stack that enforces permissions: the role of the reconcile function suffices."""
    running = strict.submit("endless")
    strict.wait_for_status(running, "RUNNING")
    # A record as the API writes it before it starts the state machine.
    then, execution_id = time.time() - AN_HOUR_S, uuid4().hex
    request = Request.from_dict(
        {"chatbot_id": "support-chat", "input_data": {}}, RequestDefaults(2 * AN_HOUR_S, ("sns", "dynamodb"))
    )
    machine = strict.outputs.state_machine_arn.replace(":stateMachine:", ":execution:")
    accepted = ExecutionRecord.accepted(
        execution_id, request, then, owner=f"{machine}:{execution_id}-0", source="api", deliver_to=()
    )
    records = ExecutionsTable(strict.outputs.table_name, strict.dynamodb)
    records.accept(accepted, time.time())
    # The same after a first attempt to start the job; its state machine execution does not exist.
    begun = replace(
        accepted,
        execution_id=(begun_id := uuid4().hex),
        unfinished=begun_id[0],
        owner_execution_arn=f"{machine}:{begun_id}-0",
        start_attempts=1,
    )
    records.accept(begun, time.time())
    # Older than the age below which a sweep ignores every record.
    strict.dynamodb.update_item(
        TableName=strict.outputs.table_name,
        Key={"execution_id": {"S": running}},
        UpdateExpression="SET created_at = :created_at",
        ExpressionAttributeValues={":created_at": {"S": str(to_rfc3339(then))}},
    )

    answer = aws(strict, "lambda").invoke(
        FunctionName=output(strict, "ReconcileFunctionName"), Payload=json.dumps({"sweep": {}})
    )
    swept = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, swept
    assert (swept["failed"], swept["left"]) == (0, 0)
    assert swept["ended"] >= 1
    assert swept["discarded"] >= 1
    assert records.get(execution_id, time.time()) is None
    event = strict.wait_for_notification(begun_id)
    assert (event["data"]["status"], event["data"]["error"]["code"]) == ("ERROR", "never_started")
    assert strict.notification_bodies(execution_id) == []
    closed = records.get(begun_id, time.time())
    assert closed is not None
    assert (closed.unfinished, closed.notified_at is not None) == (None, True)
    assert strict.get(running).json()["status"] == "RUNNING"
    strict.delete(running)
