"""The queue of webhooks, as the notifier uses it."""

from collections.abc import Mapping
from typing import Any


class RecordingQueue:
    """A queue of deliveries that stores the messages, and raises `fault` if it is set."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.fault: Exception | None = None

    def send(self, message: Mapping[str, Any], delay_s: float = 0.0) -> None:
        if self.fault is not None:
            raise self.fault
        assert delay_s == 0
        self.messages.append(message)
