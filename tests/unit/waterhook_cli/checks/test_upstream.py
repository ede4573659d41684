"""The check of Waterflai's address and of the key."""

from typing import Any

import pytest

from tests.fakes.aws import Secret
from tests.fakes.scripted_server import ScriptedServer, closed_port, raw, reply, stall
from tests.support.builders import KEY
from tests.unit.waterhook_cli.checks.helpers import NOTE, OK, PROBLEM, WARNING, only
from waterhook_cli.api_client import http_sender
from waterhook_cli.checks.finding import Level
from waterhook_cli.checks.upstream import check_upstream

NOT_FOUND = reply(404, {"detail": "Execution not found"})


@pytest.mark.parametrize(
    ("answer", "level", "message"),
    [
        (NOT_FOUND, OK, "responds and accepts the key"),
        (reply(401, {"detail": "invalid"}), PROBLEM, "rejects the key (401)"),
        (reply(403, b"<html>"), PROBLEM, "rejects the key (403)"),
        (
            reply(404, b"<html>", {"Content-Type": "text/html"}),
            WARNING,
            "returns status 404. Waterflai returns",
        ),
        (reply(200, {}), WARNING, "returns status 200. Waterflai returns"),
        (reply(503, b"", {"Retry-After": "1"}), WARNING, "is unavailable: it returns status 503"),
        (reply(429), WARNING, "is unavailable: it returns status 429"),
        (reply(302, b"", {"Location": "http://127.0.0.1:1/"}), PROBLEM, "redirects to another URL (302)"),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), PROBLEM, "does not respond"),
        (stall(), PROBLEM, "does not respond"),
    ],
)
def test_each_answer_of_waterflai_has_its_finding(
    secret: Secret, answer: Any, level: Level, message: str
) -> None:
    with ScriptedServer([answer]) as server:
        finding = only(check_upstream(server.url, http_sender(server.url, 1), secret.client, secret.arn))
    assert (finding.level, message in finding.message) == (level, True), finding
    assert KEY not in finding.message + finding.hint
    assert server.requests[0].headers["x-api-key"] == KEY
    assert server.requests[0].method == "GET"


def test_without_a_key_an_answer_is_enough(secret: Secret) -> None:
    secret.rotate(" ")
    with ScriptedServer([reply(401)]) as server:
        finding = only(check_upstream(server.url, http_sender(server.url, 1), secret.client, secret.arn))
    assert finding.level == NOTE


def test_a_refused_connection_is_a_problem(secret: Secret) -> None:
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        finding = only(check_upstream(url, http_sender(url, 1), secret.client, secret.arn))
    assert finding.level == PROBLEM
    assert "can't be reached: the connection fails" in finding.message


def test_a_host_without_an_address_is_a_problem(secret: Secret) -> None:
    url = "http://nowhere.invalid"
    finding = only(check_upstream(url, http_sender(url, 1), secret.client, secret.arn))
    assert finding.message == "nowhere.invalid has no address in DNS"
