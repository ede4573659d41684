"""The secret of the receiver, derived from the secret of the stack."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from local.local_aws.errors import ToolError
from local.webhook_receiver.stack_receiver import newest_secret, receiver_for, secret_of_host
from tests.unit.local.local_aws.stack import OUTPUTS
from waterhook.webhooks.signature import derive_key, signature_header

GENERATED = json.dumps({"key": "a" * 64})
ROTATED = json.dumps(
    {"keys": [{"key": "b" * 64, "created_at": "2026-11-28T00:00:00Z"}, {"key": "a" * 64, "created_at": None}]}
)


@pytest.mark.parametrize(("text", "master"), [(GENERATED, "a" * 64), (ROTATED, "b" * 64)])
def test_the_secret_of_a_host_verifies_what_the_stack_signs_with_its_newest_key(
    text: str, master: str
) -> None:
    secret = newest_secret(text, "localhost")
    assert secret.startswith("whsec_")
    assert newest_secret(text, "127.0.0.1") != secret
    signed_at = 1_800_000_000
    header = signature_header(
        [derive_key(master, "localhost")], webhook_id="id", timestamp=signed_at, body=b"{}"
    )
    assert header == Webhook(secret).sign("id", datetime.fromtimestamp(signed_at, UTC), "{}")


def test_a_stack_without_webhooks_has_no_secret() -> None:
    without = dataclasses.replace(OUTPUTS, webhook_queue_url="")
    with pytest.raises(ToolError, match="Webhooks are off in the local stack"):
        secret_of_host(without, "localhost")


def test_a_missing_authority_is_an_error_with_its_path() -> None:
    with pytest.raises(ToolError, match="/state/authority is missing or damaged"):
        receiver_for(OUTPUTS)
