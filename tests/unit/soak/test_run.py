"""`make soak` uses only faults of the simulator, and detects wrong outputs, wrong webhooks and leaked keys."""

import json
from dataclasses import replace
from typing import Any

import pytest

from local.local_aws.servers import SIMULATOR_API_KEY
from local.simulator.chatbots import CHATBOTS, job_script
from local.simulator.executions import FOREIGN_OUTPUT
from local.webhook_receiver import CLOSE, OK, ReceivedWebhook
from tests.soak.fault_cases import FAULT_CASES
from tests.soak.run import RECEIVER_FAULTS, SoakRequest, leaked_keys, wrong_outputs, wrong_webhooks


def test_the_simulator_has_each_fault_and_each_case_is_used() -> None:
    requests = SoakRequest.all(2_000, seed=1)
    assert {request.case.name for request in requests} == {case.name for case in FAULT_CASES}
    assert len({case.name for case in FAULT_CASES}) == len(FAULT_CASES)
    for request in requests:
        script = job_script(CHATBOTS["support-chat"], request.body["input_data"])
        assert len(script.faults) == len(request.case.faults)


@pytest.mark.parametrize(
    ("status", "output", "is_wrong"),
    [
        ("COMPLETED", CHATBOTS["support-chat"].output, False),
        ("COMPLETED", FOREIGN_OUTPUT, True),
        ("COMPLETED", None, True),
        ("UNCERTAIN", None, False),
        ("TIMED_OUT", FOREIGN_OUTPUT, True),
    ],
)
def test_the_output_of_another_execution_is_detected(status: str, output: Any, *, is_wrong: bool) -> None:
    (request,) = SoakRequest.all(1, seed=1)
    assert bool(wrong_outputs(request, status, [{"data": {"final_output": output}}])) == is_wrong


@pytest.mark.parametrize("text", ["a", f"it is {SIMULATOR_API_KEY}"])
def test_the_key_in_a_notification_or_a_record_is_detected(text: str) -> None:
    (request,) = SoakRequest.all(1, seed=1)
    expected = 0 if text == "a" else 2
    assert len(leaked_keys(request, [{"data": {"final_output": text}}], {"error": text})) == expected


def test_a_tenth_of_the_receivers_fails_with_each_fault() -> None:
    requests = SoakRequest.all(2_000, seed=1)
    faults = [request.receiver_fault for request in requests if request.receiver_fault is not None]
    assert 0.08 < len(faults) / len(requests) < 0.12
    assert all(fault in faults for fault in RECEIVER_FAULTS)


def _webhook(event: dict[str, Any], *, problem: str | None = None) -> ReceivedWebhook:
    headers = {"webhook-id": event["id"]}
    return ReceivedWebhook(0.0, "POST", "/", headers, json.dumps(event).encode(), problem, OK)


EVENT, ANOTHER = {"id": "e/1/COMPLETED", "data": {"n": 1}}, {"id": "e/1/COMPLETED", "data": {"n": 2}}


@pytest.mark.parametrize(
    ("webhooks", "problems"),
    [
        ([_webhook(EVENT)], 0),
        ([_webhook(EVENT), _webhook(EVENT)], 0),
        ([], 1),
        ([_webhook(EVENT, problem="No matching signature")], 1),
        ([_webhook(ANOTHER)], 1),
        ([_webhook(EVENT), _webhook(ANOTHER)], 2),
    ],
    ids=["one", "twice the same", "none", "not verified", "another event", "twice, not the same"],
)
def test_missing_wrong_and_differing_webhooks_are_detected(
    webhooks: list[ReceivedWebhook], problems: int
) -> None:
    request = replace(SoakRequest.all(1, seed=1)[0], receiver_fault=None)
    assert len(wrong_webhooks(request, [EVENT], webhooks)) == problems
    failing = replace(request, receiver_fault=CLOSE)
    assert len(wrong_webhooks(failing, [EVENT], webhooks)) == problems + (len(webhooks) == 1)
