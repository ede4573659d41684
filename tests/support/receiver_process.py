"""The receivers of docs/recipes as processes on the loopback interface."""

import http.client
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from local.local_aws.environment import ROOT
from tests.support.node import NODE, NODE_PACKAGES
from tests.support.waiting import until

RECIPES = ROOT / "docs" / "recipes"
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


def command_of(name: str, folder: Path) -> list[str]:
    """Return the command that runs a receiver. Skips the test if its npm packages are not installed."""
    if name == "fastapi":
        return [sys.executable, str(RECIPES / "receiver_fastapi.py")]
    if not (NODE_PACKAGES / "express").is_dir():
        pytest.skip("the npm packages are not installed: `make setup` installs them from the npm registry")
    # Node.js searches the packages in the folders above the module.
    shutil.copy(RECIPES / "receiver_express.mjs", folder)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(NODE_PACKAGES)
    return [str(NODE), str(folder / "receiver_express.mjs")]


class ReceiverProcess:
    """A receiver that stores its events in `folder`. Use it in a `with` statement."""

    def __init__(self, name: str, folder: Path, secret: str, authority: Path) -> None:
        """`authority` is the certificate authority, in PEM format, that the receiver trusts."""
        self._command = command_of(name, folder)
        self._log = folder / "log.txt"
        self.database = folder / "webhooks.sqlite"
        self._env = {
            "PATH": os.defpath,
            "PORT": "0",
            "DATABASE": str(self.database),
            "WEBHOOK_SECRET": secret,
            "SSL_CERT_FILE": str(authority),
            "NODE_EXTRA_CA_CERTS": str(authority),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        # A receiver that starts again adds to the log.
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log)

        def port() -> int:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            found = _URL.search(self.log[begin:])
            return int(found[1]) if found else 0

        self._port = until(port, pause_s=0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End the process immediately, as a crash does."""
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        """What the receiver has written to its standard output and standard error."""
        return self._log.read_text(encoding="utf-8")

    def processed(self, event_id: str) -> int:
        """Return how often the receiver has finished its work on an event."""
        return sum(line.endswith(f"processed {event_id}") for line in self.log.splitlines())

    def post(self, headers: Mapping[str, str], body: bytes, *, is_chunked: bool = False) -> int:
        """Send a webhook and return the status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with closing(connection):
            content = iter([body[:9], body[9:]]) if is_chunked else body
            connection.request("POST", "/waterhook", content, dict(headers), encode_chunked=is_chunked)
            return connection.getresponse().status

    def execute(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Run a statement on the database of the receiver, and return its rows."""
        with closing(sqlite3.connect(self.database, timeout=5)) as database, database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values)]

    def result(self, execution_id: str) -> dict[str, Any]:
        """Return the row of an execution, as soon as there is one."""
        found = until(
            lambda: self.execute("SELECT * FROM results WHERE execution_id = ?", execution_id), pause_s=0.01
        )
        return found[0]

    def wait_until_processed(self, event_id: str) -> None:
        """Wait until the work on an event is done."""
        until(lambda: self.processed(event_id), pause_s=0.01)
