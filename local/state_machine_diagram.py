"""The picture of the state machine in docs/architecture.md, drawn from its definition: `make diagram` redraws it."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from local.local_aws.environment import ROOT

DOCUMENT = ROOT / "docs" / "architecture.md"
DEFINITION = ROOT / "statemachine" / "execution.asl.yaml"

_PLACE = re.compile(r"(?<=<!-- diagram: make diagram -->\n).*?(?=<!-- end of diagram -->)", re.DOTALL)
_WORD = re.compile(r"\$states\.input\.(?:next|outcome) = '(\w+)'")
_SHAPES = {
    "Choice": '{"%s"}',
    "Wait": '(["%s"])',
    "Pass": '[/"%s"/]',
    "Succeed": '(("%s"))',
    "Fail": '(("%s"))',
}


def mermaid(definition: dict[str, Any]) -> str:
    """Return the graph as Mermaid text: every state once, every way on, what is caught as a dotted line."""
    states = definition["States"]
    ids = {name: f"s{number}" for number, name in enumerate(states)}
    lines = ["flowchart TD", f"    begin(( )) --> {ids[definition['StartAt']]}"]
    for name, state in states.items():
        lines.append(f"    {ids[name]}{_SHAPES.get(state['Type'], '[%s]') % _label(name, state)}")
    for name, state in states.items():
        lines += [f"    {ids[name]} {arrow} {ids[target]}" for arrow, target in _ways(state)]
    return "\n".join(lines) + "\n"


def redrawn(document: str, definition: dict[str, Any]) -> str:
    """Return the document with the definition's picture where its picture is. Raises ValueError without a place."""
    if not _PLACE.search(document):
        raise ValueError(f"{DOCUMENT.name}: no place for the picture between its two comments")
    return _PLACE.sub(lambda _: f"\n```mermaid\n{mermaid(definition)}```\n\n", document)


def read(path: Path = DEFINITION) -> dict[str, Any]:
    """Return a definition."""
    definition: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return definition


def _label(name: str, state: dict[str, Any]) -> str:
    # A task without a quoted label would lose its question mark to the grammar.
    return f'"{name}"' if state["Type"] == "Task" else name


def _ways(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Return every arrow out of a state and where it leads, in the order they are written."""
    ways = [(f'-- "{_said(rule["Condition"])}" -->', rule["Next"]) for rule in state.get("Choices", [])]
    if "Default" in state:
        ways.append(('-- "anything else" -->', state["Default"]))
    if "Next" in state:
        ways.append(("-->", state["Next"]))
    return ways + [('-. "a fault" .->', catch["Next"]) for catch in state.get("Catch", [])]


def _said(condition: str) -> str:
    """Return the word a condition asks for."""
    word = _WORD.search(condition)
    if word is None:
        raise ValueError(f"a condition that the picture has no word for: {condition}")
    return word[1]


def main() -> int:
    """Write the picture into its document; the exit code."""
    before = DOCUMENT.read_text(encoding="utf-8")
    after = redrawn(before, read())
    DOCUMENT.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.name}: {'as it was' if before == after else 'redrawn'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
