"""The check of the event bus for results."""

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import FailingClient, client_error
from tests.support.builders import REGION
from tests.unit.waterhook_cli.checks.helpers import OK, PROBLEM, WARNING, only
from waterhook_cli.checks.result_bus import check_result_bus, selects_results

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

QUEUE = f"arn:aws:sqs:{REGION}:123456789012:results"
RESULTS = {"source": ["waterhook"]}


@pytest.fixture
def events(aws: None) -> "EventBridgeClient":
    return boto3.client("events", region_name=REGION)


@pytest.fixture
def bus(events: "EventBridgeClient") -> str:
    name = uuid4().hex
    events.create_event_bus(Name=name)
    return name


def add_rule(events: "EventBridgeClient", bus: str, pattern: object, **changes: Any) -> None:
    target: Any = {"Id": "1", **changes}
    events.put_rule(Name="rule", EventBusName=bus, EventPattern=json.dumps(pattern))
    if changes:
        events.put_targets(Rule="rule", EventBusName=bus, Targets=[target])


def test_a_bus_that_does_not_exist_is_a_problem(events: "EventBridgeClient") -> None:
    finding = only(check_result_bus(events, "deleted"))
    assert finding.level == PROBLEM
    assert "the event bus deleted of ResultEventBusName does not exist" in finding.message
    assert finding.hint.endswith("aws events create-event-bus --name deleted")


def test_another_error_is_not_taken_for_a_missing_bus(events: "EventBridgeClient", bus: str) -> None:
    denied: Any = FailingClient(events, {"describe_event_bus": client_error("AccessDeniedException")})
    with pytest.raises(ClientError, match="AccessDenied"):
        list(check_result_bus(denied, bus))


def test_a_bus_without_a_rule_for_results_is_a_warning(events: "EventBridgeClient", bus: str) -> None:
    assert only(check_result_bus(events, bus)).level == WARNING
    add_rule(events, bus, {"detail-type": ["Waterflai Execution Requested"]}, Arn=QUEUE)
    finding = only(check_result_bus(events, bus))
    assert (finding.level, "no enabled rule" in finding.message) == (WARNING, True)


def test_a_rule_that_is_disabled_receives_nothing(events: "EventBridgeClient", bus: str) -> None:
    add_rule(events, bus, RESULTS, Arn=QUEUE)
    events.disable_rule(Name="rule", EventBusName=bus)
    assert "no enabled rule" in only(check_result_bus(events, bus)).message


def test_a_rule_without_targets_is_a_warning(events: "EventBridgeClient", bus: str) -> None:
    add_rule(events, bus, RESULTS)
    assert "has no target" in only(check_result_bus(events, bus)).message


def test_a_target_without_a_dead_letter_queue_is_a_warning(events: "EventBridgeClient", bus: str) -> None:
    add_rule(events, bus, RESULTS, Arn=QUEUE)
    finding = only(check_result_bus(events, bus))
    assert (finding.level, QUEUE in finding.message) == (WARNING, True)
    add_rule(events, bus, RESULTS, Arn=QUEUE, DeadLetterConfig={"Arn": f"{QUEUE}-dead"})
    assert only(check_result_bus(events, bus)).level == OK


@pytest.mark.parametrize(
    ("pattern", "selects"),
    [
        ({"source": ["waterhook"]}, True),
        ({"detail-type": ["waterhook.execution.failed"]}, True),
        ({"source": ["orders", "waterhook"], "detail-type": [{"prefix": "waterhook."}]}, True),
        ({"source": [{"anything-but": "aws"}]}, True),
        ({"account": ["123456789012"]}, True),
        ({"source": ["orders"]}, False),
        ({"source": ["waterhook"], "detail-type": ["Waterflai Execution Requested"]}, False),
        (["odd"], False),
    ],
    ids=str,
)
def test_a_pattern_selects_results_by_source_and_type(pattern: object, selects: object) -> None:
    assert selects_results(json.dumps(pattern)) is selects


def test_a_rule_with_a_schedule_selects_nothing() -> None:
    assert not selects_results("")
