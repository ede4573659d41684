"""Large requests and outputs arrive complete, in S3, or are refused. No payload comes near a limit of AWS."""

import json
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client
from tests.e2e.executions import owner_arn, payloads, put_event, size_bytes
from waterhook.domain.request import MAX_METADATA_BYTES, MAX_REQUEST_BYTES
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.json_text import to_json_bytes

pytestmark = pytest.mark.e2e

KIB = 1024
PAYLOAD_LIMIT_BYTES = 256 * KIB  # of Step Functions and of SNS
LOOP_STATE_BYTES = 8 * KIB
DUCK = "\N{DUCK}"


def output_upstream(stack: StackClient, job_id: str) -> bytes:
    """Return the output as the upstream returns it, byte for byte."""
    url = f"{stack.outputs.waterflai_base_url}/v1/executions/{job_id}"
    answer = stack.http.get(url, headers={"X-API-Key": SIMULATOR_API_KEY})
    text = answer.raise_for_status().text
    start = text.index('"final_output":') + len('"final_output":')
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end].encode()


def test_an_output_of_ten_mebibytes_is_complete_in_s3_and_behind_its_link(stack: StackClient) -> None:
    simulate = {
        "output_kib": 10 * KIB,
        "seconds": 0.2,
        "output": {"answer": f"{DUCK} 12345678901234567890.10"},
    }
    execution_id = stack.submit("big-output", {"simulate": simulate})
    event = stack.wait_for_notification(execution_id)
    original = output_upstream(stack, event["data"]["waterflai_execution_id"])
    assert len(original) >= 10 * KIB * KIB
    dataref = urlsplit(event["dataref"])
    stored = aws_client(stack, "s3").get_object(Bucket=dataref.netloc, Key=dataref.path[1:])["Body"].read()
    document = stack.get(execution_id).json()
    linked = stack.http.get(document["final_output_url"]).raise_for_status().content
    assert [sha256(copy).hexdigest() for copy in (stored, linked)] == [sha256(original).hexdigest()] * 2
    assert event["data"]["final_output"] is document["final_output"] is None
    print(f"\n{len(original)} bytes, sha256 {sha256(original).hexdigest()}")


def largest_request(marker: str, extra_bytes: int = 0) -> dict[str, Any]:
    """Return a request of the largest allowed size, with four-byte characters, or with so many bytes more."""
    request = {"chatbot_id": "instant", "input_data": {"marker": marker, "text": DUCK * 1000}}
    filler = "x" * (MAX_REQUEST_BYTES + extra_bytes - size_bytes(json.dumps(request)))
    request["input_data"] = {"marker": marker, "text": DUCK * 1000 + filler}
    return request


def test_the_largest_request_runs_from_every_trigger_and_no_payload_passes_the_limit(
    stack: StackClient, marker: str
) -> None:
    request = largest_request(marker)
    by_api = stack.submit("instant", request["input_data"])
    by_event = derive_execution_id("events", put_event(stack, "Waterflai Execution Requested", request))
    by_state_machine = stack.start_execution(request)
    for execution_id in (by_api, by_event):
        assert stack.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
    assert stack.wait_for_end(by_state_machine)["status"] == "SUCCEEDED"

    arns = {
        "API": owner_arn(stack, by_api),
        "event": owner_arn(stack, by_event),
        "state machine": by_state_machine,
    }
    for trigger, arn in arns.items():
        history = stack.history(arn)
        largest_bytes = max(size_bytes(payload) for event in history for payload in payloads(event))
        print(f"\n{trigger}: request {MAX_REQUEST_BYTES} bytes, largest payload {largest_bytes} bytes")
        assert MAX_REQUEST_BYTES <= largest_bytes < PAYLOAD_LIMIT_BYTES
        entered = [details for event in history if (details := event.get("stateEnteredEventDetails"))]
        states = [size_bytes(state["input"]) for state in entered if state["name"] == "Follow"]
        assert 0 < max(states) < LOOP_STATE_BYTES


def test_a_request_one_byte_too_large_is_refused_by_every_trigger(stack: StackClient, marker: str) -> None:
    body = '{"input_data":{"text":""}}'
    answer = stack.post("instant", body.replace('""', '"' + "x" * (MAX_REQUEST_BYTES + 1 - len(body)) + '"'))
    assert answer.status_code == 413
    request = largest_request(marker, 1)
    assert f"{MAX_REQUEST_BYTES + 1} bytes" in answer.json()["detail"]
    by_event = derive_execution_id("events", put_event(stack, "Waterflai Execution Requested", request))
    by_state_machine = stack.wait_for_end(stack.start_execution(request))
    for message in (
        json.loads(by_state_machine["cause"])["message"],
        stack.wait_for_notification(by_event)["data"]["error"]["message"],
    ):
        assert f"{MAX_REQUEST_BYTES + 1} bytes, at most {MAX_REQUEST_BYTES} are allowed" in message


def test_the_largest_notification_is_far_below_the_limit_of_sns(stack: StackClient, marker: str) -> None:
    # Each part has its largest size: an inline output of four-byte characters and escaped quotes, and metadata.
    output = {"ducks": DUCK * 2000, "quotes": '"' * 12_000, "rest": "x" * 700}
    output_bytes = size_bytes(json.dumps(output))
    assert MAX_INLINE_BYTES - 100 < output_bytes <= MAX_INLINE_BYTES
    metadata = {"marker": marker, "note": DUCK * 1010}
    assert MAX_METADATA_BYTES - 20 < len(to_json_bytes(metadata)) <= MAX_METADATA_BYTES
    execution_id = stack.submit("instant", {"simulate": {"output": output}}, metadata=metadata)
    event = stack.wait_for_notification(execution_id)
    assert event["data"]["final_output"] == output
    assert event["data"]["metadata"] == metadata
    subject = f'"subject":"{execution_id}"'
    [message] = [entry for entry in stack.messages() if subject in entry["Body"]]
    attributes = [
        name + value["DataType"] + value["StringValue"]
        for name, value in message["MessageAttributes"].items()
    ]
    assert len(attributes) == 3
    total_bytes = len(message["Body"].encode()) + sum(len(text.encode()) for text in attributes)
    print(f"\n{total_bytes} bytes of message and attributes, {PAYLOAD_LIMIT_BYTES} are allowed")
    assert output_bytes + MAX_METADATA_BYTES - 20 < total_bytes < PAYLOAD_LIMIT_BYTES / 4
