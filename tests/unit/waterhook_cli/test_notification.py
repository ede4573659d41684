"""Notifications as they arrive, and their filter."""

import json
from typing import Any

import pytest

from tests.support.builders import ID, SOURCE, final_record
from waterhook.domain.status import Status
from waterhook.domain.webhook import EVENTS
from waterhook.notifications.notification_events import (
    PROGRESS_TYPE,
    event_type,
    outcome_attributes,
    outcome_event,
)
from waterhook_cli.notification import Notification, NotificationFilter, full_type


def notification(**fields: Any) -> Notification:
    found = Notification.parse(outcome_event(final_record(**fields), SOURCE))
    assert found is not None
    return found


def test_a_notification_has_its_fields_and_its_text() -> None:
    found = notification()
    assert found.type == "waterhook.execution.completed"
    assert found.text_of("execution_id") == ID
    assert found.text_of("waterflai_execution_id_of_another_version") == ""
    assert found.json_line == found.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "hello",
        '{"id": "a", "type": "b"}',
        '{"id": 1, "type": "b", "data": {}}',
        '{"id": "a", "data": {}}',
        '{"id": "a", "type": "b", "data": []}',
        "[" * 100_000,
    ],
)
def test_another_message_is_not_a_notification(text: str) -> None:
    assert Notification.parse(text) is None


def test_a_line_has_the_same_value_as_the_text_and_controls_no_terminal() -> None:
    output = '{\n\t"answer": "a\\nb \u009b2J \u2028 \U000e0001 Größe \U0001f680",\r\n "n": 1.50\n}'
    found = notification(final_output_json=output)
    assert "\n" in found.text
    for line in (found.json_line, found.terminal_line):
        assert "\n" not in line
        assert "\r" not in line
        assert json.loads(line) == json.loads(found.text)
    assert "1.50" in found.json_line
    assert found.terminal_line.isprintable()
    assert "Größe \U0001f680" in found.terminal_line


def test_customer_data_is_not_in_the_representation() -> None:
    assert "Größe" not in repr(notification(final_output_json='"Größe"'))


def test_a_filter_without_values_selects_everything() -> None:
    assert NotificationFilter().policy == {}
    assert NotificationFilter().combinations == 1
    assert NotificationFilter().matches(notification())


@pytest.mark.parametrize(
    ("selection", "is_match"),
    [
        (NotificationFilter(statuses=["FAILED", "COMPLETED"]), True),
        (NotificationFilter(statuses=["FAILED"]), False),
        (NotificationFilter(types=[event_type(Status.COMPLETED)], chatbot_ids=["support-chat"]), True),
        (NotificationFilter(types=[PROGRESS_TYPE]), False),
        (NotificationFilter(chatbot_ids=["other"]), False),
    ],
)
def test_the_filter_selects_as_sns_does(selection: NotificationFilter, *, is_match: bool) -> None:
    record = final_record()
    attributes = {name: value["StringValue"] for name, value in outcome_attributes(record).items()}
    found = Notification.parse(outcome_event(record, SOURCE))
    assert found is not None
    assert selection.matches(found) is is_match
    by_sns = all(attributes.get(name) in values for name, values in selection.policy.items())
    assert by_sns is is_match


def test_a_filter_by_chatbot_does_not_select_requests_without_one() -> None:
    assert not NotificationFilter(chatbot_ids=["support-chat"]).matches(notification(chatbot_id=None))


def test_repeated_values_count_once() -> None:
    selection = NotificationFilter(["a", "b", "a"], ["c"], ["d", "e", "f"])
    assert selection.policy == {"type": ["a", "b"], "status": ["c"], "chatbot_id": ["d", "e", "f"]}
    assert selection.combinations == 6


def test_a_type_is_its_last_word_or_all_of_it() -> None:
    for event in EVENTS:
        assert full_type(event) == full_type(f"waterhook.execution.{event}") == f"waterhook.execution.{event}"
    assert full_type("Timed_Out") == event_type(Status.TIMED_OUT)
    assert full_type("running") is None
