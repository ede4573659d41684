"""Write the samples in events/notifications: `make schemas`. Tests compare them with what this module returns."""

import hashlib
import json
import sys
from dataclasses import replace
from typing import Any, cast

from tests.fakes.clock import NOW
from tests.support import samples
from tests.support.builders import ID, REGION, SOURCE, running_record
from tests.support.outcomes import OUTCOMES, final_record
from waterhook.domain.webhook import Webhook
from waterhook.notifications import notification_events
from waterhook.notifications.delivery_targets import EventBridgeTarget
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.steps.webhook_test import TEST_TYPE
from waterhook.timestamps import to_rfc3339

LINK = (
    f"https://results.s3.{REGION}.amazonaws.com/executions/{ID}/final_output.json"
    "?X-Amz-Expires=3600&X-Amz-Signature=0123456789abcdef"
)
TOPIC = f"arn:aws:sns:{REGION}:123456789012:waterhook-NotificationTopic"
SUBSCRIPTION = f"{TOPIC}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55"


def written() -> dict[str, Any]:
    """Return the content of each sample by its name."""
    return {name: outcome(name) for name in OUTCOMES} | {
        "progress": progress(),
        "webhook-full": webhook("completed", "full"),
        "webhook-full-with-link": webhook("completed_with_a_large_output", "full"),
        "webhook-thin": webhook("completed", "thin"),
        "webhook-test": webhook_test(),
        "sns-lambda": from_sns("completed"),
        "sqs-lambda": from_sqs("completed"),
        "eventbridge": from_eventbridge("completed"),
    }


def to_text(event: Any) -> str:
    """Return the content of a file. Only the indentation differs from what is published."""
    return json.dumps(event, indent=2, ensure_ascii=False) + "\n"


def outcome(name: str) -> Any:
    return json.loads(outcome_text(name))


def outcome_text(name: str) -> str:
    return notification_events.outcome_event(final_record(name), SOURCE)


def progress() -> Any:
    record = running_record(metadata_json=final_record("completed").metadata_json, progress_sequence=3)
    change = {"event": "node_started", "progress": 40.0, "node_id": "llm"}
    return json.loads(notification_events.progress_event(record, SOURCE, change, NOW + 20))


def webhook(name: str, payload: str) -> Any:
    record = replace(final_record(name), webhook=Webhook("https://hooks.example.com/a", payload=payload))
    unused: Any = None
    requests = WebhookRequests(unused, lambda _ref: LINK, SOURCE, lambda: NOW)
    return json.loads(requests.outcome(record).body)


def webhook_test() -> Any:
    return {
        "specversion": "1.0",
        "id": "test/0c6f1a52b3d14e7f8a90c1d2e3f40516",
        "source": SOURCE,
        "type": TEST_TYPE,
        "time": to_rfc3339(NOW + 60),
        "datacontenttype": "application/json",
        "data": {"message": "This is a test of Waterhook. No execution belongs to it."},
    }


def from_sns(name: str) -> Any:
    """Return the event with which SNS calls a function."""
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": SUBSCRIPTION,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
                    "TopicArn": TOPIC,
                    "Subject": None,
                    "Message": outcome_text(name),
                    "Timestamp": to_rfc3339(NOW + 60.1),
                    "SignatureVersion": "2",
                    "Signature": "EXAMPLE",
                    "SigningCertUrl": f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService-EXAMPLE.pem",
                    "UnsubscribeUrl": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe"
                    f"&SubscriptionArn={SUBSCRIPTION}",
                    "MessageAttributes": {
                        attribute: {"Type": "String", "Value": value}
                        for attribute, value in attributes(name).items()
                    },
                },
            }
        ]
    }


def from_sqs(name: str) -> Any:
    """Return the event of a queue that is subscribed with raw message delivery."""
    body = outcome_text(name)
    return {
        "Records": [
            {
                "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1767225660150",
                    "SenderId": "AIDAEXAMPLE",
                    "ApproximateFirstReceiveTimestamp": "1767225660160",
                },
                "messageAttributes": {
                    attribute: {
                        "stringValue": value,
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": "String",
                    }
                    for attribute, value in attributes(name).items()
                },
                "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:waterhook-ResultsQueue",
                "awsRegion": REGION,
            }
        ]
    }


def from_eventbridge(name: str) -> Any:
    """Return the event with which a rule calls its target."""
    bus = Bus()
    EventBridgeTarget(lambda: cast("Any", bus), "results", SOURCE).publish_outcome(final_record(name))
    (entry,) = bus.entries
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "account": "123456789012",
        "time": f"{entry['Time']:%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": entry["Resources"],
        "detail": json.loads(entry["Detail"]),
    }


class Bus:
    """Client of an event bus that keeps the entries."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def put_events(self, *, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803 - the name of boto3
        self.entries += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "any"} for _ in Entries]}


def attributes(name: str) -> dict[str, str]:
    """Return the SNS attributes of an outcome."""
    found = notification_events.outcome_attributes(final_record(name))
    return {attribute: value["StringValue"] for attribute, value in found.items()}


if __name__ == "__main__":
    for name, event in written().items():
        (samples.FOLDER / f"{name}.json").write_text(to_text(event), encoding="utf-8")
    sys.stdout.write(f"{samples.FOLDER}\n")
