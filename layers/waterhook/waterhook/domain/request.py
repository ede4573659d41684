"""The request of an execution. The same checks apply to every trigger."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from waterhook.errors import InvalidRequestError, RequestTooLargeError
from waterhook.json_text import TOO_DEEP, is_nested_too_deeply, json_type, to_json, to_json_bytes
from waterhook.text import MAX_ID_CHARS, clip

if TYPE_CHECKING:
    from waterhook.domain.webhook import Webhook
    from waterhook.domain.webhook_url import WebhookRules

# Step Functions carries 256 KiB per payload. The difference is for the fields that Waterhook adds.
MAX_REQUEST_BYTES = 240 * 1024
# Limit for the request as JSON text at the API. Step Functions may write its numbers longer: 1e5 becomes 100000.0.
MAX_WRITTEN_BYTES = 252 * 1024
MAX_METADATA_BYTES = 4 * 1024
# The state machine's TimeoutSeconds is two days longer, so the deadline of the loop always passes first.
MAX_TIMEOUT_S = 30 * 24 * 3600
DELIVERY_TARGETS = ("sns", "dynamodb", "eventbridge")
# Those that receive progress, in addition to a webhook.
_PROGRESS_TARGETS = {"sns", "eventbridge"}
_FIELDS = {
    "chatbot_id",
    "input_data",
    "idempotency_key",
    "timeout_seconds",
    "metadata",
    "deliver_to",
    "progress_events",
    "webhook",
}
# Step Functions adds AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID to the input of a nested execution.
_FOREIGN_PREFIX = "AWS_"
# What the id of a chatbot is, for messages.
CHATBOT_ID = f'1 to {MAX_ID_CHARS} printable characters without spaces, not "." or ".."'
_COUNTED = "counted as JSON in UTF-8 without spaces"
_MAX_SHOWN = 10**15
_UNFIT_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """Values of the deployment for fields that a request leaves out."""

    timeout_s: int
    deliver_to: tuple[str, ...]
    allowed_chatbots: frozenset[str] = frozenset()
    """The only chatbots that a request may name. Empty: any chatbot."""
    webhook_rules: "WebhookRules | None" = None
    """None: webhooks are off."""
    webhook: "Webhook | None" = None
    """The webhook of a request without one, and of an invalid request."""
    has_result_bus: bool = False
    """Whether `deliver_to` may contain eventbridge."""


@dataclass(frozen=True, slots=True)
class Request:
    """A valid request. `timeout_seconds` counts from acceptance."""

    chatbot_id: str
    input_data: Mapping[str, Any]
    timeout_seconds: int
    deliver_to: tuple[str, ...]
    idempotency_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress_events: bool = False
    webhook: "Webhook | None" = None

    @classmethod
    def from_dict(
        cls, raw: object, defaults: RequestDefaults, *, limit_bytes: int | None = MAX_REQUEST_BYTES
    ) -> Self:
        """Return the request. If `limit_bytes` is None, the API already has checked sizes and targets of progress.

        These are not checked again, so that a change of `DefaultDeliverTo` ends no execution that waits for its start.

        Raises InvalidRequestError naming every wrong field, or RequestTooLargeError.
        """
        if not isinstance(raw, Mapping):
            message = f"request: expected object, got {json_type(raw)}"
            raise InvalidRequestError(message)
        if is_nested_too_deeply(raw):
            raise InvalidRequestError(f"request: {TOO_DEEP}")
        problems = [
            f"{name}: unknown field; known are {', '.join(sorted(_FIELDS))}"
            for name in raw
            if name not in _FIELDS and not str(name).startswith(_FOREIGN_PREFIX)
        ]
        problems += [problem for check in _CHECKS if (problem := check(raw))]
        if (problem := _webhook_problem(raw.get("webhook"), defaults)) is not None:
            problems.append(problem)
        checks = _DEPLOYMENT_CHECKS if limit_bytes is None else (*_DEPLOYMENT_CHECKS, _progress_has_target)
        problems = problems or [problem for check in checks if (problem := check(raw, defaults))]
        if problems:
            raise InvalidRequestError("; ".join(clip(problem, 300) for problem in problems[:10]))
        size_bytes = _size_bytes(raw)
        if limit_bytes is not None:
            if size_bytes > limit_bytes:
                message = f"request: {size_bytes} bytes, at most {limit_bytes} are allowed, {_COUNTED}"
                raise RequestTooLargeError(message)
            _require_small_metadata(raw)
        return cls(
            chatbot_id=raw["chatbot_id"],
            input_data=raw["input_data"],
            timeout_seconds=int(_get_or_default(raw, "timeout_seconds", defaults.timeout_s)),
            deliver_to=tuple(dict.fromkeys(_get_or_default(raw, "deliver_to", defaults.deliver_to))),
            idempotency_key=raw.get("idempotency_key"),
            metadata=_get_or_default(raw, "metadata", {}),
            progress_events=raw.get("progress_events") or False,
            webhook=_webhook(raw.get("webhook"), defaults),
        )

    @property
    def sha256(self) -> str:
        """Hash of chatbot and input. It distinguishes a repeated request from another request with the same key."""
        return hashlib.sha256(
            to_json({"chatbot_id": self.chatbot_id, "input_data": self.input_data}, sort_keys=True).encode()
        ).hexdigest()


def _get_or_default(raw: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a field, or the default if the field is missing or null."""
    return default if raw.get(name) is None else raw[name]


def _webhook_problem(value: Any, defaults: RequestDefaults) -> str | None:
    if value is None or value is False:
        return None
    from waterhook.domain.webhook import webhook_problem

    return webhook_problem(value, defaults.webhook_rules)


def _webhook(value: Any, defaults: RequestDefaults) -> "Webhook | None":
    """Return the webhook of a valid request: its own, none if it is `false`, else the one of the deployment."""
    if value is None:
        return defaults.webhook
    if value is False:
        return None
    from waterhook.domain.webhook import Webhook

    return Webhook.from_mapping(value)


def _unexpected(raw: Mapping[str, Any], name: str, expected: str) -> str:
    if name not in raw:
        return f"{name}: missing, expected {expected}"
    return f"{name}: expected {expected}, got {json_type(raw[name])}"


def _size_bytes(raw: Mapping[str, Any]) -> int:
    try:
        return len(to_json_bytes(raw))
    except UnicodeEncodeError:
        message = "request: contains half of a surrogate pair, which is not valid text; send whole characters"
        raise InvalidRequestError(message) from None
    except ValueError:
        # Python parses 1e400 as infinity, which can't be written as JSON.
        message = (
            "request: contains a number that JSON can't carry (NaN, or beyond a double); send it as a string"
        )
        raise InvalidRequestError(message) from None


def _require_small_metadata(raw: Mapping[str, Any]) -> None:
    size_bytes = len(to_json_bytes(_get_or_default(raw, "metadata", {})))
    if size_bytes > MAX_METADATA_BYTES:
        message = f"metadata: {size_bytes} bytes, at most {MAX_METADATA_BYTES} are allowed, {_COUNTED}"
        raise InvalidRequestError(message)


def is_chatbot_id(value: str) -> bool:
    """Return whether a text can be the id of a chatbot, as CHATBOT_ID describes it."""
    # HTTP clients and servers resolve the path segments "." and "..", percent-encoded or not.
    is_segment = value not in {".", ".."} and " " not in value and value.isprintable()
    return is_segment and 1 <= len(value) <= MAX_ID_CHARS


def _chatbot_id(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("chatbot_id")
    if not isinstance(value, str):
        return _unexpected(raw, "chatbot_id", "string")
    return None if is_chatbot_id(value) else f"chatbot_id: expected {CHATBOT_ID}"


def _input_data(raw: Mapping[str, Any]) -> str | None:
    if isinstance(raw.get("input_data"), dict):
        return None
    return _unexpected(raw, "input_data", "object")


def _idempotency_key(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("idempotency_key")
    if value is None:
        return None
    if not isinstance(value, str):
        return _unexpected(raw, "idempotency_key", "string")
    if not 1 <= len(value) <= MAX_ID_CHARS or _UNFIT_IN_KEY.search(value):
        return f"idempotency_key: expected 1 to {MAX_ID_CHARS} characters without control characters"
    return None


def _timeout_seconds(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("timeout_seconds")
    if value is None:
        return None
    expected = f"whole number of seconds from 1 to {MAX_TIMEOUT_S}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _unexpected(raw, "timeout_seconds", expected)
    # A service on the way may have changed 60 to 60.0.
    if 1 <= value <= MAX_TIMEOUT_S and value == value // 1:
        return None
    # Python refuses to format an integer of thousands of digits.
    got = "a number out of range" if abs(value) > _MAX_SHOWN else value
    return f"timeout_seconds: expected {expected}, got {got}"


def _metadata(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("metadata")
    return None if value is None or isinstance(value, dict) else _unexpected(raw, "metadata", "object")


def _deliver_to(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("deliver_to")
    if value is None:
        return None
    if not isinstance(value, list):
        return _unexpected(raw, "deliver_to", "list")
    if not value or any(entry not in DELIVERY_TARGETS for entry in value):
        return f"deliver_to: expected a list of one or more of {', '.join(DELIVERY_TARGETS)}"
    return None


def _progress_events(raw: Mapping[str, Any]) -> str | None:
    value = raw.get("progress_events")
    fits = value is None or isinstance(value, bool)
    return None if fits else _unexpected(raw, "progress_events", "boolean")


def _chatbot_is_allowed(raw: Mapping[str, Any], defaults: RequestDefaults) -> str | None:
    allowed = defaults.allowed_chatbots
    if not allowed or raw["chatbot_id"] in allowed:
        return None
    return f"chatbot_id: {raw['chatbot_id']!r} is not in AllowedChatbotIds of this deployment"


def _result_bus_exists(raw: Mapping[str, Any], defaults: RequestDefaults) -> str | None:
    if defaults.has_result_bus or "eventbridge" not in (raw.get("deliver_to") or ()):
        return None
    return (
        "deliver_to: this deployment has no event bus for results; set its parameter ResultEventBusName, or leave "
        "out eventbridge"
    )


def _progress_has_target(raw: Mapping[str, Any], defaults: RequestDefaults) -> str | None:
    if not raw.get("progress_events"):
        return None
    if not _PROGRESS_TARGETS.isdisjoint(_get_or_default(raw, "deliver_to", defaults.deliver_to)):
        return None
    webhook = _webhook(raw.get("webhook"), defaults)
    if webhook is not None and webhook.wants_progress:
        return None
    return (
        "progress_events: no target receives progress; add sns or eventbridge to deliver_to, or progress to the "
        "events of the webhook"
    )


_CHECKS = (
    _chatbot_id,
    _input_data,
    _idempotency_key,
    _timeout_seconds,
    _metadata,
    _deliver_to,
    _progress_events,
)
# For a request without another problem.
_DEPLOYMENT_CHECKS = (_chatbot_is_allowed, _result_bus_exists)
