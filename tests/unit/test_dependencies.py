"""The clients of a function: none is created for a target that no record of the deployment uses."""

import pytest

from tests.fakes.aws import Table, Topic
from tests.fakes.placeholders import TELEMETRY
from tests.support.builders import environment, final_attributes, running_record
from waterhook.dependencies import Dependencies

TO_BUS = ("sns", "dynamodb", "eventbridge")


@pytest.mark.parametrize(
    ("bus", "deliver_to", "is_created"),
    [
        ("", ("sns", "dynamodb"), False),
        ("", TO_BUS, False),
        ("default", ("sns", "dynamodb"), False),
        ("default", TO_BUS, True),
    ],
)
def test_the_client_of_eventbridge_is_created_with_the_first_event(
    table: Table,
    topic: Topic,
    monkeypatch: pytest.MonkeyPatch,
    bus: str,
    deliver_to: tuple[str, ...],
    *,
    is_created: bool,
) -> None:
    env = environment(
        WATERHOOK_TABLE=table.name, WATERHOOK_TOPIC_ARN=topic.arn, WATERHOOK_RESULT_EVENT_BUS=bus
    )
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    record = table.put(running_record(deliver_to=deliver_to, **final_attributes()))
    dependencies = Dependencies(TELEMETRY)
    notifier = dependencies.notifier
    assert "_events" not in vars(dependencies)
    notifier.conclude(record, {})
    assert ("_events" in vars(dependencies)) is is_created
    assert len(topic.messages()) == 1
