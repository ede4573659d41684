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


def test_every_status_has_its_row_and_follows_what_there_is() -> None:
    rows = table(DOCUMENT, "Status")
    assert [row[0] for row in rows] == [str(status) for status in Status]
    assert {name for row in rows for name in names(row[2])} <= {str(status) for status in Status}
