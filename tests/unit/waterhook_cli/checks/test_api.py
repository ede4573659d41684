"""The check of the stack's API."""

import pytest

from tests.fakes.scripted_server import ScriptedServer, Step, hang_up, reply
from tests.unit.waterhook_cli.checks.helpers import OK, PROBLEM, WARNING, only
from waterhook_cli.api_client import ApiClient, http_sender
from waterhook_cli.checks.api import check_api
from waterhook_cli.checks.finding import Finding


def findings(*answers: Step) -> list[Finding]:
    with ScriptedServer(list(answers)) as server:
        api = ApiClient(
            server.url, lambda request: None, http_sender(server.url, 1), sleep=lambda seconds: None
        )
        return list(check_api(api))


def test_an_api_that_answers_is_ok() -> None:
    assert only(findings(reply(200, {"executions": [], "next": None}))).level == OK


def test_denied_access_to_the_api_is_a_warning() -> None:
    finding = only(findings(reply(403, {"message": "Missing Authentication Token"})))
    assert (finding.level, "ApiInvokeArn" in finding.hint) == (WARNING, True)


@pytest.mark.parametrize("answer", [reply(500, {"message": "Internal server error"}), hang_up])
def test_an_api_that_fails_is_a_problem(answer: Step) -> None:
    assert only(findings(answer)).level == PROBLEM
