"""The `standardwebhooks` packages of PyPI and npm accept our signatures, and refuse changed requests."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.node import NODE, NODE_PACKAGES
from waterhook.webhooks.signature import derive_key, shown_secret, signature_header
from waterhook.webhooks.signing_keys import OVERLAP_S, MasterKey, rotated, signing

ROOT = Path(__file__).parents[3]
HOST = "hooks.example.com"
WEBHOOK_ID = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f/1767225600000/COMPLETED"
# As in a notification: text outside of ASCII, and escapes.
BODY = '{"data":{"final_output":{"answer":"Größe: 5 € 🚀","html":"<p>\\u2028\\n</p>"}}}'
NEVER_ROTATED = [MasterKey("first key")]


@dataclass(frozen=True)
class Request:
    """A webhook request, and the secret that the receiver has."""

    secret: str
    headers: Mapping[str, str]
    body: str

    def with_header(self, name: str, value: str) -> "Request":
        return replace(self, headers={**self.headers, name: value})


def secret(key: str, host: str = HOST) -> str:
    return shown_secret(derive_key(key, host))


def request(secret: str, keys: list[MasterKey] = NEVER_ROTATED, *, age_s: int = 0) -> Request:
    """Return the request that Waterhook sends now with these keys in its secret, signed `age_s` ago."""
    now = int(time.time())
    timestamp = now - age_s
    header = signature_header(
        [derive_key(key.key, HOST) for key in signing(keys, now)],
        webhook_id=WEBHOOK_ID,
        timestamp=timestamp,
        body=BODY.encode(),
    )
    headers = {"webhook-id": WEBHOOK_ID, "webhook-timestamp": str(timestamp), "webhook-signature": header}
    return Request(secret, headers, BODY)


def cases() -> dict[str, tuple[Request, str | None]]:
    """Return requests by name, each with a part of the error of a receiver, or None if it is valid."""
    now = time.time()
    during = rotated(NEVER_ROTATED, now - OVERLAP_S + 60, "second key", force=False)
    after = rotated(NEVER_ROTATED, now - OVERLAP_S - 60, "second key", force=False)
    twice = rotated(rotated(NEVER_ROTATED, now - 60, "second key", force=False), now, "third", force=False)
    first, second = secret("first key"), secret("second key")
    valid = request(first)
    signature = valid.headers["webhook-signature"]
    other_event = WEBHOOK_ID.replace("COMPLETED", "FAILED")
    timestamp = int(valid.headers["webhook-timestamp"])
    no_match = "No matching signature"
    return {
        "a signature": (valid, None),
        "the secret without its prefix": (replace(valid, secret=first.removeprefix("whsec_")), None),
        "the old secret during a rotation": (request(first, during), None),
        "the new secret during a rotation": (request(second, during), None),
        "the old secret after a rotation": (request(first, after), no_match),
        "the new secret after a rotation": (request(second, after), None),
        "the first of three secrets": (request(first, twice), None),
        "the second of three secrets": (request(second, twice), None),
        "the third of three secrets": (request(secret("third"), twice), None),
        "the secret of another host": (request(secret("first key", "other.example.com")), no_match),
        "the secret of another stack": (request(secret("another key")), no_match),
        "a changed body": (replace(valid, body=BODY.replace("5", "6")), no_match),
        "a body with another space": (replace(valid, body=BODY + " "), no_match),
        "a changed id": (valid.with_header("webhook-id", other_event), no_match),
        "a changed timestamp": (valid.with_header("webhook-timestamp", str(timestamp - 1)), no_match),
        "another version of the signature": (
            valid.with_header("webhook-signature", signature.replace("v1,", "v2,")),
            no_match,
        ),
        "a signature among others": (
            valid.with_header("webhook-signature", f"v1,AAAA v1a,AAAA {signature}"),
            None,
        ),
        "an attempt four minutes ago": (request(first, age_s=240), None),
        "an attempt six minutes ago": (request(first, age_s=360), "too old"),
        "an attempt six minutes ahead": (request(first, age_s=-360), "too new"),
    }


def verify_in_python(requests: list[Request]) -> list[str | None]:
    """Return the error of each request; None if it is valid."""
    problems: list[str | None] = []
    for one in requests:
        try:
            Webhook(one.secret).verify(one.body, dict(one.headers))
        except WebhookVerificationError as error:
            problems.append(str(error))
        else:
            problems.append(None)
    return problems


def verify_in_node(requests: list[Request]) -> list[str | None]:
    """Return the error of each request; None if it is valid."""
    if not NODE_PACKAGES.is_dir():
        pytest.skip("the npm packages are not installed: `make setup` installs them from the npm registry")
    done = subprocess.run(
        [NODE, ROOT / "tests" / "webhook_receiver" / "verify.js"],
        input=json.dumps([vars(one) for one in requests]),
        env={"PATH": os.defpath, "NODE_PATH": str(NODE_PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems: list[str | None] = json.loads(done.stdout)
    return problems


@pytest.mark.parametrize("verify", [verify_in_python, verify_in_node])
def test_a_receiver_accepts_signed_requests_and_refuses_changed_ones(
    verify: Callable[[list[Request]], list[str | None]],
) -> None:
    requests, expected = zip(*cases().values(), strict=True)
    problems = dict(zip(cases(), verify(list(requests)), strict=True))
    for name, part in zip(cases(), expected, strict=True):
        problem = problems[name]
        assert (problem is None) == (part is None), f"{name}: {problem}"
        assert (part or "") in (problem or ""), name
