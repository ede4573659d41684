"""The receivers in Python and in Node.js, as processes, with requests that Waterhook's own code signs."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.contract.template import ROOT
from tests.fakes.scripted_server import ScriptedServer, reply, stall
from tests.support.builders import SOURCE, final_record, running_record
from tests.support.receiver_process import ReceiverProcess, command_of
from tests.support.waiting import until
from waterhook.domain.status import Status
from waterhook.domain.webhook import FULL, THIN, Webhook
from waterhook.notifications.notification_events import progress_event, progress_id
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.webhooks.signature import derive_key, shown_secret

HOST = "hooks.example.com"
OUTPUT: dict[str, Any] = {
    "answer": "Größe 🙂",
    "private": "what the customer got",
    "number": 12345678901234567890,
}
LINK = "/output?token=of-the-link"
OUTCOMES = [status for status in Status if status.is_final]
NUMBERS = count(1)
type Signed = tuple[dict[str, str], bytes]


def secret(key: str) -> str:
    return shown_secret(derive_key(key, HOST))


class Keys:
    """The signing keys of a stack, newest first."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def keys_for(self, host: str) -> list[bytes]:
        return [derive_key(key, host) for key in self._keys]


def requests(keys: Sequence[str] = ("key",), age_s: float = 0, link: str = "") -> WebhookRequests:
    return WebhookRequests(Keys(*keys), lambda _: link, SOURCE, lambda: time.time() - age_s)


def sign(
    body: str | bytes, id_: str | None = None, *, keys: Sequence[str] = ("key",), age_s: float = 0
) -> Signed:
    """Return the headers and the body of a request that Waterhook sends now. By default the id is in the body."""
    content = body if isinstance(body, bytes) else body.encode()
    request = UnsignedRequest(id_ or json.loads(content)["id"], content)
    return requests(keys, age_s).headers(request, HOST), content


def execution(status: Status = Status.COMPLETED, payload: str = FULL, **changes: Any) -> ExecutionRecord:
    """Return the record of another execution each time."""
    changes = {"final_output_json": json.dumps(OUTPUT) if status is Status.COMPLETED else None} | changes
    new = final_record(status, webhook=Webhook(f"https://{HOST}/", payload=payload), **changes)
    return replace(new, execution_id=f"{next(NUMBERS):032x}")


def outcome(record: ExecutionRecord, *, link: str = "", **how: Any) -> Signed:
    request = requests(link=link).outcome(record)
    return sign(request.body, request.webhook_id, **how)


def progress(execution_id: str, sequence: int, **change: Any) -> Signed:
    record = replace(running_record(progress_sequence=sequence), execution_id=execution_id)
    return sign(progress_event(record, SOURCE, change, time.time()), progress_id(record))


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module", params=["fastapi", "express"])
def new_receiver(request: pytest.FixtureRequest, authority_file: Path) -> Callable[[Path], ReceiverProcess]:
    """Return a function that returns a receiver with its files in a folder. It is not started yet."""
    secrets = f"{secret('next key')} {secret('key')}"
    return partial(_new_receiver, request.param, secrets, authority_file)


def _new_receiver(name: str, secrets: str, authority: Path, folder: Path) -> ReceiverProcess:
    return ReceiverProcess(name, folder, secrets, authority)


@pytest.fixture(scope="module")
def receiver(
    new_receiver: Callable[[Path], ReceiverProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverProcess]:
    """Yield a receiver that all tests of this module share. They use different executions."""
    with new_receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running
        for private in (OUTPUT["private"], LINK, "whsec_", secret("key").removeprefix("whsec_")):
            assert private not in running.log


def is_stored(receiver: ReceiverProcess, event_id: str) -> bool:
    return bool(receiver.execute("SELECT 1 FROM inbox WHERE id = ?", event_id))


def is_done(receiver: ReceiverProcess, event_id: str) -> bool:
    return bool(receiver.execute("SELECT 1 FROM inbox WHERE id = ? AND done_at > 0", event_id))


def make_due(receiver: ReceiverProcess) -> None:
    """Let the time until the next attempts pass. The next webhook wakes the worker earlier than its timer."""
    receiver.execute("UPDATE inbox SET due_at = 0 WHERE done_at IS NULL")
    assert receiver.post(*sign('{"type": "x", "data": {}}', f"wake/{next(NUMBERS)}")) == 204


# ---- What is accepted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [FULL, THIN])
def test_each_outcome_is_stored(receiver: ReceiverProcess, payload: str) -> None:
    for status in OUTCOMES:
        record = execution(status, payload)
        assert receiver.post(*outcome(record)) == 204
        row = receiver.result(record.execution_id)
        assert (row["status"], row["error"]) == (status, None if status is Status.COMPLETED else "why")
        expected = OUTPUT if (status, payload) == (Status.COMPLETED, FULL) else None
        assert json.loads(row["output"] or "null") == expected


def test_a_large_output_is_downloaded_from_its_link(receiver: ReceiverProcess, over_tls: Any) -> None:
    record = execution(final_output_json=None, output_ref="s3://results/output.json")
    large = json.dumps(OUTPUT | {"more": "x" * 100_000}, ensure_ascii=False)
    with ScriptedServer([reply(200, large)], context=over_tls) as bucket:
        headers, body = outcome(record, link=f"{bucket.url}{LINK}")
        assert receiver.post(headers, body) == 204
        assert receiver.result(record.execution_id)["output"] == large
    assert [one.target for one in bucket.requests] == [LINK]


def test_a_missing_output_leaves_its_reason(receiver: ReceiverProcess) -> None:
    record = execution(final_output_json=None, output_error="too_large")
    assert receiver.post(*outcome(record)) == 204
    row = receiver.result(record.execution_id)
    assert (row["status"], row["error"], row["output"]) == ("COMPLETED", "too_large", None)


def test_progress_in_any_order_never_goes_back(receiver: ReceiverProcess) -> None:
    record = execution()
    for sequence in (2, 1, 3):
        headers, body = progress(record.execution_id, sequence, progress=sequence * 10)
        assert receiver.post(headers, body) == 204
        receiver.wait_until_processed(headers["webhook-id"])
        assert receiver.result(record.execution_id)["sequence"] == max(2, sequence)
    headers, body = outcome(record)
    late_headers, late = progress(record.execution_id, 4, progress=50)
    assert (receiver.post(headers, body), receiver.post(late_headers, late)) == (204, 204)
    receiver.wait_until_processed(late_headers["webhook-id"])
    assert receiver.result(record.execution_id)["status"] == "COMPLETED"


def test_an_earlier_outcome_that_arrives_late_changes_nothing(receiver: ReceiverProcess) -> None:
    # The id of an execution can occur again after its record has expired.
    first = execution(Status.FAILED)
    second = replace(execution(finished_at="2026-03-01T00:00:00.000Z"), execution_id=first.execution_id)
    for record in (second, first):
        headers, body = outcome(record)
        assert receiver.post(headers, body) == 204
        receiver.wait_until_processed(headers["webhook-id"])
    assert receiver.result(first.execution_id)["status"] == "COMPLETED"


def test_an_unknown_type_is_accepted_and_an_unknown_status_is_stored(receiver: ReceiverProcess) -> None:
    ids = [f"{name}/{next(NUMBERS)}" for name in ("test", "unknown")]
    for id_, kind in zip(ids, ("waterhook.webhook.test", "waterhook.billing.closed"), strict=True):
        event = {"id": id_, "type": kind, "data": {"anything": 1}}
        assert receiver.post(*sign(json.dumps(event))) == 204
        receiver.wait_until_processed(id_)
    later: dict[str, Any] = {
        "id": f"{next(NUMBERS)}/1/PAUSED",
        "type": "waterhook.execution.paused",
        "time": "2026-01-01T00:01:00.000Z",
        "data": {"execution_id": f"{next(NUMBERS):032x}", "status": "PAUSED", "new": True},
    }
    assert receiver.post(*sign(json.dumps(later))) == 204
    assert receiver.result(later["data"]["execution_id"])["status"] == "PAUSED"


def test_two_secrets_verify_webhooks_before_during_and_after_a_rotation(receiver: ReceiverProcess) -> None:
    for keys in (["key"], ["next key", "key"], ["next key"]):
        assert (
            receiver.post(*sign(b'{"type": "x", "data": {}}', f"rotation/{next(NUMBERS)}", keys=keys)) == 204
        )
    assert receiver.post(*sign(b'{"type": "x", "data": {}}', "rotation/other", keys=["other key"])) == 401


# ---- What is refused ------------------------------------------------------------------------------------------


def test_a_request_without_a_valid_signature_gets_401_and_is_not_stored(receiver: ReceiverProcess) -> None:
    record = execution()
    headers, body = outcome(record)
    old, future = outcome(record, age_s=360)[0], outcome(record, age_s=-360)[0]
    signature = headers["webhook-signature"]
    refused = [
        ({}, body),
        ({"webhook-id": headers["webhook-id"]}, body),
        (headers, body.replace(b"COMPLETED", b"FAILED")),
        (headers, json.dumps(json.loads(body)).encode()),
        (headers, b""),
        (headers, b"\xff\xfe"),
        (headers | {"webhook-id": "another"}, body),
        (outcome(record, keys=["other key"])[0], body),
        (old, body),
        (future, body),
        (headers | {"webhook-timestamp": old["webhook-timestamp"]}, body),
        *(
            (headers | {"webhook-signature": text}, body)
            for text in ("", "v1", "v1,", "v1,!", "v1,é", ",", signature[:-2], signature.replace("v1", "v2"))
        ),
        *((headers | {"webhook-timestamp": text}, body) for text in ("", "now", "nan", "inf", "1e400", "-1")),
    ]
    assert [receiver.post(*one) for one in refused] == [401] * len(refused)
    for reason in ("Missing required headers", "No matching signature found", "timestamp too old", "too new"):
        assert re.search(rf"refused: .*{reason}$", receiver.log, re.MULTILINE)
    assert not is_stored(receiver, headers["webhook-id"])
    assert receiver.post(headers, body) == 204


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b"null", b'{"type": "x"}', b'{"type": 1, "data": {}}', b"[" * 200_000]
)
def test_a_signed_body_that_is_no_event_gets_400(receiver: ReceiverProcess, body: bytes) -> None:
    assert receiver.post(*sign(body, "garbage")) == 400
    assert not is_stored(receiver, "garbage")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_long_gets_413(receiver: ReceiverProcess, is_chunked: bool) -> None:
    headers, body = sign(b'{"type": "x", "data": {}}' + b" " * 256 * 1024, "long")
    assert receiver.post(headers, body, is_chunked=is_chunked) == 413
    assert receiver.post(*sign(body[: 256 * 1024], "long"), is_chunked=is_chunked) == 204


# ---- Once -----------------------------------------------------------------------------------------------------


def test_many_repetitions_of_a_webhook_at_the_same_time_are_processed_once(receiver: ReceiverProcess) -> None:
    headers, body = outcome(execution())
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: receiver.post(headers, body), range(40))) == {204}
    receiver.wait_until_processed(headers["webhook-id"])
    # A later attempt has another timestamp and signature.
    again = sign(body, headers["webhook-id"], age_s=60)
    assert receiver.post(*again) == 204
    after = outcome(execution())
    assert receiver.post(*after) == 204
    receiver.wait_until_processed(after[0]["webhook-id"])
    assert receiver.processed(headers["webhook-id"]) == 1
    assert receiver.execute("SELECT body FROM inbox WHERE id = ?", headers["webhook-id"]) == [{"body": None}]


def test_a_webhook_that_can_not_be_stored_gets_503_so_that_it_is_repeated(receiver: ReceiverProcess) -> None:
    headers, body = outcome(execution())
    receiver.execute("ALTER TABLE inbox RENAME TO moved")
    try:
        assert receiver.post(headers, body) == 503
    finally:
        receiver.execute("ALTER TABLE moved RENAME TO inbox")
    assert receiver.post(headers, body) == 204
    receiver.wait_until_processed(headers["webhook-id"])


def test_work_that_fails_leaves_nothing_and_is_tried_again(receiver: ReceiverProcess) -> None:
    record = execution()
    headers, body = outcome(record)
    receiver.execute(
        f"CREATE TRIGGER broken BEFORE INSERT ON results WHEN new.execution_id = '{record.execution_id}'"
        f" BEGIN SELECT raise(ABORT, '{OUTPUT['private']}'); END"
    )
    try:
        assert receiver.post(headers, body) == 204
        until(lambda: f"failed {headers['webhook-id']} attempt=1" in receiver.log, pause_s=0.01)
    finally:
        receiver.execute("DROP TRIGGER broken")
    assert not is_done(receiver, headers["webhook-id"])
    make_due(receiver)
    assert receiver.result(record.execution_id)["status"] == "COMPLETED"


def test_a_repetition_brings_a_new_link_if_the_first_has_expired(
    receiver: ReceiverProcess, over_tls: Any
) -> None:
    record = execution(final_output_json=None, output_ref="s3://results/output.json")
    routes = {f"{LINK}1": [reply(403, "expired")], f"{LINK}2": [reply(200, OUTPUT)]}
    with ScriptedServer([], context=over_tls, route=lambda one: routes[one.target]) as bucket:
        headers, first = outcome(record, link=f"{bucket.url}{LINK}1")
        assert receiver.post(headers, first) == 204
        until(lambda: f"failed {headers['webhook-id']} attempt=1" in receiver.log, pause_s=0.01)
        # As `waterhook resend` does: the same id, another link.
        assert receiver.post(*outcome(record, link=f"{bucket.url}{LINK}2")) == 204
        make_due(receiver)
        assert json.loads(receiver.result(record.execution_id)["output"]) == OUTPUT


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/", "file:///etc/hostname"])
def test_a_link_without_https_is_not_opened(receiver: ReceiverProcess, link: str) -> None:
    record = execution(final_output_json=None, output_ref="s3://results/output.json")
    headers, body = outcome(record, link=link)
    assert receiver.post(headers, body) == 204
    until(lambda: f"failed {headers['webhook-id']} attempt=1" in receiver.log, pause_s=0.01)


def test_a_redirect_of_a_link_is_not_followed(receiver: ReceiverProcess, over_tls: Any) -> None:
    record = execution(final_output_json=None, output_ref="s3://results/output.json")
    with ScriptedServer(
        [reply(302, headers={"Location": "/other"}), reply(200, OUTPUT)], context=over_tls
    ) as bucket:
        headers, body = outcome(record, link=f"{bucket.url}{LINK}")
        assert receiver.post(headers, body) == 204
        until(lambda: f"failed {headers['webhook-id']} attempt=1" in receiver.log, pause_s=0.01)
    assert [one.target for one in bucket.requests] == [LINK]


def test_after_a_crash_each_stored_event_is_processed_once(
    new_receiver: Callable[[Path], ReceiverProcess], tmp_path: Path, over_tls: Any
) -> None:
    interrupted = execution(final_output_json=None, output_ref="s3://results/output.json")
    waiting, done = execution(), execution()
    receiver = new_receiver(tmp_path)
    with ScriptedServer([stall(60), reply(200, OUTPUT)], context=over_tls) as bucket:
        first, second = outcome(interrupted, link=f"{bucket.url}{LINK}"), outcome(waiting)
        before = outcome(done)
        with receiver:
            assert receiver.post(*before) == 204
            receiver.wait_until_processed(before[0]["webhook-id"])
            assert receiver.post(*first) == 204
            until(lambda: bucket.requests, pause_s=0.01)
            # The worker waits for the output of the first, so this one is only recorded.
            assert receiver.post(*second) == 204
            receiver.kill()
        assert not is_done(receiver, first[0]["webhook-id"])
        assert not is_done(receiver, second[0]["webhook-id"])
        with receiver:
            assert receiver.result(waiting.execution_id)["status"] == "COMPLETED"
            make_due(receiver)
            assert receiver.result(interrupted.execution_id)["status"] == "COMPLETED"
            # The id of an event of the earlier process is still stored.
            assert receiver.post(*before) == 204
            for headers, _ in (first, second, before):
                receiver.wait_until_processed(headers["webhook-id"])
                assert receiver.processed(headers["webhook-id"]) == 1


def test_two_processes_share_the_work(
    new_receiver: Callable[[Path], ReceiverProcess], receiver: ReceiverProcess
) -> None:
    webhooks = [outcome(execution()) for _ in range(40)]
    # The second one uses the same database, and writes to the same log.
    with new_receiver(receiver.database.parent) as second, ThreadPoolExecutor(8) as pool:
        senders = [receiver, second] * 20
        assert set(pool.map(lambda sender, one: sender.post(*one), senders, webhooks)) == {204}
        for headers, _ in webhooks:
            receiver.wait_until_processed(headers["webhook-id"])
            assert receiver.processed(headers["webhook-id"]) == 1


def test_only_the_user_of_the_receiver_can_read_the_stored_events(receiver: ReceiverProcess) -> None:
    files = list(receiver.database.parent.glob("webhooks.sqlite*"))
    assert {oct(path.stat().st_mode & 0o077) for path in files} == {"0o0"}


def test_ids_are_deleted_when_no_repetition_can_arrive_any_more(receiver: ReceiverProcess) -> None:
    for id_, age_s in (("expired", 46 * 86_400), ("remembered", 44 * 86_400)):
        receiver.execute("INSERT INTO inbox VALUES (?, NULL, 1, 0, ?)", id_, time.time() - age_s)
    headers, body = outcome(execution())
    assert receiver.post(headers, body) == 204
    receiver.wait_until_processed(headers["webhook-id"])
    assert not is_stored(receiver, "expired")
    assert is_stored(receiver, "remembered")


@pytest.mark.parametrize("name", ["fastapi", "express"])
def test_a_wrong_secret_is_an_error_that_does_not_show_it(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        command_of(name, tmp_path),
        env={"WEBHOOK_SECRET": "whsec_AAAA another", "DATABASE": str(tmp_path / "webhooks.sqlite")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    expected = "WEBHOOK_SECRET: expected `whsec_…`, which `waterhook webhook-secret HOST` prints.\n"
    assert done.stderr == expected


def test_both_receivers_have_the_same_limits_and_tables() -> None:
    names = ("receiver_fastapi.py", "receiver_express.mjs")
    texts = [
        (ROOT / "docs" / "recipes" / name).read_text(encoding="utf-8").replace("_", "") for name in names
    ]
    for pattern in (
        *(rf"{name} = [\d* ]+\d" for name in ("MAXBODYBYTES", "MAXOUTPUTBYTES", "MAXATTEMPTS", "KEPTS")),
        r"CREATE TABLE IF NOT EXISTS inbox [^;]+;",
        r"CREATE TABLE IF NOT EXISTS results [^;]+;",
    ):
        python, node = ({" ".join(found.split()) for found in re.findall(pattern, text)} for text in texts)
        assert len(python) == 1
        assert python == node
