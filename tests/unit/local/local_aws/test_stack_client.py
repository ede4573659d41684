"""The stack client reads notifications."""

import json

import pytest

from local.local_aws.stack_client import execution_id_of, notification


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "in SNS's envelope"])
def test_a_notification_is_read_with_and_without_the_envelope_of_sns(raw: bool) -> None:
    event = {"id": "e/1767225600000/COMPLETED", "data": {"execution_id": "e"}}
    body = json.dumps(event if raw else {"Type": "Notification", "Message": json.dumps(event)})
    assert notification(body) == event
    assert execution_id_of(event) == "e"


def test_another_message_has_no_execution_id() -> None:
    assert execution_id_of({"data": "text"}) is None
    assert execution_id_of({}) is None
