"""An event bus that stores its entries, and fails on request."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.builders import SOURCE
from waterhook.notifications.delivery_targets import EventBridgeTarget

BUS = "results"


class EventBus:
    """The client of EventBridge. `fault` is raised by each call, or is the response of each call if it is a dict."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.calls = 0
        self.fault: Exception | Mapping[str, Any] | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def put_events(self, *, Entries: list[dict[str, Any]]) -> Mapping[str, Any]:  # noqa: N803 - as boto3 has it
        self.calls += 1
        self.meanwhile()
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault is not None:
            return self.fault
        self.entries += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}

    def details(self) -> list[str]:
        """Return the CloudEvents on the bus."""
        return [entry["Detail"] for entry in self.entries]

    def data(self) -> list[dict[str, Any]]:
        """Return the data of the CloudEvents on the bus."""
        return [json.loads(detail)["data"] for detail in self.details()]

    def target(self) -> EventBridgeTarget:
        client: Any = self
        return EventBridgeTarget(lambda: client, BUS, SOURCE)


def refused(code: object) -> dict[str, Any]:
    """Return the response of EventBridge if it does not accept the only entry."""
    return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "why: {...}"}]}
