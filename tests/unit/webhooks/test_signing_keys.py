"""Master keys: their format, the keys that sign after each rotation, and the cache of the functions."""

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.aws import FailingClient, Secret, client_error
from tests.fakes.clock import NOW, Clock
from waterhook.errors import SigningKeysInUseError, SigningKeysUnavailableError
from waterhook.webhooks.cached_secret import CACHE_S, RETRY_S
from waterhook.webhooks.signature import derive_key
from waterhook.webhooks.signing_keys import (
    MAX_KEYS,
    OVERLAP_S,
    MasterKey,
    SigningKeys,
    master_keys,
    rotated,
    signing,
    signs_until,
    to_secret_text,
)

HOUR, DAY = 3600.0, 86_400.0
HOST = "hooks.example.com"
FIRST = MasterKey("first-key")
PRIVATE = "not-shown"


def keys_at(*ages: float | None, now: float = NOW) -> list[MasterKey]:
    """Return keys of these ages in seconds."""
    return [MasterKey(f"of {age}", None if age is None else now - age) for age in ages]


def test_the_generated_secret_has_one_key_without_creation_time() -> None:
    assert master_keys('{"key": "first-key"}') == [FIRST]


def test_keys_are_read_newest_first_whatever_their_order_is() -> None:
    keys = [FIRST, MasterKey("old", NOW), MasterKey("new", NOW + 1)]
    assert master_keys(to_secret_text(keys)) == keys[::-1]


def test_written_keys_are_read_again() -> None:
    keys = [MasterKey("new", NOW + 0.5), MasterKey("ä", NOW + 0.5), FIRST]
    assert master_keys(to_secret_text(keys)) == keys


UNUSABLE = [
    "",
    PRIVATE,
    "{",
    f'{{"key": "{PRIVATE}"',
    f'["{PRIVATE}"]',
    f'"{PRIVATE}"',
    "null",
    "{}",
    '{"key": null}',
    '{"key": ""}',
    '{"key": 1}',
    f'{{"key": "{PRIVATE}\\n"}}',
    f'{{"key": "{PRIVATE}\\ud800"}}',
    f'{{"{PRIVATE}": "{PRIVATE}"}}',
    '{"keys": []}',
    '{"keys": null}',
    f'{{"keys": {{"key": "{PRIVATE}"}}}}',
    f'{{"keys": ["{PRIVATE}"]}}',
    f'{{"keys": [{{"key": "{PRIVATE}", "created_at": 1767225600}}]}}',
    f'{{"keys": [{{"key": "{PRIVATE}", "created_at": "{PRIVATE}"}}]}}',
    f'{{"keys": [{{"key": "{PRIVATE}", "created_at": null}}, null]}}',
    to_secret_text([MasterKey(PRIVATE)] * (MAX_KEYS + 1)),
    "[" * 100_000,
]


def texts_of(error: BaseException | None) -> str:
    """Return the traceback of an error with its causes and contexts, and all their attributes."""
    text = "".join(traceback.format_exception(error))
    while error is not None:
        text += f"{error!r} {vars(error)} {error.args}"
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize("text", UNUSABLE, ids=range(len(UNUSABLE)))
def test_another_text_is_refused_and_not_shown(secret: Secret, text: str) -> None:
    if text:
        secret.rotate(text)
    else:
        secret.client.put_secret_value(SecretId=secret.arn, SecretBinary=PRIVATE.encode())
    with pytest.raises(SigningKeysUnavailableError, match="one to 3 keys") as caught:
        SigningKeys(secret.arn, secret.client).keys_for(HOST)
    assert secret.arn in str(caught.value)
    assert PRIVATE not in texts_of(caught.value)


@pytest.mark.parametrize(
    ("ages", "count"),
    [
        ([None], 1),
        ([0, None], 2),
        ([DAY - 1, None], 2),
        ([DAY, None], 1),
        ([HOUR, 2 * HOUR, None], 3),
        ([DAY - 1, DAY, 2 * DAY], 2),
        ([DAY, DAY + 1, 2 * DAY], 1),
        ([0, 1, 2], 3),
        ([2 * DAY, None, None], 1),
        ([None, None], 1),
        ([-60, None], 2),  # the clock of the operator is ahead
    ],
)
def test_all_keys_younger_than_a_day_and_the_newest_older_one_sign(
    ages: list[float | None], count: int
) -> None:
    keys = keys_at(*ages)
    assert signing(keys, NOW) == keys[:count]


def test_the_previous_key_signs_for_exactly_a_day() -> None:
    keys = rotated([FIRST], NOW, "new", force=False)
    assert signs_until(keys[0]) == NOW + DAY
    assert signing(keys, NOW + DAY - 0.001) == [MasterKey("new", NOW), FIRST]
    assert signing(keys, NOW + DAY) == [MasterKey("new", NOW)]


def test_a_rotation_removes_keys_that_no_longer_sign() -> None:
    keys = keys_at(2 * DAY, 3 * DAY, None)
    assert rotated(keys, NOW, "new", force=False) == [MasterKey("new", NOW), keys[0]]


@pytest.mark.parametrize(
    ("ages", "until"),
    [
        ((HOUR, 2 * HOUR, None), "2026-01-01T22:00:00.000Z"),
        ((HOUR, 3 * HOUR, 4 * HOUR), "2026-01-01T21:00:00.000Z"),
    ],
)
def test_a_rotation_with_three_keys_in_use_is_refused_until_the_oldest_ends(
    ages: tuple[float | None, ...], until: str
) -> None:
    keys = keys_at(*ages)
    with pytest.raises(SigningKeysInUseError, match=f"until {until}.*--force") as caught:
        rotated(keys, NOW, "new", force=False)
    assert not [key for key in keys if key.key in str(caught.value)]


def test_a_forced_rotation_removes_the_oldest_key() -> None:
    keys = keys_at(HOUR, 2 * HOUR, None)
    assert rotated(keys, NOW, "new", force=True) == [MasterKey("new", NOW), *keys[:2]]


def test_a_forced_rotation_with_two_keys_removes_none() -> None:
    keys = keys_at(HOUR, None)
    assert rotated(keys, NOW, "new", force=True) == [MasterKey("new", NOW), *keys]


def test_the_new_key_is_the_newest_also_if_the_clock_of_its_operator_is_behind() -> None:
    keys = rotated(keys_at(-120, None), NOW, "new", force=False)
    assert [key.key for key in master_keys(to_secret_text(keys))] == ["new", "of -120", "of None"]


@given(st.lists(st.tuples(st.floats(0, 2 * DAY), st.booleans()), max_size=12))
def test_every_key_signs_for_a_day_after_the_next_rotation_unless_it_is_forced(
    rotations: list[tuple[float, bool]],
) -> None:
    keys, now = [FIRST], NOW
    for number, (pause, force) in enumerate(rotations):
        now += round(pause)
        before = signing(keys, now)
        try:
            keys = rotated(keys, now, f"key {number}", force=force)
        except SigningKeysInUseError:
            assert not force
            continue
        assert keys == master_keys(to_secret_text(keys))
        assert signing(keys, now)[0].key == f"key {number}"
        assert signing(keys, now)[1:] == before[: MAX_KEYS - 1]
        assert force or len(before) < MAX_KEYS
        assert before[0] in signing(keys, now + OVERLAP_S - 1)


class Counted:
    """A client that counts how often the secret is read."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.reads = 0

    def get_secret_value(self, **arguments: Any) -> Any:
        self.reads += 1
        return self._real.get_secret_value(**arguments)


@pytest.fixture
def stored(secret: Secret) -> Secret:
    secret.rotate(to_secret_text([FIRST]))
    return secret


def test_the_keys_of_a_host_are_derived_from_the_keys_that_sign(stored: Secret) -> None:
    stored.rotate(to_secret_text([MasterKey("new", NOW), FIRST]))
    keys = SigningKeys(stored.arn, stored.client, clock=Clock(NOW)).keys_for(HOST)
    assert keys == [derive_key("new", HOST), derive_key("first-key", HOST)]


def test_the_secret_is_read_once_in_five_minutes(stored: Secret) -> None:
    clock, client = Clock(NOW), Counted(stored.client)
    keys: Any = SigningKeys(stored.arn, client, clock)  # type: ignore[arg-type]
    keys.keys_for(HOST)
    stored.rotate(to_secret_text([MasterKey("new", NOW), FIRST]))
    clock.advance(CACHE_S - 1)
    assert (len(keys.keys_for("other.example")), client.reads) == (1, 1)
    clock.advance(1)
    assert (len(keys.keys_for(HOST)), client.reads) == (2, 2)


def test_a_cached_key_stops_signing_in_time(stored: Secret) -> None:
    stored.rotate(to_secret_text([MasterKey("new", NOW - DAY + 1), FIRST]))
    clock = Clock(NOW)
    keys = SigningKeys(stored.arn, stored.client, clock)
    assert len(keys.keys_for(HOST)) == 2
    clock.advance(1)
    assert len(keys.keys_for(HOST)) == 1


@pytest.mark.parametrize("broken", ["service", "text"])
def test_cached_keys_are_used_while_a_refresh_fails(stored: Secret, broken: str) -> None:
    client = FailingClient(stored.client, {})
    clock = Clock(NOW)
    keys: Any = SigningKeys(stored.arn, client, clock)  # type: ignore[arg-type]
    before = keys.keys_for(HOST)
    if broken == "service":
        client.faults["get_secret_value"] = client_error("ThrottlingException")
    else:
        stored.rotate("{}")
    clock.advance(CACHE_S)
    assert keys.keys_for(HOST) == before
    client.faults.clear()
    stored.rotate(to_secret_text([MasterKey("new", NOW), FIRST]))
    # A secret that can't be read must not delay each request.
    clock.advance(RETRY_S - 1)
    assert keys.keys_for(HOST) == before
    clock.advance(1)
    assert len(keys.keys_for(HOST)) == 2


def test_without_cached_keys_an_error_of_secrets_manager_is_raised(stored: Secret) -> None:
    client = FailingClient(stored.client, {"get_secret_value": client_error("AccessDeniedException")})
    keys: Any = SigningKeys(stored.arn, client, Clock(NOW))  # type: ignore[arg-type]
    with pytest.raises(SigningKeysUnavailableError, match="AccessDeniedException"):
        keys.keys_for(HOST)
    client.faults.clear()
    assert keys.keys_for(HOST) == [derive_key("first-key", HOST)]


def test_no_text_of_the_objects_contains_a_key(stored: Secret) -> None:
    keys = SigningKeys(stored.arn, stored.client)
    keys.keys_for(HOST)
    assert json.loads(to_secret_text([FIRST]))["keys"][0]["key"] == "first-key"
    assert "first-key" not in f"{keys!r} {keys} {FIRST!r} {FIRST} {[FIRST]}"
