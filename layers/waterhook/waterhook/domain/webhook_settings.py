"""The deployment's configuration of webhooks, read from the environment once."""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Self

from waterhook.domain.webhook import Webhook
from waterhook.domain.webhook_url import WebhookRules, WebhookUrl
from waterhook.environment import Environment
from waterhook.errors import InvalidWebhookUrlError


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The configuration of webhooks, if they are on: WATERHOOK_WEBHOOK_ALLOWED_HOSTS is not empty.

    The dead-letter queue, the secrets and the concurrency are set for the deliver function only.
    """

    rules: WebhookRules
    default: Webhook | None = None
    """The webhook of requests that have none."""
    queue_url: str = ""
    dead_letter_queue_url: str = ""
    table: str = ""
    secret_arn: str = ""
    ca_bundle_arn: str = ""
    """ARN of the secret with the certificates of private authorities, or empty."""
    concurrency: int = 0

    @classmethod
    def from_environment(cls, environment: Environment) -> Self:
        """Return the settings. Problems are added without the values: a URL may contain a token."""
        allowed = environment.items("WATERHOOK_WEBHOOK_ALLOWED_HOSTS")
        hosts = tuple(host.lower().removesuffix(".") for host in allowed)
        networks = []
        for network in environment.items("WATERHOOK_WEBHOOK_ALLOWED_NETWORKS"):
            try:
                networks.append(ip_network(network))
            except ValueError:
                expected = "networks such as 10.0.0.0/16, separated by commas"
                environment.reject("WATERHOOK_WEBHOOK_ALLOWED_NETWORKS", expected, network)
        url = environment.optional("WATERHOOK_DEFAULT_WEBHOOK_URL")
        try:
            # The operator chose this host, so it is allowed although it is not in the list.
            hosts = (*hosts, WebhookUrl.parse(url).host) if url else hosts
        except InvalidWebhookUrlError as error:
            environment.problems.append(f"WATERHOOK_DEFAULT_WEBHOOK_URL: {error}")
        concurrency = environment.optional("WATERHOOK_WEBHOOK_CONCURRENCY")
        return cls(
            WebhookRules(hosts, tuple(networks)),
            Webhook(url, is_default=True) if url else None,
            queue_url=environment.text("WATERHOOK_WEBHOOK_QUEUE_URL"),
            dead_letter_queue_url=environment.optional("WATERHOOK_WEBHOOK_DEAD_LETTER_QUEUE_URL"),
            table=environment.text("WATERHOOK_WEBHOOK_TABLE"),
            secret_arn=environment.optional("WATERHOOK_WEBHOOK_SECRET_ARN"),
            ca_bundle_arn=environment.optional("WATERHOOK_WEBHOOK_CA_BUNDLE_ARN"),
            concurrency=int(concurrency) if concurrency.isascii() and concurrency.isdigit() else 0,
        )
