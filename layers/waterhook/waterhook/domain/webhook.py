"""The webhook of a request: where its events are sent, which events, and whether they carry the output."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from waterhook.domain.status import Status
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.errors import InvalidWebhookUrlError
from waterhook.json_text import json_type

# The last words of the CloudEvents types.
TERMINAL_EVENTS = tuple(status.lower() for status in Status if status.is_final)
PROGRESS_EVENT = "progress"
EVENTS = (*TERMINAL_EVENTS, PROGRESS_EVENT)
FULL, THIN = "full", "thin"
_FIELDS = ("url", "events", "payload")
_OFF = "webhooks are off in this deployment; its parameter WebhookAllowedHosts lists the allowed receivers"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook. Its URL may contain a token, so it is not part of the representation."""

    url: str = field(repr=False)
    events: tuple[str, ...] = TERMINAL_EVENTS
    payload: str = FULL
    is_default: bool = False
    """Whether it is the webhook of the deployment. Its URL belongs to the operator, so callers don't see it."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the webhook of a valid request, or the one that a record stores."""
        events = TERMINAL_EVENTS if values.get("events") is None else tuple(dict.fromkeys(values["events"]))
        return cls(values["url"], events, values.get("payload") or FULL, values.get("is_default", False))

    def to_mapping(self) -> dict[str, Any]:
        """Return the fields as a record stores them."""
        stored = {"url": self.url, "events": list(self.events), "payload": self.payload}
        return stored | {"is_default": True} if self.is_default else stored

    @property
    def host(self) -> str:
        """The host of the URL, which may be logged. `invalid` if this version does not accept the stored URL."""
        try:
            return WebhookUrl.parse(self.url).host
        except InvalidWebhookUrlError:
            return "invalid"

    @property
    def wants_progress(self) -> bool:
        """Whether progress events are sent."""
        return PROGRESS_EVENT in self.events

    def wants(self, outcome: Status) -> bool:
        """Return whether the event of this outcome is sent."""
        return outcome.lower() in self.events


def webhook_problem(value: object, rules: WebhookRules | None) -> str | None:
    """Return what is wrong with the `webhook` of a request, without its URL, or None.

    `value` is neither null nor false, which are always valid. `rules` are None if webhooks are off.
    """
    if not isinstance(value, dict):
        return f"webhook: expected object or false, got {json_type(value)}"
    if not rules:
        return f"webhook: {_OFF}"
    return _problem_of_fields(value, rules)


def _problem_of_fields(value: Mapping[str, Any], rules: WebhookRules) -> str | None:
    if unknown := [str(name) for name in value if name not in _FIELDS]:
        return f"webhook: unknown field {unknown[0]}; known are {', '.join(_FIELDS)}"
    if (problem := url_problem(value.get("url"), rules)) is not None:
        return f"webhook.url: {problem}"
    events, payload = value.get("events"), value.get("payload")
    are_events = isinstance(events, list) and events and all(event in EVENTS for event in events)
    if events is not None and not are_events:
        return f"webhook.events: expected a list of one or more of {', '.join(EVENTS)}"
    if payload is not None and payload not in (FULL, THIN):
        return f"webhook.payload: expected {FULL} or {THIN}"
    return None


def url_problem(url: object, rules: WebhookRules) -> str | None:
    """Return why no webhook may be sent to this URL, without the URL, or None."""
    if not isinstance(url, str):
        return "missing, expected string" if url is None else f"expected string, got {json_type(url)}"
    try:
        return rules.host_problem(WebhookUrl.parse(url))
    except InvalidWebhookUrlError as error:
        return str(error)
