"""The queue of webhooks. Each message starts one attempt of a delivery."""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import batched
from typing import TYPE_CHECKING, Any

from waterhook.errors import DependencyUnavailableError
from waterhook.json_text import to_json

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

# Limits of SQS.
MAX_DELAY_S = 900
_BATCH = 10
_MAX_GROUP_CHARS = 128


class WebhookQueue:
    """The queue of webhooks. Errors of boto3 are raised unchanged.

    The `host` of a message is its MessageGroupId. With many messages for one host, SQS then delivers those for other
    hosts first (fair queues).
    """

    def __init__(self, url: str, client: Callable[[], "SQSClient"]) -> None:
        """`client` returns the client. It is called with the first message."""
        self._url = url
        self._client = client

    def send(self, message: Mapping[str, Any], delay_s: float = 0.0) -> None:
        """Send a message. SQS delivers it after `delay_s` (rounded up, at most MAX_DELAY_S)."""
        self._client().send_message(
            QueueUrl=self._url,
            MessageBody=to_json(message),
            DelaySeconds=_delay(delay_s),
            MessageGroupId=_group(message),
        )

    def send_batch(self, messages: Iterable[tuple[Mapping[str, Any], float]]) -> int:
        """Send small messages, each with its `delay_s`, and return their number.

        A message that SQS refuses is sent once more. If SQS refuses it again, DependencyUnavailableError is raised
        after the other messages were sent. SQS limits the size of ten messages together, so large ones need `send`.
        """
        sent, refused = 0, list[str]()
        for batch in batched(messages, _BATCH, strict=False):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {
                    "Id": str(index),
                    "MessageBody": to_json(message),
                    "DelaySeconds": _delay(delay_s),
                    "MessageGroupId": _group(message),
                }
                for index, (message, delay_s) in enumerate(batch)
            ]
            failed = self._refused(entries)
            if failed:
                failed = self._refused([entry for entry in entries if entry["Id"] in failed])
            sent += len(entries) - len(failed)
            refused += failed.values()
        if refused:
            codes = ", ".join(sorted(set(refused)))
            message = (
                f"queue of webhooks: SQS refused {len(refused)} of {sent + len(refused)} messages: {codes}"
            )
            raise DependencyUnavailableError(message)
        return sent

    def _refused(self, entries: "list[SendMessageBatchRequestEntryTypeDef]") -> dict[str, str]:
        """Send up to ten entries and return the error code of each one that failed, by its id."""
        answer = self._client().send_message_batch(QueueUrl=self._url, Entries=entries)
        return {failure["Id"]: failure["Code"] for failure in answer.get("Failed", [])}


def delivery_message(execution_id: str, event_id: str, host: str | None) -> dict[str, Any]:
    """Return the message for the next attempt to send an event to the webhook of an execution."""
    return {"execution_id": execution_id, "event_id": event_id, "host": host}


def _group(message: Mapping[str, Any]) -> str:
    """Return the host of a message within the limit of SQS. Messages of an earlier version have none."""
    return str(message.get("host") or "unknown")[:_MAX_GROUP_CHARS]


def _delay(delay_s: float) -> int:
    return min(max(math.ceil(delay_s), 0), MAX_DELAY_S)
