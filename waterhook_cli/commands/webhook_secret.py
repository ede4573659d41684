"""`waterhook webhook-secret`: prints the secret of a receiver of webhooks."""

import time
from collections.abc import Mapping
from typing import Any

import click

from waterhook.timestamps import to_rfc3339
from waterhook.webhooks.signature import derive_key, shown_secret
from waterhook.webhooks.signing_keys import StoredKeys, signing, signs_until
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import format_age, format_time
from waterhook_cli.parameter_types import HostType
from waterhook_cli.webhook_keys import WebhookKeyStore


def secrets_of(host: str, stored: StoredKeys, now: float) -> list[dict[str, Any]]:
    """Return the secrets that sign requests to a host, newest first: `secret`, `created_at`, `age_s`, `signs_until`.

    `created_at` and `age_s` are None for the key of the deployment, `signs_until` for the current secret.
    """
    keys = signing(stored.keys, now)
    return [
        {
            "secret": shown_secret(derive_key(key.key, host)),
            "created_at": to_rfc3339(key.created_at),
            "age_s": None if key.created_at is None else max(round(now - key.created_at), 0),
            "signs_until": to_rfc3339(signs_until(newer)) if newer else None,
        }
        for key, newer in zip(keys, [None, *keys], strict=False)
    ]


@click.command("webhook-secret", epilog=examples("waterhook webhook-secret hooks.example.com"))
@click.argument("host", type=HostType(), metavar="HOST")
@common_options
@pass_context
def command(context: CommandContext, host: str) -> ExitCode:
    """Print the secret with which the receiver at HOST checks webhooks.

    HOST is the host of the webhook URL. After a rotation, the previous secret is also printed as long as it signs.
    """
    stack, output = context.find_stack(), context.output
    secrets = secrets_of(host, WebhookKeyStore.of_stack(stack).read(), time.time())
    if output.as_json:
        output.json({"host": host, "secrets": secrets})
        return ExitCode.OK
    output.table(("SECRET", "AGE", "USE"), map(_row, secrets))
    if len(secrets) > 1:
        until = format_time(secrets[1]["signs_until"])
        output.info(f"The first secret is the current one. Set it at the receiver before {until}.")
    return ExitCode.OK


def _row(secret: Mapping[str, Any]) -> tuple[str, str, str]:
    age = "unknown" if secret["age_s"] is None else format_age(secret["age_s"])
    until = secret["signs_until"]
    return secret["secret"], age, f"signs until {format_time(until)}" if until else "current"
