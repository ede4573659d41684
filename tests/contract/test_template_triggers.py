"""EventBridge rules and the schedule: their targets, inputs, retries and dead letters."""

import json
import re
from typing import Any

import pytest
from moto.events.models import EventPattern

from tests.contract.template import EVERYTHING, KMS_KEY_ARN, ROOT, TRIGGERS, deployed, of_type
from waterhook.domain.request import RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.notifications.state_machine_output import DUPLICATE
from waterhook.steps import reconcile
from waterhook.steps.state_machine_executions import MISSING, RESERVE_S
from waterhook.steps.sweep import SWEEP_INTERVAL_S

OWNER = "arn:aws:states:us-east-1:123456789012:execution:machine:name"
SECRET = "what the customer typed"
EVENT_ID = "7bf73129-1428-4cd3-a780-95db273d1602"
REQUEST = {
    "chatbot_id": "support-chat",
    "input_data": {"query": 'a "quoted" text \\ with <arn>', "deep": [{}]},
}
# Step Functions sends the input and the output of the state machine execution too.
ENDED: dict[str, Any] = {
    "id": EVENT_ID,
    "source": "aws.states",
    "detail-type": "Step Functions Execution Status Change",
    "detail": {
        "executionArn": OWNER,
        "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:machine",
        "name": "name",
        "status": "ABORTED",
        "input": json.dumps({"input_data": SECRET}),
        "output": json.dumps({"final_output": SECRET}),
        "cause": SECRET,
    },
}
REQUESTED: dict[str, Any] = {
    "id": EVENT_ID,
    "source": "my.shop",
    "detail-type": "Waterflai Execution Requested",
    "detail": REQUEST,
}


def rule(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = deployed(**TRIGGERS)[name]["Properties"]
    return properties


def target(name: str) -> dict[str, Any]:
    (only,) = rule(name)["Targets"]
    assert isinstance(only, dict)
    return only


def transformed(transformer: dict[str, Any], event: dict[str, Any]) -> Any:
    """Return the event after EventBridge's input transformer, which quotes strings and inserts objects unchanged."""

    def value_at(path: str) -> Any:
        value: Any = event
        for key in path.removeprefix("$.").split("."):
            value = value[key]
        return value

    paths = transformer["InputPathsMap"]
    filled = re.sub(
        r"<([\w-]+)>", lambda name: json.dumps(value_at(paths[name[1]])), transformer["InputTemplate"]
    )
    return json.loads(filled)


def read(trigger_input: object) -> TriggerInput:
    return TriggerInput.read(
        trigger_input,
        execution_arn=OWNER,
        started_at="2026-01-01T00:00:00.000Z",
        defaults=RequestDefaults(timeout_s=60, deliver_to=("sns",)),
    )


# ---- The end of an execution -----------------------------------------------------------------------------------


def test_reconcile_gets_an_event_for_each_end_without_a_notification() -> None:
    pattern = rule("ReconcileFunctionExecutionEnded")["EventPattern"]
    assert pattern["source"] == ["aws.states"]
    assert pattern["detail-type"] == ["Step Functions Execution Status Change"]
    assert {*pattern["detail"]["status"], MISSING} == reconcile.OUTCOMES.keys()
    # AWS services send their events to the default bus.
    assert "EventBusName" not in rule("ReconcileFunctionExecutionEnded")
    assert target("ReconcileFunctionExecutionEnded")["Arn"] == {"Fn::GetAtt": ["ReconcileFunction", "Arn"]}


@pytest.mark.parametrize(
    ("end", "is_passed_on"),
    [
        ({"status": "FAILED", "error": "States.Runtime"}, True),
        ({"status": "FAILED", "error": None}, True),
        ({"status": "ABORTED"}, True),
        *(({"status": "FAILED", "error": status.error_name}, False) for status in Status if status.is_final),
        ({"status": "FAILED", "error": DUPLICATE}, False),
    ],
    ids=str,
)
def test_an_execution_that_failed_with_its_outcome_invokes_no_function(
    end: dict[str, Any], *, is_passed_on: bool
) -> None:
    """Notify has published its outcome. Many events would exhaust the quota of DescribeExecution."""
    pattern = rule("ReconcileFunctionExecutionEnded")["EventPattern"]["detail"] | {
        "stateMachineArn": ["machine"]
    }
    event: Any = {"detail": end | {"stateMachineArn": "machine"}}
    assert EventPattern.load(json.dumps({"detail": pattern})).matches_event(event) is is_passed_on


def test_reconcile_gets_no_event_of_another_state_machine() -> None:
    assert rule("ReconcileFunctionExecutionEnded")["EventPattern"]["detail"]["stateMachineArn"] == [
        {"Ref": "StateMachine"}
    ]


def test_the_input_of_reconcile_has_no_data_of_the_customer() -> None:
    # Without a transformer, or with too short a path, the function would get the whole event.
    passed = transformed(target("ReconcileFunctionExecutionEnded")["InputTransformer"], ENDED)
    assert passed == {"arn": OWNER, "status": "ABORTED", "event_id": ENDED["id"]}
    assert not {"Input", "InputPath"} & target("ReconcileFunctionExecutionEnded").keys()


def test_a_failed_invocation_of_reconcile_is_retried_and_becomes_a_dead_letter() -> None:
    (config,) = of_type(deployed(), "AWS::Lambda::EventInvokeConfig").values()
    properties = config["Properties"]
    assert properties["FunctionName"] == {"Ref": "ReconcileFunction"}
    assert properties["Qualifier"] == "$LATEST"
    assert properties["MaximumRetryAttempts"] == 2
    assert 3600 <= properties["MaximumEventAgeInSeconds"] <= 21600
    assert properties["DestinationConfig"]["OnFailure"] == {
        "Destination": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    }


# ---- The sweep -------------------------------------------------------------------------------------------------


def test_a_sweep_runs_every_15_minutes_with_the_event_of_the_sample() -> None:
    properties = rule("ReconcileFunctionSweep")
    assert properties["ScheduleExpression"] == "rate(15 minutes)"
    assert properties.get("State", "ENABLED") == "ENABLED"
    assert target("ReconcileFunctionSweep")["Arn"] == {"Fn::GetAtt": ["ReconcileFunction", "Arn"]}
    sample = (ROOT / "events" / "reconcile-sweep.json").read_text(encoding="utf-8")
    assert json.loads(target("ReconcileFunctionSweep")["Input"]) == json.loads(sample)


def test_a_sweep_ends_before_the_next_and_has_time_for_one_record() -> None:
    properties = deployed()["ReconcileFunction"]["Properties"]
    assert 2 * RESERVE_S < properties["Timeout"] < SWEEP_INTERVAL_S


# ---- A request by event ----------------------------------------------------------------------------------------


def test_requests_come_only_from_the_event_bus_of_the_parameter() -> None:
    assert rule("EventBusRule")["EventBusName"] == "orders"
    assert rule("EventBusRule")["EventPattern"] == {"detail-type": ["Waterflai Execution Requested"]}
    assert target("EventBusRule")["Arn"] == {"Ref": "StateMachine"}
    assert target("EventBusRule")["RoleArn"] == {"Fn::GetAtt": ["EventBusRole", "Arn"]}
    assert "EventBusRule" not in deployed(**TRIGGERS | {"EventBusName": ""})


def test_an_event_is_transformed_as_in_the_sample() -> None:
    passed = transformed(target("EventBusRule")["InputTransformer"], REQUESTED)
    assert passed == {"event_id": EVENT_ID, "request": REQUEST}
    sample = json.loads((ROOT / "events" / "eventbridge.json").read_text(encoding="utf-8"))
    assert passed.keys() == sample.keys()


def test_an_event_that_is_delivered_twice_is_one_execution() -> None:
    transformer = target("EventBusRule")["InputTransformer"]
    first, again, other = (
        read(transformed(transformer, event)) for event in (REQUESTED, REQUESTED, REQUESTED | {"id": "other"})
    )
    assert first.problem is None
    assert first.source == "events"
    assert first.execution_id == again.execution_id != other.execution_id


# ---- A request on schedule -------------------------------------------------------------------------------------


def schedule(**parameters: str) -> dict[str, Any]:
    (only,) = of_type(deployed(**TRIGGERS | parameters), "AWS::Scheduler::Schedule").values()
    properties: dict[str, Any] = only["Properties"]
    return properties


def input_at(time: str) -> Any:
    """Return the input at this scheduled time."""
    text = schedule()["Target"]["Input"]
    return json.loads(
        text.replace(
            "<aws.scheduler.schedule-arn>", "arn:aws:scheduler:us-east-1:123456789012:schedule/default/x"
        ).replace("<aws.scheduler.scheduled-time>", time)
    )


def test_a_schedule_starts_the_state_machine_in_its_time_zone() -> None:
    properties = schedule(ScheduleTimezone="Europe/Zurich")
    assert properties["ScheduleExpression"] == "rate(1 hour)"
    assert properties["ScheduleExpressionTimezone"] == "Europe/Zurich"
    assert properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert properties["Target"]["Arn"] == {"Ref": "StateMachine"}
    assert properties["Target"]["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}
    assert not of_type(deployed(**TRIGGERS | {"ScheduleExpression": ""}), "AWS::Scheduler::Schedule")


def test_the_input_of_a_schedule_has_the_request_of_the_parameter() -> None:
    scheduled = input_at("2026-01-01T08:00:00Z")
    assert scheduled["request"] == json.loads(TRIGGERS["ScheduleRequest"])
    assert read(scheduled).problem is None


def test_a_scheduled_time_that_is_delivered_twice_is_one_execution() -> None:
    first, again, later = (
        read(input_at(time))
        for time in ("2026-01-01T08:00:00Z", "2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z")
    )
    assert first.source == "schedule"
    assert first.execution_id == again.execution_id != later.execution_id


def test_the_request_of_a_schedule_is_encrypted_with_the_customer_key() -> None:
    assert schedule(KmsKeyArn=KMS_KEY_ARN)["KmsKeyArn"] == KMS_KEY_ARN
    assert "KmsKeyArn" not in schedule()


# ---- Dead letters ----------------------------------------------------------------------------------------------


def deliveries() -> dict[str, dict[str, Any]]:
    """Return each target by its rule or schedule."""
    resources = deployed(**EVERYTHING)
    found = {
        name: target
        for name, entry in of_type(resources, "AWS::Events::Rule").items()
        for target in entry["Properties"]["Targets"]
    }
    return found | {
        name: entry["Properties"]["Target"]
        for name, entry in of_type(resources, "AWS::Scheduler::Schedule").items()
    }


@pytest.mark.parametrize("name", deliveries())
def test_a_failed_delivery_is_retried_and_becomes_a_dead_letter(name: str) -> None:
    delivery = deliveries()[name]
    assert delivery["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}
    assert delivery["RetryPolicy"]["MaximumRetryAttempts"] == 185
    assert 3600 <= delivery["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 86400


def test_each_rule_and_schedule_is_tested() -> None:
    assert deliveries().keys() == {
        "ReconcileFunctionExecutionEnded",
        "ReconcileFunctionSweep",
        "DeliverFunctionSweep",
        "EventBusRule",
        "Schedule",
    }


def test_the_dead_letter_queue_always_exists_and_retains_messages_for_two_weeks() -> None:
    queue = deployed()["DeadLetterQueue"]["Properties"]
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["SqsManagedSseEnabled"] is True
