"""Following an execution until it is final."""

import json
from typing import Any

import pytest

from tests.fakes.clock import Clock
from tests.fakes.deployed_stack import status_document
from waterhook_cli.api_client import ApiResponse
from waterhook_cli.errors import AccessDeniedError, CommandError, ExitCode
from waterhook_cli.follow_execution import poll_interval_s, poll_until_final
from waterhook_cli.output import Output
from waterhook_cli.progress import ProgressLines

UNREACHABLE = CommandError(ExitCode.UNAVAILABLE, "the API can't be reached")
NOT_FOUND = CommandError(ExitCode.NOT_FOUND, "no execution")


def response(status: str = "RUNNING", **changes: Any) -> ApiResponse:
    return ApiResponse.parse(json.dumps(status_document(status, **changes)))


class ScriptedStatus:
    """Returns or raises one result after another; the last one is repeated."""

    def __init__(self, *results: ApiResponse | CommandError) -> None:
        self._results = list(results)
        self.calls = 0

    def __call__(self) -> ApiResponse:
        self.calls += 1
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, CommandError):
            raise result
        return result


def follow(read_status: ScriptedStatus) -> ApiResponse:
    clock = Clock()
    return poll_until_final(read_status, ProgressLines(clock), Output(), clock=clock, sleep=clock.advance)


def test_each_change_is_printed_until_the_status_is_final(capsys: pytest.CaptureFixture[str]) -> None:
    read_status = ScriptedStatus(
        response("ACCEPTED"),
        response(completed_nodes=0, total_nodes=3, current_node="node-1"),
        response(completed_nodes=0, total_nodes=3, current_node="node-1"),
        response(completed_nodes=2, total_nodes=3),
        response("FAILED"),
    )
    assert follow(read_status).status == "FAILED"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "   0.0 s  ACCEPTED",
        "   1.0 s  RUNNING    0 %  0/3 nodes, at node-1",
        "   3.0 s  RUNNING    67 %  2/3 nodes",
        "   4.0 s  FAILED",
    ]


def test_an_api_that_is_unavailable_for_a_while_is_polled_again(capsys: pytest.CaptureFixture[str]) -> None:
    read_status = ScriptedStatus(
        response(), UNREACHABLE, UNREACHABLE, UNREACHABLE, response(), UNREACHABLE, response("COMPLETED")
    )
    assert follow(read_status).status == "COMPLETED"
    # Once for each interruption, not for each poll.
    assert capsys.readouterr().err.count("the API can't be reached; trying again") == 2


def test_an_api_that_stays_unavailable_ends_following() -> None:
    with pytest.raises(CommandError, match="can't be reached"):
        follow(ScriptedStatus(response(), UNREACHABLE))


def test_an_execution_that_no_longer_exists_ends_following() -> None:
    read_status = ScriptedStatus(response(), NOT_FOUND)
    with pytest.raises(CommandError, match="no execution"):
        follow(read_status)
    assert read_status.calls == 2


def test_denied_access_ends_following() -> None:
    read_status = ScriptedStatus(AccessDeniedError(ExitCode.UNAVAILABLE, "the API denied access"))
    with pytest.raises(AccessDeniedError):
        follow(read_status)
    assert read_status.calls == 1


def test_a_status_of_a_newer_version_is_not_final() -> None:
    assert follow(ScriptedStatus(response("PONDERING"), response("COMPLETED"))).status == "COMPLETED"


def test_the_interval_grows_with_the_age() -> None:
    assert [poll_interval_s(age) for age in (0, 50, 100, 200, 10_000)] == [1, 1, 2, 4, 5]
