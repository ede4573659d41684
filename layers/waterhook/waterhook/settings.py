"""The deployment's configuration, read from the environment once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from waterhook.domain.polling_policy import Limits
from waterhook.domain.request import DELIVERY_TARGETS, MAX_TIMEOUT_S, RequestDefaults
from waterhook.environment import Environment

if TYPE_CHECKING:
    from waterhook.domain.webhook_settings import WebhookSettings

# https anywhere. Plain http on the loopback interface only, where no other machine can read it.
_BASE_URL = re.compile(
    r"https://[A-Za-z0-9.-]+(:\d{1,5})?|http://(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?"
)
_BASE_URL_EXPECTED = "https://HOST[:PORT] without a path, or http://localhost[:PORT]"
MAX_FOLLOW_CONCURRENCY = 10_000
# A shorter invocation ends before it is clear whether the stream delivers events.
MIN_FOLLOW_S = 30
# Refused starts also write history events, in addition to those that polling may write.
MAX_START_DEADLINE_S = 24 * 3600
# One item lists the executions that hold a slot, and each change writes the whole item: 1,000 ids cost 32 write units.
MAX_CONCURRENCY_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """Maximum number of jobs that run at the same time, in the stack and per chatbot. 0 means no limit."""

    stack: int = 0
    chatbot: int = 0

    def __bool__(self) -> bool:
        """Whether a limit is set."""
        return bool(self.stack or self.chatbot)


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration that the template sets. `_s` is seconds, `_days` is days; ARNs and names are those of AWS."""

    base_url: str
    api_key_secret_arn: str
    table: str
    topic_arn: str
    bucket: str
    source: str
    default_timeout_s: int
    start_deadline_s: int
    shortest_wait_s: int
    longest_wait_s: int
    at_least_once: bool
    uncertain_on_503: bool
    deliver_to: tuple[str, ...]
    result_event_bus: str
    """Name of the event bus for results. Empty: there is none."""
    retention_days: int
    follow_concurrency: int
    follow_s: int
    concurrency_limits: ConcurrencyLimits
    allowed_chatbots: frozenset[str]
    webhooks: "WebhookSettings | None"
    """None: webhooks are off."""
    state_machine_arn: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Return the settings. Raises SettingsError with every variable that is missing or wrong."""
        environment = Environment(env)
        text, number, choice = environment.text, environment.number, environment.choice
        settings = cls(
            base_url=text("WATERFLAI_BASE_URL", _BASE_URL, _BASE_URL_EXPECTED),
            api_key_secret_arn=text("WATERFLAI_API_KEY_SECRET_ARN"),
            table=text("WATERHOOK_TABLE"),
            topic_arn=text("WATERHOOK_TOPIC_ARN"),
            bucket=text("WATERHOOK_BUCKET"),
            source=text("WATERHOOK_SOURCE"),
            default_timeout_s=number("WATERHOOK_DEFAULT_TIMEOUT_S", 1, MAX_TIMEOUT_S),
            start_deadline_s=number("WATERHOOK_START_DEADLINE_S", 1, MAX_START_DEADLINE_S),
            shortest_wait_s=number("WATERHOOK_SHORTEST_WAIT_S", 1, 3600),
            longest_wait_s=number("WATERHOOK_LONGEST_WAIT_S", 1, 3600),
            at_least_once=choice("WATERHOOK_START_SEMANTICS", "AT_MOST_ONCE", "AT_LEAST_ONCE")
            == "AT_LEAST_ONCE",
            uncertain_on_503=choice("WATERHOOK_ON_503_AT_START", "RETRY", "UNCERTAIN") == "UNCERTAIN",
            deliver_to=_deliver_to(environment),
            result_event_bus=environment.optional("WATERHOOK_RESULT_EVENT_BUS"),
            retention_days=number("WATERHOOK_RETENTION_DAYS", 1, 3650),
            follow_concurrency=number("WATERHOOK_FOLLOW_CONCURRENCY", 0, MAX_FOLLOW_CONCURRENCY),
            follow_s=number("WATERHOOK_FOLLOW_S", MIN_FOLLOW_S, 840),
            concurrency_limits=ConcurrencyLimits(
                stack=number("WATERHOOK_MAX_RUNNING", 0, MAX_CONCURRENCY_LIMIT),
                chatbot=number("WATERHOOK_MAX_RUNNING_PER_CHATBOT", 0, MAX_CONCURRENCY_LIMIT),
            ),
            allowed_chatbots=frozenset(environment.items("WATERHOOK_ALLOWED_CHATBOTS")),
            webhooks=_webhooks(environment),
            # Empty in the functions that the state machine calls: the template would have a circular dependency.
            state_machine_arn=environment.optional("WATERHOOK_STATE_MACHINE_ARN"),
        )
        problems = environment.problems
        waits_are_valid = not any("_WAIT_S: " in problem for problem in problems)
        if waits_are_valid and settings.shortest_wait_s > settings.longest_wait_s:
            problems.append(
                f"WATERHOOK_SHORTEST_WAIT_S: expected at most WATERHOOK_LONGEST_WAIT_S "
                f"({settings.longest_wait_s}), got {settings.shortest_wait_s}"
            )
        environment.raise_problems()
        return settings

    @property
    def follow(self) -> bool:
        """Whether event streams are followed. If not, every execution is polled."""
        return self.follow_concurrency > 0

    @property
    def defaults(self) -> RequestDefaults:
        """Values for the fields that a request leaves out."""
        return RequestDefaults(
            self.default_timeout_s,
            self.deliver_to,
            self.allowed_chatbots,
            self.webhooks.rules if self.webhooks else None,
            self.webhooks.default if self.webhooks else None,
            has_result_bus=bool(self.result_event_bus),
        )

    @property
    def retention_s(self) -> float:
        """How long a record is stored after its notification, in seconds."""
        return self.retention_days * 24 * 3600

    def limits(self, deadline: float, *, may_follow: bool = True) -> Limits:
        """Return the bounds of the polling policy. `deadline` is in epoch seconds."""
        follow = self.follow and may_follow
        return Limits(self.shortest_wait_s, self.longest_wait_s, deadline, follow=follow)


def _deliver_to(environment: Environment) -> tuple[str, ...]:
    name = "WATERHOOK_DEFAULT_DELIVER_TO"
    value = tuple(dict.fromkeys(environment.items(name)))
    if not value or not set(value) <= set(DELIVERY_TARGETS):
        environment.reject(name, f"one or more of {', '.join(DELIVERY_TARGETS)}", environment.optional(name))
    elif "eventbridge" in value and not environment.optional("WATERHOOK_RESULT_EVENT_BUS"):
        environment.problems.append(f"{name}: eventbridge needs WATERHOOK_RESULT_EVENT_BUS, which is empty")
    return value


def _webhooks(environment: Environment) -> "WebhookSettings | None":
    if not environment.items("WATERHOOK_WEBHOOK_ALLOWED_HOSTS"):
        return None
    # Imported here, so that functions of a deployment without webhooks do not load it.
    from waterhook.domain.webhook_settings import WebhookSettings

    return WebhookSettings.from_environment(environment)
