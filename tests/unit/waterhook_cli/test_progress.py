"""The progress of an execution on standard error."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from tests.fakes.deployed_stack import status_document
from waterhook_cli.api_client import ApiResponse
from waterhook_cli.progress import ProgressBar, nodes_text, percent_of


def response(status: str = "RUNNING", **changes: Any) -> ApiResponse:
    return ApiResponse.parse(json.dumps(status_document(status, **changes)))


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
def test_progress_is_computed_from_nodes_or_taken_from_waterflai(
    fields: dict[str, Any], percent: float | None, nodes: str
) -> None:
    assert percent_of(fields) == percent
    assert nodes_text(fields) == nodes


def test_the_bar_fits_80_columns_with_any_node_name() -> None:
    terminal = Console(file=io.StringIO(), width=80, color_system=None)
    with ProgressBar(Console(file=io.StringIO(), force_terminal=True)) as bar:
        bar.show(response("ACCEPTED"))
        bar.show(response(completed_nodes=99, total_nodes=100, current_node="[b]" + "long" * 50))
        with terminal.capture() as captured:
            terminal.print(bar.renderable)
    (line,) = captured.get().splitlines()
    assert line.startswith("RUNNING ")
    assert "99 %  99/100 nodes, at [b]longl..." in line
    assert len(line) <= 80
