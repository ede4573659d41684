"""The diagram of the state machine in docs/concepts.md, generated from its definition by `make diagram`."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from local.local_aws.environment import ROOT

DOCUMENT = ROOT / "docs" / "concepts.md"
DEFINITION = ROOT / "statemachine" / "execution.asl.yaml"

_DIAGRAM = re.compile(r"(?<=<!-- diagram: make diagram -->\n).*?(?=<!-- end of diagram -->)", re.DOTALL)
_CONDITION = re.compile(r"\$states\.input\.(?:next|outcome) = '(\w+)'")
_SHAPES = {
    "Choice": '{"%s"}',
    "Wait": '(["%s"])',
    "Pass": '[/"%s"/]',
    "Succeed": '(("%s"))',
    "Fail": '(("%s"))',
}


def mermaid(definition: dict[str, Any]) -> str:
    """Return a Mermaid flowchart of all states and transitions. Those of a Catch are dotted."""
    states = definition["States"]
    ids = {name: f"s{number}" for number, name in enumerate(states)}
    lines = ["flowchart TD", f"    begin(( )) --> {ids[definition['StartAt']]}"]
    for name, state in states.items():
        lines.append(f"    {ids[name]}{_SHAPES.get(state['Type'], '[%s]') % _label(name, state)}")
    for name, state in states.items():
        lines += [f"    {ids[name]} {arrow} {ids[target]}" for arrow, target in _transitions(state)]
    return "\n".join(lines) + "\n"


def update_document(document: str, definition: dict[str, Any]) -> str:
    """Return the document with a new diagram between its two comments. Raises ValueError if it lacks them."""
    if not _DIAGRAM.search(document):
        raise ValueError(
            f"{DOCUMENT.name}: it lacks the comments `diagram: make diagram` and `end of diagram`"
        )
    return _DIAGRAM.sub(lambda _: f"\n```mermaid\n{mermaid(definition)}```\n\n", document)


def read_definition(path: Path = DEFINITION) -> dict[str, Any]:
    """Return the state machine's definition."""
    definition: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return definition


def _label(name: str, state: dict[str, Any]) -> str:
    # Mermaid's grammar needs quotes around a task's question mark.
    return f'"{name}"' if state["Type"] == "Task" else name


def _transitions(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the arrow and the target of each transition of a state, in the order of the definition."""
    transitions = [
        (f'-- "{_condition_value(rule["Condition"])}" -->', rule["Next"]) for rule in state.get("Choices", [])
    ]
    if "Default" in state:
        transitions.append(('-- "anything else" -->', state["Default"]))
    if "Next" in state:
        transitions.append(("-->", state["Next"]))
    return transitions + [('-. "a fault" .->', catch["Next"]) for catch in state.get("Catch", [])]


def _condition_value(condition: str) -> str:
    """Return the value that a condition compares with. Raises ValueError for another form of condition."""
    match = _CONDITION.search(condition)
    if match is None:
        raise ValueError(f"condition without a label in the diagram: {condition}")
    return match[1]


def main() -> int:
    """Write the diagram into its document and return the exit code."""
    before = DOCUMENT.read_text(encoding="utf-8")
    after = update_document(before, read_definition())
    DOCUMENT.write_text(after, encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.name}: {'unchanged' if before == after else 'updated'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
