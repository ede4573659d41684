"""A notification as it arrives from the topic, and the filter that selects notifications."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Self

from waterhook.domain.webhook import EVENTS
from waterhook.notifications.notification_events import TYPE_PREFIX
from waterhook_cli.api_client import parse_json

# Limit of SNS for the product of the numbers of values.
MAX_COMBINATIONS = 150


@dataclass(frozen=True, slots=True)
class Notification:
    """A CloudEvent of an execution. It contains customer data, which is not part of the representation."""

    text: str = field(repr=False)
    """The JSON text as SNS delivered it."""
    event: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the notification; None if the text is not an event of an execution."""
        try:
            event = parse_json(text)
        except (ValueError, RecursionError):
            return None
        is_event = isinstance(event, dict) and isinstance(event.get("data"), dict)
        if not is_event or not all(isinstance(event.get(name), str) for name in ("id", "type")):
            return None
        return cls(text, event)

    @property
    def id(self) -> str:
        """Id of the event. It is the same each time the event is published."""
        return str(self.event["id"])

    @property
    def type(self) -> str:
        """CloudEvents type."""
        return str(self.event["type"])

    @property
    def data(self) -> Mapping[str, Any]:
        """The `data` of the event."""
        data: Mapping[str, Any] = self.event["data"]
        return data

    def text_of(self, name: str) -> str:
        """Return a field of `data` as text; an empty text if it is missing or null."""
        value = self.data.get(name)
        return "" if value is None else str(value)

    @property
    def json_line(self) -> str:
        """The text on one line. Line breaks in JSON are only between its tokens, so no value changes."""
        return self.text.translate({ord("\n"): " ", ord("\r"): " "})

    @property
    def terminal_line(self) -> str:
        """The text on one line, with JSON escapes for characters that control a terminal."""
        line = self.json_line.replace("\t", " ")
        return line if line.isprintable() else "".join(map(_escape, line))


def _escape(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Selects notifications by the attributes `type`, `status` and `chatbot_id`. No values: all of them."""

    types: Sequence[str] = ()
    statuses: Sequence[str] = ()
    chatbot_ids: Sequence[str] = ()

    @property
    def policy(self) -> dict[str, list[str]]:
        """The filter policy of an SNS subscription; empty if everything is selected."""
        values = {"type": self.types, "status": self.statuses, "chatbot_id": self.chatbot_ids}
        return {name: list(dict.fromkeys(selected)) for name, selected in values.items() if selected}

    @property
    def combinations(self) -> int:
        """The number of combinations of values, of which SNS accepts MAX_COMBINATIONS."""
        return prod(map(len, self.policy.values()))

    def matches(self, notification: Notification) -> bool:
        """Return whether a notification is selected. SNS applies a new policy after up to 15 minutes."""
        data = notification.data
        actual = {
            "type": notification.type,
            "status": data.get("status"),
            "chatbot_id": data.get("chatbot_id"),
        }
        return all(actual[name] in values for name, values in self.policy.items())


def full_type(word: str) -> str | None:
    """Return the CloudEvents type for its last word or the type itself, such as `completed`; None if it is unknown."""
    event = word.lower().removeprefix(TYPE_PREFIX)
    return f"{TYPE_PREFIX}{event}" if event in EVENTS else None
