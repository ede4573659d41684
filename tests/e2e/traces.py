"""All texts that a stack has stored or logged, by place."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client

type Trace = tuple[str, str]
"""A place, named as in docs/security.md, and a text that is stored there."""


def everything(stack: StackClient, home: Path) -> Iterator[Trace]:
    """Yield the texts of the stack's logs, data and definitions, and of the tools that deployed it.

    The secret is left out, as the key belongs there.
    """
    yield from function_logs(stack)
    for log in sorted((home / "log").iterdir()):
        yield f"file {log.name}", log.read_text(encoding="utf-8", errors="replace")
    yield from _records(stack)
    yield from _histories(stack)
    yield from _queues(stack)
    yield from _objects(stack)
    yield from _definitions(stack)
    yield from _answers(stack)


def function_logs(stack: StackClient) -> Iterator[Trace]:
    """Yield each line of each log group."""
    logs = aws_client(stack, "logs")
    for group in _pages(logs, "describe_log_groups", "logGroups"):
        for event in _pages(logs, "filter_log_events", "events", logGroupName=group["logGroupName"]):
            yield f"log {group['logGroupName'].rpartition('/')[2]}", event["message"]


def _records(stack: StackClient) -> Iterator[Trace]:
    for table in stack.dynamodb.list_tables()["TableNames"]:
        place = "delivery" if table == stack.outputs.webhook_table_name else "record"
        for item in _pages(stack.dynamodb, "scan", "Items", TableName=table, ConsistentRead=True):
            yield place, _text(item)


def _histories(stack: StackClient) -> Iterator[Trace]:
    engine = stack.stepfunctions
    for machine in _pages(engine, "list_state_machines", "stateMachines"):
        arn = machine["stateMachineArn"]
        yield "definition of the state machine", _text(engine.describe_state_machine(stateMachineArn=arn))
        for run in _pages(engine, "list_executions", "executions", stateMachineArn=arn):
            yield "history", _text(engine.describe_execution(executionArn=run["executionArn"]))
            yield from (("history", _text(event)) for event in stack.history(run["executionArn"]))


def _queues(stack: StackClient) -> Iterator[Trace]:
    for url in stack.sqs.list_queues()["QueueUrls"]:
        # Reading this way hides no message from other tests.
        answer = stack.http.get(
            f"{stack.outputs.endpoint_url}/_ministack/sqs/messages", params={"QueueUrl": url}
        )
        yield _name_of_queue(stack, url), _text(answer.raise_for_status().json()["messages"])


def _name_of_queue(stack: StackClient, url: str) -> str:
    if url == stack.outputs.webhook_queue_url:
        return "queued webhook"
    return "dead letter" if "DeadLetter" in url else "notification"


def _objects(stack: StackClient) -> Iterator[Trace]:
    s3 = aws_client(stack, "s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for entry in _pages(s3, "list_objects_v2", "Contents", Bucket=bucket["Name"]):
            stored = s3.get_object(Bucket=bucket["Name"], Key=entry["Key"])
            yield "object", entry["Key"] + stored["Body"].read().decode("utf-8", "replace")


def _definitions(stack: StackClient) -> Iterator[Trace]:
    cloudformation, functions = aws_client(stack, "cloudformation"), aws_client(stack, "lambda")
    for deployed in _pages(cloudformation, "describe_stacks", "Stacks"):
        yield "stack", _text(deployed)
        template = cloudformation.get_template(StackName=deployed["StackName"])
        yield "template", _text(template["TemplateBody"])
        events = _pages(
            cloudformation, "describe_stack_events", "StackEvents", StackName=deployed["StackName"]
        )
        yield from (("stack", _text(event)) for event in events)
    for function in _pages(functions, "list_functions", "Functions"):
        yield "environment", _text(function)


def _answers(stack: StackClient) -> Iterator[Trace]:
    cursor = None
    while True:
        page = stack.list_executions(limit=100, next=cursor).json()
        for entry in page["executions"]:
            answer = stack.get(entry["execution_id"])
            yield "answer of the API", _text([entry, answer.text, dict(answer.headers)])
        cursor = page["next"]
        if cursor is None:
            return


def _pages(client: Any, operation: str, name: str, **arguments: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(name, [])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
