"""Watching an execution: until it ends, through bad minutes, on a terminal and in a log."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from tests.support.clock import Clock
from tests.support.deployed import document
from waterhook_cli.api_client import Document
from waterhook_cli.errors import ExitCode, Problem, Refused
from waterhook_cli.follow import Bar, Lines, nodes_of, pace_s, percent_of, watched
from waterhook_cli.output import Output

AWAY = Problem(ExitCode.UNAVAILABLE, "the API can't be reached")
GONE = Problem(ExitCode.NOT_FOUND, "no execution")


def told(status: str = "RUNNING", **changes: Any) -> Document:
    return Document.read(json.dumps(document(status, **changes)))


class Api:
    """Answers in order; the last one is repeated."""

    def __init__(self, *answers: Document | Problem) -> None:
        self._answers = list(answers)
        self.asked = 0

    def __call__(self) -> Document:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Problem):
            raise answer
        return answer


def watch(api: Api) -> Document:
    clock = Clock()
    return watched(api, Lines(clock), Output(), clock=clock, pause=clock.advance)


def test_it_is_watched_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(
        told("ACCEPTED"),
        told(completed_nodes=0, total_nodes=3, current_node="node-1"),
        told(completed_nodes=0, total_nodes=3, current_node="node-1"),
        told(completed_nodes=2, total_nodes=3),
        told("FAILED"),
    )
    assert watch(api).status == "FAILED"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "   0.0 s  ACCEPTED",
        "   1.0 s  RUNNING    0 %  0/3 nodes, at node-1",
        "   3.0 s  RUNNING    67 %  2/3 nodes",
        "   4.0 s  FAILED",
    ]


def test_an_api_that_is_away_for_a_while_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(told(), AWAY, AWAY, AWAY, told(), AWAY, told("COMPLETED"))
    assert watch(api).status == "COMPLETED"
    # Once each time, not with every question.
    assert capsys.readouterr().err.count("the API can't be reached; still asking") == 2


def test_an_api_that_stays_away_is_given_up() -> None:
    with pytest.raises(Problem, match="can't be reached"):
        watch(Api(told(), AWAY))


def test_an_execution_that_is_gone_is_not_waited_for() -> None:
    api = Api(told(), GONE)
    with pytest.raises(Problem, match="no execution"):
        watch(api)
    assert api.asked == 2


def test_whoever_is_not_let_in_is_not_kept_waiting() -> None:
    api = Api(Refused(ExitCode.UNAVAILABLE, "the API does not let you in"))
    with pytest.raises(Refused):
        watch(api)
    assert api.asked == 1


def test_a_status_of_a_later_version_is_taken_for_one_that_goes_on() -> None:
    assert watch(Api(told("PONDERING"), told("COMPLETED"))).status == "COMPLETED"


def test_questions_become_rarer_with_age() -> None:
    paces = [pace_s(age) for age in (0, 50, 100, 200, 10_000)]
    assert paces == [1, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("fields", "percent", "nodes"),
    [
        ({}, None, ""),
        ({"progress": 33.3}, 33.3, ""),
        ({"progress": 120}, 100.0, ""),
        ({"progress": "half"}, None, ""),
        ({"progress": 10, "completed_nodes": 1, "total_nodes": 2}, 50.0, "1/2 nodes"),
        ({"completed_nodes": None, "total_nodes": 2, "current_node": "a"}, None, "0/2 nodes, at a"),
        ({"completed_nodes": 1, "total_nodes": 0}, None, "1/0 nodes"),
        ({"status": "COMPLETED", "completed_nodes": 1, "total_nodes": 2}, 100.0, "1/2 nodes"),
    ],
)
def test_progress_is_what_can_be_known(fields: dict[str, Any], percent: float | None, nodes: str) -> None:
    assert percent_of(fields) == percent
    assert nodes_of(fields) == nodes


def test_the_bar_fits_the_screen_whatever_the_node_is_called() -> None:
    paper = Console(file=io.StringIO(), width=80, color_system=None)
    with Bar(Console(file=io.StringIO(), force_terminal=True)) as bar:
        bar.show(told("ACCEPTED"))
        bar.show(told(completed_nodes=99, total_nodes=100, current_node="[b]" + "long" * 50))
        with paper.capture() as captured:
            paper.print(bar.picture)
    (line,) = captured.get().splitlines()
    assert line.startswith("RUNNING ")
    assert "99 %  99/100 nodes, at [b]longl..." in line
    assert len(line) <= 80
