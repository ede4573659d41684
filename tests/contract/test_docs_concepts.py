"""docs/concepts.md shows the states, the parts and the statuses that the code has."""

import re

import pytest

from local import state_machine_diagram
from tests.contract.markdown import fences, names, table
from tests.contract.template import ROOT, definition
from waterhook.domain.status import Status

DOCUMENT = state_machine_diagram.DOCUMENT.read_text(encoding="utf-8")


def test_the_diagram_is_that_of_the_state_machine() -> None:
    assert state_machine_diagram.update_document(DOCUMENT, definition()) == DOCUMENT, "run `make diagram`"


def test_the_diagram_shows_every_state_and_every_transition() -> None:
    drawn = state_machine_diagram.mermaid(definition())
    states = definition()["States"]
    assert all(f'"{name}"' in drawn for name in states)
    transitions = sum(
        len(state.get("Choices", [])) + len(state.get("Catch", [])) + ("Next" in state) + ("Default" in state)
        for state in states.values()
    )
    assert drawn.count("->") == transitions + 1  # and the arrow to the first state


def test_an_added_transition_changes_the_diagram() -> None:
    changed = definition()
    changed["States"]["Poll"]["Catch"].append({"ErrorEquals": ["States.ALL"], "Next": "Wait"})
    assert state_machine_diagram.update_document(DOCUMENT, changed) != DOCUMENT


def test_a_document_without_a_place_for_the_diagram_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the comments"):
        state_machine_diagram.update_document("# Architecture", definition())


def test_a_sequence_diagram_uses_no_keyword_as_a_name() -> None:
    """GitHub would show an error instead of the diagram."""
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
            if message := re.fullmatch(r"    (\w+)(?:->>|-->>|--x)(\w+): [^;#]+", line):
                assert {message[1], message[2]} <= declared, line
            else:
                assert re.match(r"    (participant|actor|Note over) ", line), line


def test_each_function_is_listed() -> None:
    functions = {f"functions/{path.parent.name}" for path in (ROOT / "functions").glob("*/app.py")}
    listed = {row[0] for row in table(DOCUMENT, "Part")}
    assert {name for name in listed if name.startswith("functions/")} == functions
    assert all((ROOT / name).exists() for name in listed)


def test_each_status_is_listed_with_the_statuses_before_it() -> None:
    rows = table(DOCUMENT, "Status")
    assert [row[0] for row in rows] == [str(status) for status in Status]
    assert {name for row in rows for name in names(row[2])} <= {*map(str, Status), "AT_LEAST_ONCE"}
