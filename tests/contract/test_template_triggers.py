"""What EventBridge starts, what it hands over, and where that goes which it can't deliver."""

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
# As Step Functions sends it: with the input and the output of the execution.
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


def handed_over(transformer: dict[str, Any], event: dict[str, Any]) -> Any:
    """What EventBridge makes of an event: a text gets its quotes from EventBridge, an object is put in as it is."""

    def found(path: str) -> Any:
        value: Any = event
        for key in path.removeprefix("$.").split("."):
            value = value[key]
        return value

    paths = transformer["InputPathsMap"]
    filled = re.sub(
        r"<([\w-]+)>", lambda name: json.dumps(found(paths[name[1]])), transformer["InputTemplate"]
    )
    return json.loads(filled)


def read(given: object) -> TriggerInput:
    return TriggerInput.read(
        given,
        execution_arn=OWNER,
        started_at="2026-01-01T00:00:00.000Z",
        defaults=RequestDefaults(timeout_s=60, deliver_to=("sns",)),
    )


# ---- The end of an execution -----------------------------------------------------------------------------------


def test_reconcile_gets_an_event_for_each_end_that_may_have_no_notification() -> None:
    pattern = rule("ReconcileFunctionExecutionEnded")["EventPattern"]
    assert pattern["source"] == ["aws.states"]
    assert pattern["detail-type"] == ["Step Functions Execution Status Change"]
    assert {*pattern["detail"]["status"], MISSING} == reconcile.OUTCOMES.keys()
    assert "EventBusName" not in rule(
        "ReconcileFunctionExecutionEnded"
    )  # the services' events are on the default one
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
def test_an_execution_that_failed_with_its_outcome_calls_no_function(
    end: dict[str, Any], *, is_passed_on: bool
) -> None:
    """Notify has published it. A thousand of them would empty the bucket of DescribeExecution."""
    pattern = rule("ReconcileFunctionExecutionEnded")["EventPattern"]["detail"] | {
        "stateMachineArn": ["machine"]
    }
    event: Any = {"detail": end | {"stateMachineArn": "machine"}}
    assert EventPattern.load(json.dumps({"detail": pattern})).matches_event(event) is is_passed_on


def test_reconcile_gets_no_event_of_another_state_machine() -> None:
    assert rule("ReconcileFunctionExecutionEnded")["EventPattern"]["detail"]["stateMachineArn"] == [
        {"Ref": "StateMachine"}
    ]


def test_a_status_event_passes_on_arn_status_and_id_and_none_of_the_customer_s_data() -> None:
    # Without a transformer, or with a path that is too short, the whole event would be handed over.
    passed = handed_over(target("ReconcileFunctionExecutionEnded")["InputTransformer"], ENDED)
    assert passed == {"arn": OWNER, "status": "ABORTED", "event_id": ENDED["id"]}
    assert not {"Input", "InputPath"} & target("ReconcileFunctionExecutionEnded").keys()


def test_a_call_of_reconcile_that_fails_is_tried_again_and_then_kept() -> None:
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


def test_a_sweep_is_made_every_quarter_of_an_hour_with_the_event_that_the_sample_shows() -> None:
    properties = rule("ReconcileFunctionSweep")
    assert properties["ScheduleExpression"] == "rate(15 minutes)"
    assert properties.get("State", "ENABLED") == "ENABLED"
    assert target("ReconcileFunctionSweep")["Arn"] == {"Fn::GetAtt": ["ReconcileFunction", "Arn"]}
    sample = (ROOT / "events" / "reconcile-sweep.json").read_text(encoding="utf-8")
    assert json.loads(target("ReconcileFunctionSweep")["Input"]) == json.loads(sample)


def test_a_sweep_is_over_before_the_next_one_begins_and_has_time_to_close_one_record() -> None:
    properties = deployed()["ReconcileFunction"]["Properties"]
    assert 2 * RESERVE_S < properties["Timeout"] < SWEEP_INTERVAL_S


# ---- A request by event ----------------------------------------------------------------------------------------


def test_a_request_comes_by_the_bus_that_was_named_and_by_none_where_none_was() -> None:
    assert rule("EventBusRule")["EventBusName"] == "orders"
    assert rule("EventBusRule")["EventPattern"] == {"detail-type": ["Waterflai Execution Requested"]}
    assert target("EventBusRule")["Arn"] == {"Ref": "StateMachine"}
    assert target("EventBusRule")["RoleArn"] == {"Fn::GetAtt": ["EventBusRole", "Arn"]}
    assert "EventBusRule" not in deployed(**TRIGGERS | {"EventBusName": ""})


def test_an_event_becomes_the_envelope_that_the_sample_shows() -> None:
    passed = handed_over(target("EventBusRule")["InputTransformer"], REQUESTED)
    assert passed == {"event_id": EVENT_ID, "request": REQUEST}
    sample = json.loads((ROOT / "events" / "eventbridge.json").read_text(encoding="utf-8"))
    assert passed.keys() == sample.keys()


def test_one_event_delivered_twice_is_one_execution() -> None:
    transformer = target("EventBusRule")["InputTransformer"]
    first, again, other = (
        read(handed_over(transformer, event)) for event in (REQUESTED, REQUESTED, REQUESTED | {"id": "other"})
    )
    assert first.problem is None
    assert first.source == "events"
    assert first.execution_id == again.execution_id != other.execution_id


# ---- A request on schedule -------------------------------------------------------------------------------------


def schedule(**parameters: str) -> dict[str, Any]:
    (only,) = of_type(deployed(**TRIGGERS | parameters), "AWS::Scheduler::Schedule").values()
    properties: dict[str, Any] = only["Properties"]
    return properties


def occasion(time: str) -> Any:
    """The input of one occasion: the scheduler fills in its own words as they are."""
    text = schedule()["Target"]["Input"]
    return json.loads(
        text.replace(
            "<aws.scheduler.schedule-arn>", "arn:aws:scheduler:us-east-1:123456789012:schedule/default/x"
        ).replace("<aws.scheduler.scheduled-time>", time)
    )


def test_a_schedule_starts_the_machine_at_its_time_in_its_zone() -> None:
    properties = schedule(ScheduleTimezone="Europe/Zurich")
    assert properties["ScheduleExpression"] == "rate(1 hour)"
    assert properties["ScheduleExpressionTimezone"] == "Europe/Zurich"
    assert properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert properties["Target"]["Arn"] == {"Ref": "StateMachine"}
    assert properties["Target"]["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}
    assert not of_type(deployed(**TRIGGERS | {"ScheduleExpression": ""}), "AWS::Scheduler::Schedule")


def test_a_schedule_hands_over_the_request_that_was_given() -> None:
    given = occasion("2026-01-01T08:00:00Z")
    assert given["request"] == json.loads(TRIGGERS["ScheduleRequest"])
    assert read(given).problem is None


def test_one_occasion_delivered_twice_is_one_execution_and_the_next_is_another() -> None:
    first, again, later = (
        read(occasion(time))
        for time in ("2026-01-01T08:00:00Z", "2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z")
    )
    assert first.source == "schedule"
    assert first.execution_id == again.execution_id != later.execution_id


def test_a_schedule_s_request_is_under_the_customer_s_key() -> None:
    assert schedule(KmsKeyArn=KMS_KEY_ARN)["KmsKeyArn"] == KMS_KEY_ARN
    assert "KmsKeyArn" not in schedule()


# ---- What can't be delivered -----------------------------------------------------------------------------------


def deliveries() -> dict[str, dict[str, Any]]:
    """Every target there is, by the resource that has it."""
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
def test_what_eventbridge_can_t_deliver_is_tried_again_and_then_kept(name: str) -> None:
    delivery = deliveries()[name]
    assert delivery["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}
    assert delivery["RetryPolicy"]["MaximumRetryAttempts"] == 185
    assert 3600 <= delivery["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 86400


def test_every_trigger_is_looked_at_here() -> None:
    assert deliveries().keys() == {
        "ReconcileFunctionExecutionEnded",
        "ReconcileFunctionSweep",
        "EventBusRule",
        "Schedule",
    }


def test_the_dead_letter_queue_is_always_there_and_keeps_what_it_has_for_two_weeks() -> None:
    queue = deployed()["DeadLetterQueue"]["Properties"]
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["SqsManagedSseEnabled"] is True
