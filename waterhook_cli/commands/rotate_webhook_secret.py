"""`waterhook rotate-webhook-secret`: creates a new secret for all receivers of webhooks."""

import secrets
import time

import click

from waterhook.errors import SigningKeysInUseError
from waterhook.timestamps import to_rfc3339
from waterhook.webhooks.cached_secret import CACHE_S
from waterhook.webhooks.signing_keys import (
    MAX_KEYS,
    MasterKey,
    StoredKeys,
    rotated,
    signing,
    signs_until,
)
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.options import (
    CommandContext,
    common_options,
    examples,
    pass_context,
    require_confirmation_possible,
    yes_option,
)
from waterhook_cli.output import format_time
from waterhook_cli.webhook_keys import WebhookKeyStore

_KEY_BYTES = 48


@click.command(
    "rotate-webhook-secret",
    epilog=examples("waterhook rotate-webhook-secret", "waterhook rotate-webhook-secret --force --yes"),
)
@click.option(
    "--force", is_flag=True, help=f"Rotate also if {MAX_KEYS} secrets are in use. The oldest is removed."
)
@yes_option
@common_options
@pass_context
def command(context: CommandContext, *, force: bool, yes: bool) -> ExitCode:
    """Create a new webhook secret for every host.

    For a day, webhooks are signed with the new and the previous secret. Change the secret of each receiver within this
    time.
    """
    require_confirmation_possible(yes=yes)
    stack, output = context.find_stack(), context.output
    store = WebhookKeyStore.of_stack(stack)
    stored = store.read()
    _rotate(stored, force=force)  # an error must come before the prompt
    removes_oldest = len(signing(stored.keys, time.time())) >= MAX_KEYS
    question = f"Create a new webhook secret for every receiver of {stack}?"
    if removes_oldest:
        question += (
            f" The oldest of the {MAX_KEYS} secrets in use is removed. Receivers that use it refuse webhooks."
        )
    if not context.confirm(question, yes=yes):
        return ExitCode.UNSUCCESSFUL
    # Again, because the day of the previous secret begins now, not before the prompt.
    keys = _rotate(stored, force=force)
    store.replace(stored, keys)
    created_at, until = to_rfc3339(keys[0].created_at), to_rfc3339(signs_until(keys[0]))
    if output.as_json:
        output.json(
            {"created_at": created_at, "previous_signs_until": until, "removed_oldest": removes_oldest}
        )
        return ExitCode.OK
    minutes, end = f"{CACHE_S / 60:.0f} minutes", format_time(until)
    output.line(
        f"Created. Within {minutes} the functions sign with the new secret too. The previous one signs until {end}."
    )
    output.line(f"Wait {minutes}, then set the new secret at each receiver, before {end}. To print it:")
    output.line(f"waterhook webhook-secret HOST{context.stack_options}")
    return ExitCode.OK


def _rotate(stored: StoredKeys, *, force: bool) -> list[MasterKey]:
    try:
        return rotated(stored.keys, time.time(), secrets.token_urlsafe(_KEY_BYTES), force=force)
    except SigningKeysInUseError as error:
        raise CommandError(ExitCode.UNSUCCESSFUL, str(error)) from error
