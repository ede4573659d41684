"""Receiver of Waterhook's webhooks with FastAPI. It verifies, stores, answers, and works afterwards.

    python -m pip install "fastapi>=0.115,<1" "uvicorn>=0.30,<1" "standardwebhooks>=1.1,<2"
    WEBHOOK_SECRET="whsec_…" python receiver_fastapi.py

Run it behind a proxy that terminates TLS. Replace `save()` with your own work.
"""

import json
import logging
import os
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from threading import Event, Thread
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

MAX_BODY_BYTES = 256 * 1024
MAX_OUTPUT_BYTES = 50 * 1024 * 1024  # the longest output that Waterhook stores
MAX_ATTEMPTS = 12  # about six hours; after them the event stays in the table with its body
FIRST_RETRY_S, LONGEST_RETRY_S = 60, 3600
# Longer than records are stored (RecordRetentionDays, 30): until then `waterhook resend` can send an event again.
KEPT_S = 45 * 86_400
SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS inbox (
        id TEXT PRIMARY KEY, body TEXT, attempts INTEGER NOT NULL, due_at REAL NOT NULL, done_at REAL);
    CREATE INDEX IF NOT EXISTS inbox_due ON inbox (due_at) WHERE done_at IS NULL;
    CREATE INDEX IF NOT EXISTS inbox_done ON inbox (done_at);
    CREATE TABLE IF NOT EXISTS results (
        execution_id TEXT PRIMARY KEY, status TEXT, time TEXT, sequence INTEGER, error TEXT, output TEXT);
"""
log = logging.getLogger("receiver")


# ---- Your work ------------------------------------------------------------------------------------------------


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: a link to an output has none."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request that follows."""


opener = urllib.request.build_opener(NoRedirect)


def fetch_output(event: dict[str, Any]) -> str | None:
    """Return the output as JSON text; None without one, and for `thin`: read it with GET of the API.

    Raises OSError or ValueError if the link can't be read. Put slow work here, before the transaction of `save()`.
    It may run again after a crash: pass `event["id"]` on as the idempotency key.
    """
    data = event["data"]
    url = data.get("final_output_url")
    if not url:  # the output has at most 32 KiB, or there is none
        return (
            None if data.get("final_output") is None else json.dumps(data["final_output"], ensure_ascii=False)
        )
    if not url.startswith("https://"):
        raise ValueError("data.final_output_url: expected an https URL")
    with opener.open(url, timeout=30) as answer:
        content: bytes = answer.read(MAX_OUTPUT_BYTES + 1)
    if len(content) > MAX_OUTPUT_BYTES:
        raise ValueError(f"the output is longer than {MAX_OUTPUT_BYTES} bytes")
    return content.decode()


def save(event: dict[str, Any], output: str | None, database: sqlite3.Connection) -> None:
    """Write the result of one event. All writes to `database` are committed together with its mark `done_at`."""
    data, kind = event["data"], event["type"]
    if kind == "waterhook.execution.progress":
        # Events arrive in any order: an older one changes nothing, and none changes an outcome.
        row = (data["execution_id"], data["status"], event["time"], data["sequence"])
        database.execute(
            "INSERT INTO results (execution_id, status, time, sequence) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET time = excluded.time, sequence = excluded.sequence"
            " WHERE status = 'RUNNING' AND sequence < excluded.sequence",
            row,
        )
    elif kind.startswith("waterhook.execution."):
        # The status may be one that this code does not have: store it, and treat it as not completed.
        error = (data.get("error") or {}).get("code") or data.get("output_error")
        database.execute(
            "INSERT INTO results (execution_id, status, time, error, output) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET status = excluded.status, time = excluded.time, error = excluded.error,"
            " output = excluded.output WHERE status = 'RUNNING' OR time <= excluded.time",
            (data["execution_id"], data["status"], event["time"], error, output),
        )
    # Other types, such as waterhook.webhook.test, and those of later versions need no work.


# ---- Inbox ----------------------------------------------------------------------------------------------------


class Inbox:
    """Stores each event once, under its webhook-id, and gives it to one worker at a time."""

    def __init__(self, path: str) -> None:
        """Create the tables if they do not exist."""
        self._path = path
        with closing(self.connect()) as database:
            database.executescript(SCHEMA)

    def connect(self) -> sqlite3.Connection:
        """Return a new connection. It waits at most 5 s for the lock of another."""
        return sqlite3.connect(self._path, timeout=5)

    def put(self, id_: str, body: str) -> None:
        """Store an event. A repetition replaces the body until the work is done: its link to the output is new."""
        with closing(self.connect()) as database, database:
            database.execute(
                "INSERT INTO inbox (id, body, attempts, due_at) VALUES (?, ?, 0, ?)"
                " ON CONFLICT DO UPDATE SET body = excluded.body, attempts = 0 WHERE done_at IS NULL",
                (id_, body, time.time()),
            )

    def work(self) -> bool:
        """Work on one event that is due. Return whether there was one.

        Its next attempt is set before it begins: after a crash or an exception, the event is due again then.
        """
        now = time.time()
        with closing(self.connect()) as database:
            with database:
                claimed = database.execute(
                    "UPDATE inbox SET attempts = attempts + 1, due_at = ? + min(?, ? * (1 << attempts))"
                    " WHERE id = (SELECT id FROM inbox WHERE done_at IS NULL AND due_at <= ? AND attempts < ?"
                    " ORDER BY due_at LIMIT 1) RETURNING id, body, attempts",
                    (now, LONGEST_RETRY_S, FIRST_RETRY_S, now, MAX_ATTEMPTS),
                ).fetchall()
            if not claimed:
                return False
            ((id_, body, attempts),) = claimed
            try:
                event = json.loads(body)
                output = fetch_output(event)
                with database:
                    # Only the first of two workers marks it, if the work of one took longer than its retry.
                    if database.execute(
                        "UPDATE inbox SET done_at = ?, body = NULL WHERE id = ? AND done_at IS NULL",
                        (now, id_),
                    ).rowcount:
                        save(event, output, database)
                    database.execute("DELETE FROM inbox WHERE done_at < ?", (now - KEPT_S,))
            except Exception as error:  # noqa: BLE001  # one bad event must not stop the others
                # Not the text of the error: it may contain the link or the output.
                log.error("failed %s attempt=%d error=%s", id_, attempts, type(error).__name__)  # noqa: TRY400
            else:
                log.info("processed %s", id_)
            return True


class Worker(Thread):
    """Works on events in the background. What is unfinished when the process ends is in the inbox."""

    def __init__(self, inbox: Inbox) -> None:
        """Create a thread that does not keep the process alive."""
        super().__init__(daemon=True)
        self._inbox = inbox
        self.wake = Event()

    def run(self) -> None:
        """Work until the process ends. Look for retries each second."""
        while True:
            self.wake.clear()
            try:
                while self._inbox.work():
                    pass
            except sqlite3.Error as error:
                log.error("inbox: %s", error)  # noqa: TRY400
            self.wake.wait(1)


# ---- HTTP -----------------------------------------------------------------------------------------------------


def read_secrets(text: str) -> list[Webhook]:
    """Return a verifier for each secret, separated by spaces. Two are useful while secrets are rotated.

    Raises SystemExit if there is none, or if one is not a secret of Waterhook.
    """
    secrets = text.split()
    if not secrets or not all(secret.startswith("whsec_") for secret in secrets):
        raise SystemExit("WEBHOOK_SECRET: expected `whsec_…`, which `waterhook webhook-secret HOST` prints.")
    return [Webhook(secret) for secret in secrets]


def refusal_of(webhooks: Iterable[Webhook], body: bytes, headers: Mapping[str, str]) -> str | None:
    """Return why a request is refused; None if one of the secrets signed these bytes at most five minutes ago."""
    reason = None
    for webhook in webhooks:
        try:
            webhook.verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError as error:
            reason = str(error)
        except ValueError:
            reason = "a malformed header, or a body that is not UTF-8"
        else:
            return None
    return reason


async def raw_body(request: Request) -> bytes:
    """Return the body as it arrived. JSON that is parsed and written again has another signature."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413)
    return body


def create_app() -> FastAPI:
    """Return the application. It reads WEBHOOK_SECRET, and DATABASE: the path of the SQLite file."""
    webhooks = read_secrets(os.environ.get("WEBHOOK_SECRET", ""))
    os.umask(0o077)  # the database has the data of customers: only this user may read it
    inbox = Inbox(os.environ.get("DATABASE", "webhooks.sqlite"))
    worker = Worker(inbox)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/waterhook")
    def receive(request: Request, body: Annotated[bytes, Depends(raw_body)]) -> Response:
        """Answer 2xx only if the event is stored, also if it was stored before. Waterhook repeats all else."""
        if reason := refusal_of(webhooks, body, request.headers):
            log.warning("refused: %s", reason)
            return Response(status_code=401)
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            event = None
        if not (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("data"), dict)
        ):
            log.warning("refused: signed, but no event")
            return Response(status_code=400)
        try:
            inbox.put(request.headers["webhook-id"], body.decode())
        except sqlite3.Error as error:
            log.error("not stored: %s", error)  # noqa: TRY400
            return Response(status_code=503)
        worker.wake.set()
        return Response(status_code=204)

    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # No access log, because it would contain the query of the URL, which may be a token.
    uvicorn.run(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")), access_log=False)
