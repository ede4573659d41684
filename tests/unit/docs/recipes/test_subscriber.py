"""The subscriber recipe with Powertools: works once on each outcome, and fails only the messages that it must."""

import importlib.util
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.contract.template import ROOT, source
from tests.contract.test_recipes import GOLDEN
from tests.fakes.lambda_context import Context

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

FOLDER = ROOT / "docs" / "recipes" / "subscriber"
RESOURCES = source(FOLDER / "template.yaml")["Resources"]
BUCKET = "results"  # the bucket of the sample notifications
PRIVATE = "what the customer got"
DAY_S = 86_400


class Work:
    """Records the work of the function. It raises `fault` instead, for the ids in `failing`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []
        self.failing: set[str] = set()
        self.fault: BaseException = RuntimeError(PRIVATE)

    def __call__(self, notification: Any, output: Any) -> None:
        if notification.id in self.failing:
            raise self.fault
        self.done.append((notification.id, output))

    @property
    def ids(self) -> list[str]:
        return [id_ for id_, _ in self.done]


class TimedContext(Context):
    """The context of an invocation with `remaining_ms` left."""

    def __init__(self, remaining_ms: int) -> None:
        super().__init__()
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        return self._remaining_ms


@pytest.fixture(scope="module")
def table_name(dynamodb: "DynamoDBClient") -> str:
    properties = RESOURCES["IdempotencyTable"]["Properties"]
    names = ("BillingMode", "AttributeDefinitions", "KeySchema")
    name = f"idempotency-{uuid4().hex}"
    dynamodb.create_table(TableName=name, **{key: properties[key] for key in names})
    return name


@pytest.fixture(scope="module")
def app(table_name: str, s3: "S3Client") -> Iterator[ModuleType]:
    """Load the function as a new container does, with the variables of the template."""
    s3.create_bucket(Bucket=BUCKET)
    values = {"IDEMPOTENCY_TABLE": table_name, "IDEMPOTENCY_DAYS": "45", "BUCKET_NAME": BUCKET}
    assert values.keys() == RESOURCES["Function"]["Properties"]["Environment"]["Variables"].keys()
    spec = importlib.util.spec_from_file_location("subscriber_app", FOLDER / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        # Pydantic searches the types of a model in its module.
        patch.setitem(sys.modules, "subscriber_app", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def work(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    monkeypatch.setattr(app, "work", work)
    return work


@pytest.fixture
def log(app: ModuleType) -> Iterator[io.StringIO]:
    text, handler = io.StringIO(), app.logger.registered_handler
    before = handler.setStream(text)
    yield text
    handler.setStream(before)


def event(name: str = "completed", **changes: Any) -> dict[str, Any]:
    """Return a sample notification with an id of its own."""
    (path,) = (path for path in GOLDEN if path.stem == name)
    sample: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return sample | {"id": f"{uuid4().hex}/1767225600000/{sample['data']['status']}"} | changes


def invoke(app: ModuleType, *bodies: Any, remaining_ms: int = 60_000) -> list[int]:
    """Invoke the function with a batch of SQS messages. Return the positions of those that stay in the queue."""
    records = [
        {
            "messageId": str(position),
            "receiptHandle": "handle",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:subscriber",
            "awsRegion": "us-east-1",
        }
        for position, body in enumerate(bodies)
    ]
    result = app.handler({"Records": records}, TimedContext(remaining_ms))
    assert result.keys() == {"batchItemFailures"}
    return [int(failure["itemIdentifier"]) for failure in result["batchItemFailures"]]


# ---- What it works on -----------------------------------------------------------------------------------------


def test_each_outcome_is_worked_on_with_its_output(app: ModuleType, work: Work, s3: "S3Client") -> None:
    events = [event(path.stem) for path in GOLDEN]
    outcomes = [one for one in events if one["type"] != "waterhook.execution.progress"]
    for one in events:
        if "dataref" in one:
            key = one["dataref"].removeprefix(f"s3://{BUCKET}/")
            s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps({"large": "x" * 40_000}).encode())
    assert invoke(app, *events) == []
    assert work.ids == [one["id"] for one in outcomes]
    for (_, output), one in zip(work.done, outcomes, strict=True):
        assert output == ({"large": "x" * 40_000} if "dataref" in one else one["data"].get("final_output"))


def test_progress_and_unknown_types_are_ignored(app: ModuleType, work: Work) -> None:
    progress = event(type="waterhook.execution.progress", data={"execution_id": "1", "status": "RUNNING"})
    unknown = {"id": "1", "type": "waterhook.billing.closed", "data": ["of another kind"]}
    assert invoke(app, progress, unknown) == []
    assert work.done == []


def test_unknown_fields_statuses_and_error_codes_are_accepted(app: ModuleType, work: Work) -> None:
    later = event("failed", type="waterhook.execution.paused", new={"a": 1}, dataref=None)
    later["data"] |= {
        "status": "PAUSED",
        "new": [1],
        "error": {"code": "new", "message": "", "retryable": True},
    }
    del later["data"]["timing"], later["data"]["usage"], later["data"]["metadata"]
    assert invoke(app, later) == []
    assert work.ids == [later["id"]]


# ---- Once -----------------------------------------------------------------------------------------------------


def test_a_repeated_notification_is_worked_on_once(app: ModuleType, work: Work) -> None:
    one = event()
    assert invoke(app, one, one) == []
    # Redelivered later, with another order of fields.
    assert invoke(app, dict(reversed(one.items()))) == []
    assert work.ids == [one["id"]]


def test_a_failed_message_stays_in_the_queue_and_the_others_do_not(app: ModuleType, work: Work) -> None:
    events = [event() for _ in range(3)]
    work.failing = {events[1]["id"]}
    assert invoke(app, *events) == [1]
    assert invoke(app, events[1]) == [0]
    work.failing = set()
    assert invoke(app, events[1]) == []
    assert sorted(work.ids) == sorted(one["id"] for one in events)


def test_after_a_crash_the_work_is_repeated_when_the_timeout_has_passed(app: ModuleType, work: Work) -> None:
    one = event()
    work.failing, work.fault = {one["id"]}, SystemExit()
    with pytest.raises(SystemExit):  # as if the process ended between the record and the work
        invoke(app, one, remaining_ms=300)
    work.failing = set()
    assert invoke(app, one) == [0]  # the first attempt may still run
    time.sleep(0.3)
    assert invoke(app, one) == []
    assert work.ids == [one["id"]]


def test_without_the_table_nothing_is_worked_on_and_each_message_stays(
    app: ModuleType, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.table, "table_name", "deleted")
    assert invoke(app, event(), event()) == [0, 1]
    assert work.done == []


def test_the_table_has_neither_ids_nor_outputs_and_its_items_expire(
    app: ModuleType, work: Work, dynamodb: "DynamoDBClient", table_name: str
) -> None:
    one = event()
    one["data"]["final_output"] = PRIVATE
    assert invoke(app, one) == []
    ttl = RESOURCES["IdempotencyTable"]["Properties"]["TimeToLiveSpecification"]["AttributeName"]
    items = dynamodb.scan(TableName=table_name)["Items"]
    assert items
    for item in items:
        assert re.fullmatch(r"waterhook#[0-9a-f]{32}", item["id"]["S"])
        assert abs(int(item[ttl]["N"]) - time.time() - 45 * DAY_S) < 60
        assert item.get("data", {"S": "null"}) == {"S": "null"}


# ---- Bad messages ---------------------------------------------------------------------------------------------


def test_a_message_that_is_no_notification_fails_alone(app: ModuleType, work: Work) -> None:
    kind, one = "waterhook.execution.failed", event()
    bad: list[Any] = [
        "not json",
        "[" * 200_000,
        [],
        None,
        {},
        {"id": "1"},
        {"id": "1", "type": kind},
        {"id": "1", "type": kind, "data": None},
        {"id": "1", "type": kind, "data": {"status": PRIVATE}},
        {"id": None, "type": kind, "data": one["data"]},
    ]
    assert invoke(app, *bad, one) == [*range(len(bad))]
    assert work.ids == [one["id"]]


def test_an_output_elsewhere_or_missing_fails(app: ModuleType, work: Work, s3: "S3Client") -> None:
    s3.create_bucket(Bucket="another")
    for bucket, key in (("another", "executions/1/final_output.json"), (BUCKET, "other/1")):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    addresses = [
        "s3://another/executions/1/final_output.json",
        f"s3://{BUCKET}/other/1",
        f"https://{BUCKET}/executions/1",
        f"s3://{BUCKET}/executions/missing",
    ]
    assert invoke(app, *(event(dataref=address) for address in addresses)) == [0, 1, 2, 3]
    assert work.done == []


def test_an_output_that_is_too_long_is_not_read_whole(
    app: ModuleType, work: Work, s3: "S3Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=BUCKET, Key="executions/long", Body=b'"12345678"')
    address = f"s3://{BUCKET}/executions/long"
    monkeypatch.setattr(app, "MAX_OUTPUT_BYTES", 9)
    assert invoke(app, event(dataref=address)) == [0]
    monkeypatch.setattr(app, "MAX_OUTPUT_BYTES", 10)
    assert invoke(app, event(dataref=address)) == []
    assert [output for _, output in work.done] == ["12345678"]


def test_the_log_has_ids_and_no_part_of_a_notification(app: ModuleType, log: io.StringIO) -> None:
    good, bad = event(), event()
    good["data"]["final_output"] = {"answer": PRIVATE}
    bad["data"] = {"execution_id": [PRIVATE], "status": "COMPLETED", "final_output": PRIVATE}
    unreadable = json.dumps(event(metadata=PRIVATE))[:-9] + PRIVATE
    assert invoke(app, good, bad, unreadable) == [1, 2]
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["message"], line.get("event_id")) for line in lines] == [
        ("processed", good["id"]),
        ("not a notification", bad["id"]),
        ("failed", None),
    ]
    assert lines[0]["status"] == "COMPLETED"
    assert lines[1]["problems"] == ["data.execution_id: string_type"]
    assert PRIVATE not in log.getvalue()


def test_an_error_of_the_work_is_logged_without_its_text(
    app: ModuleType, work: Work, log: io.StringIO
) -> None:
    one = event()
    work.failing = {one["id"]}
    assert invoke(app, one) == [0]
    (line,) = (json.loads(text) for text in log.getvalue().splitlines())
    assert (line["level"], line["event_id"], line["error"]) == ("ERROR", one["id"], "RuntimeError")
    assert PRIVATE not in log.getvalue()
