"""What is done when something went wrong, on the deployed stack: published again, erased, found by the sweep."""

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from local.runner.client import StackClient
from tests.e2e.account import aws, output
from tests.e2e.test_doors import finish
from waterhook.domain.request import Request, RequestDefaults
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.timestamps import to_rfc3339
from waterhook_cli.erase import CannotErase, Eraser
from waterhook_cli.redeliver import Redelivery

pytestmark = pytest.mark.e2e

AN_HOUR_S = 3600


def test_an_outcome_is_published_again_to_the_byte_and_what_is_erased_is_gone(
    stack: StackClient, marker: str
) -> None:
    redelivery = Redelivery(
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
    with pytest.raises(CannotErase, match="cancel it first"):
        eraser.erase(execution_id)
    finish(stack, execution_id)
    stack.wait_for_notification(execution_id)
    stack.wait_for_status(execution_id, "COMPLETED")
    (found,) = redelivery.find(ids=[execution_id], status="COMPLETED")
    assert redelivery.send(found).redelivered
    first, again = stack.bodies(execution_id)
    assert again == first
    assert json.loads(again)["dataref"].startswith(f"s3://{bucket}/executions/{execution_id}/")

    def objects() -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"executions/{execution_id}/")
        return [entry["Key"] for entry in listed.get("Contents", [])]

    (key,) = objects()
    erased = eraser.erase(execution_id)
    assert (erased.record, erased.notified, erased.objects) == (True, True, (key,))
    assert (stack.get(execution_id).status_code, stack.item(execution_id), objects()) == (404, None, [])
    refused = redelivery.send(execution_id)
    assert not refused.redelivered
    assert "erased" in (refused.reason or "")
    assert len(stack.bodies(execution_id)) == 2


def test_a_sweep_closes_what_has_lost_its_execution_deletes_what_was_never_started_and_leaves_what_runs(
    strict: StackClient,
) -> None:
    """With permissions enforced: the role of reconcile is enough for it."""
    running = strict.submit("endless")
    strict.wait_for_status(running, "RUNNING")
    # As the API writes it; and then the API dies.
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
    # The same after a first attempt of its start, whose state machine is gone since.
    begun = replace(
        accepted,
        execution_id=(begun_id := uuid4().hex),
        unfinished=begun_id[0],
        owner_execution_arn=f"{machine}:{begun_id}-0",
        start_attempts=1,
    )
    records.accept(begun, time.time())
    # It runs for longer than a sweep leaves alone whatever it is.
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
    assert strict.bodies(execution_id) == []
    closed = records.get(begun_id, time.time())
    assert closed is not None
    assert (closed.unfinished, closed.notified_at is not None) == (None, True)
    assert strict.get(running).json()["status"] == "RUNNING"
    strict.delete(running)
