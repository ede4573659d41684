"""Redelivery, erasure and the sweep on the deployed stack."""

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client, stack_output
from tests.e2e.executions import finish_job
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
        aws_client(stack, "lambda"),
        table=stack.outputs.table_name,
        notify_function=stack_output(stack, "NotifyFunctionName"),
    )
    s3, bucket = aws_client(stack, "s3"), stack_output(stack, "BucketName")
    eraser = Eraser(stack.dynamodb, s3, table=stack.outputs.table_name, bucket=bucket)

    execution_id = stack.submit(
        "big-output", {"simulate": {"seconds": 60, "queue_seconds": 0.0}}, metadata={"order": marker}
    )
    with pytest.raises(CommandError, match="cancel it first"):
        eraser.erase(execution_id)
    finish_job(stack, execution_id)
    stack.wait_for_notification(execution_id)
    stack.wait_for_status(execution_id, "COMPLETED")
    (matching,) = redeliverer.find(ids=[execution_id], status="COMPLETED")
    assert redeliverer.redeliver(matching).redelivered
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
    late = redeliverer.redeliver(execution_id)
    assert not late.redelivered
    assert "erased" in (late.reason or "")
    assert len(stack.notification_bodies(execution_id)) == 2


def test_a_sweep_finalizes_stalled_records_deletes_unstarted_ones_and_leaves_running_ones(
    strict: StackClient,
) -> None:
    """With enforced permissions, to test the role of the reconcile function."""
    running = strict.submit("endless")
    strict.wait_for_status(running, "RUNNING")
    # A record whose state machine execution was never started.
    then, execution_id = time.time() - AN_HOUR_S, uuid4().hex
    defaults = RequestDefaults(2 * AN_HOUR_S, ("sns", "dynamodb"))
    request = Request.from_dict({"chatbot_id": "support-chat", "input_data": {}}, defaults)
    machine = strict.outputs.state_machine_arn.replace(":stateMachine:", ":execution:")
    accepted = ExecutionRecord.accepted(
        execution_id, request, then, owner=f"{machine}:{execution_id}-0", source="api", defaults=defaults
    )
    records = ExecutionsTable(strict.outputs.table_name, strict.dynamodb)
    records.accept(accepted, time.time())
    # The same with an attempt to start the job.
    stalled = replace(
        accepted,
        execution_id=(stalled_id := uuid4().hex),
        unfinished=stalled_id[0],
        owner_execution_arn=f"{machine}:{stalled_id}-0",
        start_attempts=1,
    )
    records.accept(stalled, time.time())
    # A sweep ignores younger records.
    strict.dynamodb.update_item(
        TableName=strict.outputs.table_name,
        Key={"execution_id": {"S": running}},
        UpdateExpression="SET created_at = :created_at",
        ExpressionAttributeValues={":created_at": {"S": str(to_rfc3339(then))}},
    )

    answer = aws_client(strict, "lambda").invoke(
        FunctionName=stack_output(strict, "ReconcileFunctionName"), Payload=json.dumps({"sweep": {}})
    )
    swept = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, swept
    assert (swept["failed"], swept["left"]) == (0, 0)
    assert swept["ended"] >= 1
    assert swept["discarded"] >= 1
    assert records.get(execution_id, time.time()) is None
    event = strict.wait_for_notification(stalled_id)
    assert (event["data"]["status"], event["data"]["error"]["code"]) == ("ERROR", "never_started")
    assert strict.notification_bodies(execution_id) == []
    closed = records.get(stalled_id, time.time())
    assert closed is not None
    assert (closed.unfinished, closed.notified_at is not None) == (None, True)
    assert strict.get(running).json()["status"] == "RUNNING"
    strict.delete(running)
