"""The tables of the README say what the template and the code say."""

import json
import re

import pytest
import yaml

from tests.infra.markdown import anchors
from tests.infra.template import ROOT, source
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.errors import InvalidRequestError
from waterhook.notifications.cloudevents import event_type

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULTS = RequestDefaults(timeout_s=60, deliver_to=("sns",))
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first heading cell this is, cells without back ticks."""
    start = README.index(f"| {heading} |")
    lines = README[start:].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def test_every_parameter_is_in_the_table_with_its_default() -> None:
    rows = {row[0]: row[1] for row in table("Parameter")}
    declared = {name: str(given.get("Default", "")) for name, given in source()["Parameters"].items()}
    assert rows == declared


def test_every_outcome_is_in_the_table_with_its_error_and_its_event() -> None:
    rows = {row[0]: (row[1], row[2]) for row in table("Outcome")}
    expected = {
        str(status): ("succeeded" if status is Status.COMPLETED else status.error_name, event_type(status))
        for status in Status
        if status.is_final
    }
    assert rows == expected


def test_every_field_of_a_request_is_in_the_table() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.from_dict({"chatbot_id": "a", "input_data": {}, "nonsense": 1}, DEFAULTS)
    known = str(caught.value).partition("known are ")[2].split(", ")
    assert sorted(row[0] for row in table("Field")) == sorted(known)


def test_every_operation_is_in_the_table_and_in_the_description() -> None:
    described = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    operations = {
        f"{method.upper()} {path}"
        for path, item in described.items()
        for method in item
        if method != "parameters"
    }
    assert {row[0].partition("?")[0] for row in table("API")} == operations


def test_links_of_the_docs_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target, section in LINK.findall(document.read_text(encoding="utf-8")):
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name}: {target}"
            assert not section or section in anchors(file.read_text(encoding="utf-8")), (
                f"{document.name}: #{section}"
            )


def test_a_document_has_short_lines_where_it_can() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        lines = document.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if len(line) > 120 and not line.startswith("|")], document.name


@pytest.mark.parametrize("name", ["request", "eventbridge", "start"])
def test_a_sample_of_a_request_is_a_valid_one(name: str) -> None:
    sample = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    request = sample.get("request") or sample.get("input") or sample
    assert Request.from_dict(request, DEFAULTS).chatbot_id == "support-chat"
