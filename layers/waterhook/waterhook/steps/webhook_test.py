"""Sends a test event to a URL on request of an operator, with the same checks and signatures as a webhook."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from waterhook.domain.webhook import url_problem
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.json_text import to_json
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.steps.webhook_attempts import Sender
from waterhook.timestamps import to_rfc3339

TEST_TYPE = "waterhook.webhook.test"


class WebhookTester:
    """Sends test events. It changes no delivery and no breaker."""

    def __init__(
        self,
        rules: WebhookRules,
        requests: WebhookRequests,
        sender: Sender,
        source: str,
        clock: Callable[[], float],
    ) -> None:
        """`source` is the CloudEvents source of the event."""
        self._rules = rules
        self._requests = requests
        self._sender = sender
        self._source = source
        self._clock = clock

    def test(self, request: object) -> dict[str, Any]:
        """Send one test event to the `url` of `request`, and return what happened.

        The result has `delivered`, `host`, `webhook_id`, `code` (of the answer, or None), `error` and `latency_ms`; or
        `delivered` and the `reason` why nothing was sent. Raises SigningKeysUnavailableError.
        """
        url = request.get("url") if isinstance(request, Mapping) else None
        if (problem := url_problem(url, self._rules)) is not None or not isinstance(url, str):
            return {"delivered": False, "reason": f"url: {problem}"}
        host, webhook_id = WebhookUrl.parse(url).host, f"test/{uuid.uuid4().hex}"
        event = {
            "specversion": "1.0",
            "id": webhook_id,
            "source": self._source,
            "type": TEST_TYPE,
            "time": to_rfc3339(self._clock()),
            "datacontenttype": "application/json",
            "data": {"message": "This is a test of Waterhook. No execution belongs to it."},
        }
        unsigned = UnsignedRequest(webhook_id, to_json(event).encode())
        attempt = self._sender.send(url, unsigned.body, self._requests.headers(unsigned, host))
        return {
            "delivered": attempt.is_delivered,
            "host": host,
            "webhook_id": webhook_id,
            "code": attempt.code,
            "error": attempt.error,
            "latency_ms": round(attempt.latency_ms),
        }
