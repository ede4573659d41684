"""What is large travels whole, by reference or not at all, and never near a limit of what carries it."""

import json
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws
from tests.e2e.test_guarantees import size_bytes, texts
from tests.e2e.test_triggers import put_event
from waterhook.domain.request import MAX_METADATA_BYTES, MAX_REQUEST_BYTES
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.domain.trigger_input import derive_execution_id
from waterhook.json_text import to_json_bytes

pytestmark = pytest.mark.e2e

KIB = 1024
PAYLOAD_BYTES = 256 * KIB  # of Step Functions and of SNS
DUCK = "\N{DUCK}"


def output_upstream(stack: StackClient, upstream_id: str) -> bytes:
    """The output as the upstream itself tells it, character by character."""
    url = f"{stack.outputs.waterflai_base_url}/v1/executions/{upstream_id}"
    answer = stack.http.get(url, headers={"X-API-Key": SIMULATOR_API_KEY})
    text = answer.raise_for_status().text
    start = text.index('"final_output":') + len('"final_output":')
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end].encode()


def test_ten_mebibytes_arrive_whole_by_reference_and_by_link(stack: StackClient) -> None:
    simulate = {
        "output_kib": 10 * KIB,
        "seconds": 0.2,
        "output": {"answer": f"{DUCK} 12345678901234567890.10"},
    }
    execution_id = stack.submit("big-output", {"simulate": simulate})
    event = stack.wait_for_notification(execution_id)
    made = output_upstream(stack, event["data"]["waterflai_execution_id"])
    assert len(made) >= 10 * KIB * KIB
    place = urlsplit(event["dataref"])
    stored = aws(stack, "s3").get_object(Bucket=place.netloc, Key=place.path[1:])["Body"].read()
    document = stack.get(execution_id).json()
    linked = stack.http.get(document["final_output_url"]).raise_for_status().content
    assert [sha256(copy).hexdigest() for copy in (stored, linked)] == [sha256(made).hexdigest()] * 2
    assert event["data"]["final_output"] is document["final_output"] is None
    print(f"\n{len(made)} bytes, sha256 {sha256(made).hexdigest()}")


def largest(marker: str, more_bytes: int = 0) -> dict[str, Any]:
    """A request of exactly the size that is allowed, ducks included, or so many bytes more."""
    request = {"chatbot_id": "instant", "input_data": {"marker": marker, "text": DUCK * 1000}}
    filler = "x" * (MAX_REQUEST_BYTES + more_bytes - size_bytes(json.dumps(request)))
    request["input_data"] = {"marker": marker, "text": DUCK * 1000 + filler}
    return request


def test_the_largest_request_runs_from_every_door_and_no_payload_passes_the_limit(
    stack: StackClient, marker: str
) -> None:
    request = largest(marker)
    by_api = stack.submit("instant", request["input_data"])
    by_event = derive_execution_id("events", put_event(stack, "Waterflai Execution Requested", request))
    by_hand = stack.start_execution(request)
    for execution_id in (by_api, by_event):
        assert stack.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
    assert stack.wait_for_end(by_hand)["status"] == "SUCCEEDED"

    owner = stack.item(by_event)
    assert owner is not None
    arns = {
        "API": stack.execution_arn(by_api) or "",
        "event": owner["owner_execution_arn"],
        "state machine": by_hand,
    }
    print()
    for door, arn in arns.items():
        sizes = [size_bytes(text) for event in stack.history(arn) for text in texts(event)]
        print(
            f"{door}: {MAX_REQUEST_BYTES} bytes of request, largest payload {max(sizes)} of {PAYLOAD_BYTES}"
        )
        assert MAX_REQUEST_BYTES <= max(sizes) < PAYLOAD_BYTES


def test_a_byte_more_is_refused_at_every_door(stack: StackClient, marker: str) -> None:
    body = '{"input_data":{"text":""}}'
    answer = stack.post("instant", body.replace('""', '"' + "x" * (MAX_REQUEST_BYTES + 1 - len(body)) + '"'))
    assert answer.status_code == 413
    request = largest(marker, 1)
    assert f"{MAX_REQUEST_BYTES + 1} bytes" in answer.json()["detail"]
    by_event = derive_execution_id("events", put_event(stack, "Waterflai Execution Requested", request))
    by_hand = stack.wait_for_end(stack.start_execution(request))
    for said in (
        json.loads(by_hand["cause"])["message"],
        stack.wait_for_notification(by_event)["data"]["error"]["message"],
    ):
        assert f"{MAX_REQUEST_BYTES + 1} bytes, at most {MAX_REQUEST_BYTES} are allowed" in said


def test_the_largest_notification_is_far_from_what_sns_takes(stack: StackClient, marker: str) -> None:
    # As large as it may be in each of its parts: an output that just travels inline, of ducks and of quotes
    # that are escaped, and metadata.
    output = {"ducks": DUCK * 2000, "quotes": '"' * 12_000, "rest": "x" * 700}
    made = size_bytes(json.dumps(output))
    assert MAX_INLINE_BYTES - 100 < made <= MAX_INLINE_BYTES
    metadata = {"marker": marker, "note": DUCK * 1010}
    assert MAX_METADATA_BYTES - 20 < len(to_json_bytes(metadata)) <= MAX_METADATA_BYTES
    execution_id = stack.submit("instant", {"simulate": {"output": output}}, metadata=metadata)
    event = stack.wait_for_notification(execution_id)
    assert event["data"]["final_output"] == output
    assert event["data"]["metadata"] == metadata
    [message] = [m for m in stack.messages() if m["Body"].count(f'"subject":"{execution_id}"')]
    attributes = [
        name + value["DataType"] + value["StringValue"]
        for name, value in message["MessageAttributes"].items()
    ]
    assert len(attributes) == 3
    size = len(message["Body"].encode()) + sum(len(text.encode()) for text in attributes)
    print(f"\n{size} bytes of message and attributes, {PAYLOAD_BYTES} are allowed")
    assert made + MAX_METADATA_BYTES - 20 < size < PAYLOAD_BYTES / 4
