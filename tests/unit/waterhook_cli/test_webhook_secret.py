"""`waterhook webhook-secret` and `waterhook rotate-webhook-secret`, and what two operators do at the same time."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.fakes.aws import FailingClient, Secret, client_error
from tests.fakes.clock import NOW
from tests.fakes.deployed_stack import STACK_NAME, DeployedStack
from tests.unit.waterhook_cli.command_line import run, run_in_terminal
from waterhook.errors import SigningKeysUnavailableError
from waterhook.timestamps import to_epoch_s
from waterhook.webhooks.signature import derive_key, shown_secret
from waterhook.webhooks.signing_keys import MasterKey, StoredKeys, master_keys, to_secret_text
from waterhook_cli.commands.webhook_secret import secrets_of
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.webhook_keys import WebhookKeyStore

HOST = "hooks.example.com"
HOUR = 3600.0
FIRST = MasterKey("first-key")
OUTPUTS = {"WebhookSecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhooks-AbCdEf"}


def shown(key: str, host: str = HOST) -> str:
    return shown_secret(derive_key(key, host))


def rotated_before(*hours: float) -> str:
    """Return a secret whose keys `key 0`, `key 1` … have these ages, and FIRST."""
    now = time.time()
    return to_secret_text(
        [*(MasterKey(f"key {number}", now - age * HOUR) for number, age in enumerate(hours)), FIRST]
    )


@pytest.fixture
def webhooks(stack: DeployedStack) -> DeployedStack:
    stack.outputs = OUTPUTS
    stack.secret_text = json.dumps({"key": FIRST.key})
    return stack


def test_the_secret_of_a_host_is_printed(webhooks: DeployedStack) -> None:
    result = run("webhook-secret", "Hooks.Example.com.:8443", on=webhooks)
    assert (result.exit_code, result.stdout) == (0, f"{shown('first-key')}\tunknown\tcurrent\n")


def test_after_a_rotation_the_previous_secret_is_printed_until_it_stops_signing(
    webhooks: DeployedStack,
) -> None:
    webhooks.secret_text = rotated_before(3, 40)
    result = run("webhook-secret", HOST, on=webhooks)
    new, old = (line.split("\t") for line in result.stdout.splitlines())
    assert new == [shown("key 0"), "3 h", "current"]
    assert old[:2] == [shown("key 1"), "40 h"]
    until = to_epoch_s(old[2].removeprefix("signs until "))
    assert until is not None
    assert until - time.time() == pytest.approx(21 * HOUR, abs=60)
    assert "Set it at the receiver before" in result.stderr
    webhooks.secret_text = rotated_before(24, 40)
    assert run("webhook-secret", HOST, on=webhooks).stdout == f"{shown('key 0')}\t24 h\tcurrent\n"


def test_secrets_are_printed_as_json(webhooks: DeployedStack) -> None:
    result = run("webhook-secret", "LOCALHOST", "--json", on=webhooks)
    current = {"secret": shown("first-key", "localhost"), "created_at": None, "age_s": None}
    assert json.loads(result.stdout) == {"host": "localhost", "secrets": [current | {"signs_until": None}]}


def test_each_secret_has_its_age_and_its_end() -> None:
    keys = [MasterKey("new", NOW - 60), MasterKey("old", NOW - HOUR), FIRST]
    secrets = secrets_of(HOST, StoredKeys(keys, "a-version"), NOW)
    assert [(one["secret"], one["age_s"], one["signs_until"]) for one in secrets] == [
        (shown("new"), 60, None),
        (shown("old"), 3600, "2026-01-01T23:59:00.000Z"),
        (shown("first-key"), None, "2026-01-01T23:00:00.000Z"),
    ]


def test_a_host_that_is_a_url_is_a_usage_error_before_aws_is_called(stack: DeployedStack) -> None:
    result = run("webhook-secret", f"https://{HOST}/?token=not-shown", on=stack)
    assert (result.exit_code, stack.access_keys) == (2, set())
    assert "only the host of the URL" in result.stderr
    assert "not-shown" not in result.stderr


@pytest.mark.parametrize("arguments", [("webhook-secret", HOST), ("rotate-webhook-secret", "--yes")])
def test_without_webhooks_the_message_explains_how_to_switch_them_on(
    stack: DeployedStack, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments, on=stack)
    assert (result.exit_code, result.stdout) == (ExitCode.UNAVAILABLE, "")
    assert "webhooks are switched off" in result.stderr
    assert "WebhookAllowedHosts=hooks.example.com" in result.stderr


@pytest.mark.parametrize("arguments", [("webhook-secret", HOST), ("rotate-webhook-secret", "--yes")])
def test_a_secret_in_another_format_is_not_shown(webhooks: DeployedStack, arguments: tuple[str, ...]) -> None:
    webhooks.secret_text = '{"keys": "not-shown"}'
    result = run(*arguments, on=webhooks)
    assert (result.exit_code, result.stdout) == (ExitCode.UNAVAILABLE, "")
    assert "one to 3 keys" in result.stderr
    assert "not-shown" not in result.stderr
    assert webhooks.secret_text == '{"keys": "not-shown"}'


def test_a_rotation_adds_a_key_and_prints_no_secret(webhooks: DeployedStack) -> None:
    result = run("rotate-webhook-secret", "--yes", "--stack", STACK_NAME, on=webhooks)
    assert result.exit_code == 0, result.stderr
    new, old = master_keys(webhooks.secret_text)
    assert old == FIRST
    assert len(new.key) == 64
    assert new.created_at == pytest.approx(time.time(), abs=60)
    for word in (
        "Within 5 minutes",
        "signs until 20",
        "set the new secret at each receiver",
        f"\nwaterhook webhook-secret HOST --stack {STACK_NAME}\n",
    ):
        assert word in result.stdout
    assert not [key for key in (new.key, "first-key", "whsec_") if key in result.stdout + result.stderr]


def test_the_result_of_a_rotation_is_printed_as_json(webhooks: DeployedStack) -> None:
    result = json.loads(run("rotate-webhook-secret", "--yes", "--json", on=webhooks).stdout)
    created, until = to_epoch_s(result["created_at"]), to_epoch_s(result["previous_signs_until"])
    assert (created, until) == (master_keys(webhooks.secret_text)[0].created_at, (created or 0) + 24 * HOUR)
    assert result["removed_oldest"] is False


def test_a_rotation_with_three_secrets_in_use_requires_force(webhooks: DeployedStack) -> None:
    before = webhooks.secret_text = rotated_before(1, 2)
    result = run("rotate-webhook-secret", "--yes", on=webhooks)
    assert (result.exit_code, result.stdout, webhooks.secret_text) == (1, "", before)
    assert "--force" in result.stderr
    forced = run("rotate-webhook-secret", "--yes", "--force", "--json", on=webhooks)
    assert json.loads(forced.stdout)["removed_oldest"] is True
    assert [key.key for key in master_keys(webhooks.secret_text)[1:]] == ["key 0", "key 1"]


def test_a_rotation_without_a_terminal_requires_yes(webhooks: DeployedStack) -> None:
    before = webhooks.secret_text
    result = run("rotate-webhook-secret", on=webhooks)
    assert (result.exit_code, webhooks.secret_text, webhooks.access_keys) == (2, before, set())


@pytest.mark.parametrize(
    ("hours", "options", "warning"),
    [((), (), False), ((1, 2), ("--force",), True), ((1,), ("--force",), False)],
)
def test_the_prompt_names_the_stack_and_the_secret_that_is_removed(
    webhooks: DeployedStack, hours: tuple[float, ...], options: tuple[str, ...], *, warning: bool
) -> None:
    before = webhooks.secret_text = rotated_before(*hours)
    code, screen = run_in_terminal("rotate-webhook-secret", *options, on=webhooks, typed="n\n", columns=250)
    assert (code, webhooks.secret_text) == (1, before)
    assert f"Create a new webhook secret for every receiver of the stack {STACK_NAME} (us-east-1)?" in screen
    assert ("The oldest of the 3 secrets in use is removed." in screen) is warning
    assert "Nothing was done." in screen


@pytest.fixture
def stored(secret: Secret) -> Secret:
    secret.rotate(to_secret_text([FIRST]))
    return secret


def store(secret: Secret, client: Any = None) -> WebhookKeyStore:
    return WebhookKeyStore(secret.arn, client or secret.client)


def current(secret: Secret) -> str:
    return store(secret).read().keys[0].key


def test_replaced_keys_are_the_current_value_and_the_previous_value_is_kept(stored: Secret) -> None:
    operator = store(stored)
    operator.replace(operator.read(), [MasterKey("second", NOW), FIRST])
    operator.replace(operator.read(), [MasterKey("third", NOW + 1), MasterKey("second", NOW), FIRST])
    assert [key.key for key in operator.read().keys] == ["third", "second", "first-key"]
    previous = stored.client.get_secret_value(SecretId=stored.arn, VersionStage="AWSPREVIOUS")
    assert master_keys(previous["SecretString"])[0].key == "second"


def test_of_two_operators_who_rotate_at_the_same_time_one_gets_an_error(stored: Secret) -> None:
    ada, bob = store(stored), store(stored)
    read_by_ada, read_by_bob = ada.read(), bob.read()
    bob.replace(read_by_bob, [MasterKey("bob's", NOW), FIRST])
    with pytest.raises(CommandError, match="at the same time") as caught:
        ada.replace(read_by_ada, [MasterKey("ada's", NOW), FIRST])
    assert caught.value.exit_code == ExitCode.UNSUCCESSFUL
    assert current(stored) == "bob's"
    ada.replace(ada.read(), [MasterKey("ada's", NOW + 1), *ada.read().keys])
    assert [key.key for key in ada.read().keys] == ["ada's", "bob's", "first-key"]


class Between:
    """A client that calls `meanwhile` once, before the label is moved."""

    def __init__(self, real: Any, meanwhile: Callable[[], object]) -> None:
        self._real, self._meanwhile = real, meanwhile

    def __getattr__(self, name: str) -> Any:
        if name == "update_secret_version_stage":
            self._meanwhile()
        return getattr(self._real, name)


@pytest.mark.parametrize("other", ["bob's", "first-key"])
def test_a_change_between_the_two_calls_of_a_rotation_is_not_overwritten(stored: Secret, other: str) -> None:
    # Also the same text again, for example by the console, is another version.
    between = Between(stored.client, lambda: stored.rotate(to_secret_text([MasterKey(other)])))
    ada = store(stored, between)
    with pytest.raises(CommandError, match="at the same time"):
        ada.replace(ada.read(), [MasterKey("ada's", NOW), FIRST])
    assert current(stored) == other


@pytest.mark.parametrize(
    "error",
    [client_error("InvalidParameterException"), ReadTimeoutError(endpoint_url="https://secretsmanager.test")],
)
def test_a_rotation_whose_answer_is_lost_was_carried_out(stored: Secret, error: Exception) -> None:
    lossy = FailingClient(stored.client, {"update_secret_version_stage": error}, after=True)
    ada = store(stored, lossy)
    ada.replace(ada.read(), [MasterKey("ada's", NOW), FIRST])
    assert current(stored) == "ada's"


@pytest.mark.parametrize("operation", ["put_secret_value", "update_secret_version_stage"])
def test_a_rotation_that_aws_refuses_changes_nothing(stored: Secret, operation: str) -> None:
    denied = client_error("AccessDeniedException")
    ada = store(stored, FailingClient(stored.client, {operation: denied}))
    with pytest.raises(type(denied)) as caught:
        ada.replace(ada.read(), [MasterKey("ada's", NOW), FIRST])
    assert caught.value is denied
    assert current(stored) == "first-key"


def test_a_secret_that_does_not_exist_is_named(stored: Secret) -> None:
    stored.client.delete_secret(SecretId=stored.arn, ForceDeleteWithoutRecovery=True)
    with pytest.raises(SigningKeysUnavailableError, match="ResourceNotFoundException"):
        store(stored).read()
