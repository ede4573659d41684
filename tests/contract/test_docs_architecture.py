"""docs/architecture.md shows the state machine, the parts and the writes that there are."""

import ast
import inspect
import re
import textwrap
import tomllib
from typing import Any

import pytest

from local import state_machine_diagram
from tests.contract.markdown import fences, names, table
from tests.contract.template import ROOT, definition
from waterhook.domain.status import Status
from waterhook.storage import executions_table
from waterhook.storage.executions_table import ExecutionsTable

PACKAGE = ROOT / "layers" / "waterhook" / "waterhook"
DOCUMENT = state_machine_diagram.DOCUMENT.read_text(encoding="utf-8")
CONDITIONS = {
    name
    for name, value in vars(executions_table).items()
    if isinstance(value, str) and name.islower() and not name.startswith("_")
}


def conditions_of(method: Any) -> set[str]:
    """The named conditions that a write is made under."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & CONDITIONS


def test_the_diagram_is_that_of_the_state_machine() -> None:
    assert state_machine_diagram.update_document(DOCUMENT, definition()) == DOCUMENT, "run `make diagram`"


def test_the_diagram_shows_every_state_and_every_transition() -> None:
    drawn = state_machine_diagram.mermaid(definition())
    states = definition()["States"]
    assert all(f'"{name}"' in drawn for name in states)
    ways = sum(
        len(state.get("Choices", [])) + len(state.get("Catch", [])) + ("Next" in state) + ("Default" in state)
        for state in states.values()
    )
    assert drawn.count("->") == ways + 1  # and the way in


def test_an_added_transition_changes_the_diagram() -> None:
    changed = definition()
    changed["States"]["Poll"]["Catch"].append({"ErrorEquals": ["States.ALL"], "Next": "Wait"})
    assert state_machine_diagram.update_document(DOCUMENT, changed) != DOCUMENT


def test_a_document_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the comments"):
        state_machine_diagram.update_document("# Architecture", definition())


def test_a_diagram_has_no_word_that_its_grammar_takes_for_its_own() -> None:
    """GitHub shows an error instead of such a diagram, and no tool here would."""
    drawn = [fence.text for fence in fences(DOCUMENT, "mermaid")]
    diagrams = [
        text.removeprefix("sequenceDiagram\n") for text in drawn if text.startswith("sequenceDiagram")
    ]
    assert len(diagrams) == 4
    for diagram in diagrams:
        declared = set(re.findall(r"(?:participant|actor) (\w+)", diagram))
        assert not declared & {
            "loop",
            "alt",
            "else",
            "opt",
            "par",
            "and",
            "end",
            "rect",
            "note",
            "break",
            "critical",
        }
        for line in diagram.splitlines():
            if said := re.fullmatch(r"    (\w+)(?:->>|-->>|--x)(\w+): [^;#]+", line):
                assert {said[1], said[2]} <= declared, line
            else:
                assert re.match(r"    (participant|actor|Note over) ", line), line


def test_every_function_is_among_the_parts() -> None:
    functions = {f"functions/{path.parent.name}" for path in (ROOT / "functions").glob("*/app.py")}
    listed = {row[0] for row in table(DOCUMENT, "Part")}
    assert {name for name in listed if name.startswith("functions/")} == functions
    assert all((ROOT / name).exists() for name in listed)


def test_the_modules_of_the_package_are_listed_in_the_order_in_which_their_imports_point() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    listed = [row[0].rstrip("/").removesuffix(".py") for row in table(DOCUMENT, "Module")]
    assert listed == [name.strip() for layer in layers for name in layer.split("|")]


def test_every_file_in_the_list_of_modules_exists() -> None:
    listed = [
        PACKAGE / folder / name
        for folder, text in table(DOCUMENT, "Module")
        for name in names(text)
        if name.endswith(".py")
    ]
    assert len(listed) > 30
    assert [path for path in listed if not path.is_file()] == []


def test_a_place_to_start_a_change_is_a_file_that_holds_what_is_named() -> None:
    for _, place, _ in table(DOCUMENT, "To change"):
        path, *held = names(place)
        if path != "waterhook_cli/commands/NAME.py":
            (file,) = (found for found in (ROOT / path, PACKAGE / path) if found.is_file())
            assert all(name in file.read_text(encoding="utf-8") for name in held), place


def test_every_status_has_its_row_and_follows_what_there_is() -> None:
    rows = table(DOCUMENT, "Status")
    assert [row[0] for row in rows] == [str(status) for status in Status]
    assert {name for row in rows for name in names(row[2])} <= {str(status) for status in Status}


def test_every_write_is_listed_with_the_conditions_it_is_made_under() -> None:
    writes = {
        name: used
        for name, method in vars(ExecutionsTable).items()
        if callable(method) and (used := conditions_of(method))
    }
    listed = {row[0]: set(names(row[2])) & CONDITIONS for row in table(DOCUMENT, "Write")}
    assert listed == writes
    assert set().union(*writes.values()) == CONDITIONS
