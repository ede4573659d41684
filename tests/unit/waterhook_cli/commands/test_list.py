"""`waterhook list`."""

import json

from tests.fakes.deployed_stack import ApiResponse, DeployedStack
from tests.unit.waterhook_cli.command_line import run


def page(*ids: str, next_page: str | None) -> ApiResponse:
    entries = [
        {"execution_id": one, "status": "FAILED", "created_at": "2026-01-01T00:00:00.000Z"} for one in ids
    ]
    return 200, {"executions": entries, "next": next_page}


PAGES = [page("a", "b", next_page="two"), page(next_page="three="), page("c", "d", next_page=None)]


def test_pages_are_read_until_the_limit_is_reached(stack: DeployedStack) -> None:
    stack.api_responses = [*PAGES]
    printed = json.loads(run("list", "--limit", "3", "--status", "failed", "--json", on=stack).stdout)
    assert [entry["execution_id"] for entry in printed["executions"]] == ["a", "b", "c"]
    assert printed["more"] is True
    assert [request.target.partition("?")[2] for request in stack.api_requests] == [
        "limit=100&status=FAILED",
        "limit=100&status=FAILED&next=two",
        "limit=100&status=FAILED&next=three%3D",
    ]


def test_all_reads_every_page(stack: DeployedStack) -> None:
    stack.api_responses = [*PAGES]
    assert len(run("list", "--all", on=stack).stdout.splitlines()) == 4


def test_a_list_that_the_limit_cuts_prints_that_there_are_more(stack: DeployedStack) -> None:
    stack.api_responses = [*PAGES]
    assert "There are more" in run("list", "--limit", "1", on=stack).stderr


def test_a_limit_out_of_range_is_a_usage_error(stack: DeployedStack) -> None:
    assert run("list", "--limit", "9" * 30, on=stack).exit_code == 2
