"""`waterhook list`."""

import json
import time
from datetime import datetime
from urllib.parse import parse_qsl

import pytest

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


def query(stack: DeployedStack) -> dict[str, str]:
    return dict(parse_qsl(stack.api_requests[-1].target.partition("?")[2]))


def test_each_filter_is_a_parameter_of_the_api(stack: DeployedStack) -> None:
    stack.api_responses = [page(next_page=None)]
    options = ["--status", "failed", "--chatbot", "a bot", "--trigger", "STATE_MACHINE", "--mine"]
    times = ["--after", "2026-01-31", "--before", "2026-01-31T10:00+01:00"]
    assert run("list", *options, *times, on=stack).exit_code == 0
    assert query(stack) == {
        "limit": "100",
        "status": "FAILED",
        "chatbot_id": "a bot",
        "trigger": "state_machine",
        "accepted_after": "2026-01-31T00:00:00.000Z",
        "accepted_before": "2026-01-31T09:00:00.000Z",
        "caller": "me",
    }
    run("list", "--caller", "arn:aws:iam::123456789012:role/shop", "--after", "2h", on=stack)
    assert query(stack)["caller"] == "arn:aws:iam::123456789012:role/shop"
    age_s = time.time() - datetime.fromisoformat(query(stack)["accepted_after"]).timestamp()
    assert 7199 < age_s < 7300


@pytest.mark.parametrize(
    "options", [["--mine", "--caller", "x"], ["--trigger", "cron"], ["--after", "yesterday"]]
)
def test_a_wrong_filter_is_a_usage_error_before_any_call(stack: DeployedStack, options: list[str]) -> None:
    assert run("list", *options, on=stack).exit_code == 2
    assert stack.access_keys == set()


def test_the_table_has_callers_only_for_an_operator_and_text_has_always_the_same_columns(
    stack: DeployedStack,
) -> None:
    entry = {"execution_id": "a", "status": "FAILED", "created_at": "2026-01-01T00:00:00Z", "chatbot_id": "b"}
    mine, all_of_them = [entry | {"trigger": "api"}], [entry | {"trigger": "api", "caller": "arn:shop"}]
    stack.api_responses = [
        (200, {"executions": entries, "next": None}) for entries in (mine, all_of_them) * 2
    ]
    tables = [run("list", "--output", "table", on=stack).stdout.splitlines() for _ in range(2)]
    texts = [run("list", on=stack).stdout for _ in range(2)]
    assert [lines[0].split()[-1] for lines in tables] == ["TRIGGER", "CALLER"]
    assert texts == [
        "a\tFAILED\t2026-01-01T00:00:00Z\tb\tapi\t\n",
        "a\tFAILED\t2026-01-01T00:00:00Z\tb\tapi\tarn:shop\n",
    ]


def test_an_empty_list_explains_what_is_listed(stack: DeployedStack) -> None:
    stack.api_responses = [page(next_page=None)]
    assert "No executions. You see those that you started" in run("list", on=stack).stderr
    assert "No executions that match." in run("list", "--status", "failed", on=stack).stderr
