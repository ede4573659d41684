"""A received webhook, and the verification of its signature."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import Answer


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """One received request and the answer to it."""

    received_at: float
    """Seconds since 1970."""
    method: str
    target: str
    """Path and query."""
    headers: Mapping[str, str]
    """By lower-case name. The values of a repeated header are joined with a comma."""
    body: bytes
    problem: str | None
    """Why the signature was not verified; None if it was."""
    answer: Answer

    @property
    def verified(self) -> bool:
        """Whether the signature is valid for the body, the webhook-id and a current timestamp."""
        return self.problem is None

    @property
    def verification(self) -> str:
        """The result of the verification, as text for the user."""
        return "verified with standardwebhooks" if self.verified else f"not verified: {self.problem}"

    @property
    def webhook_id(self) -> str:
        """The header `webhook-id`, the same in each attempt; empty without one."""
        return self.headers.get("webhook-id", "")

    @property
    def timestamp(self) -> str:
        """The header `webhook-timestamp`: seconds since 1970, of the attempt."""
        return self.headers.get("webhook-timestamp", "")

    @property
    def signatures(self) -> list[str]:
        """The signatures in the header `webhook-signature`, each with its version: `v1,…`."""
        return self.headers.get("webhook-signature", "").split()

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent in the body; an empty object if the body is not a JSON object."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


def problem_of(method: str, headers: Mapping[str, str], body: bytes, secret: str | None) -> str | None:
    """Return why the signature of a request can't be verified; None if it is valid.

    `secret` has the form `whsec_…`; None: the receiver has no secret.
    """
    # Imported here, so that the other commands start without it.
    from standardwebhooks import Webhook, WebhookVerificationError  # noqa: PLC0415

    if secret is None:
        return "the receiver has no secret"
    if method != "POST":
        return f"the method is {method}"
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except ValueError as error:  # what the package raises for a signature or a body that it can't decode
        return f"malformed signature or body: {error}"
    return None
