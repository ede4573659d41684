"""The tables of the README say what the template and the code say."""

import json

import pytest
import yaml

from tests.contract.markdown import anchors, links, table
from tests.contract.template import ROOT, source
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.errors import InvalidRequestError
from waterhook.notifications.notification_events import event_type

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULTS = RequestDefaults(timeout_s=60, deliver_to=("sns",))


def rows(heading: str) -> list[list[str]]:
    """The rows of a table of the README, without back ticks."""
    return [[cell.replace("`", "") for cell in row] for row in table(README, heading)]


def test_every_parameter_is_in_the_table_with_its_default() -> None:
    listed = {row[0]: row[1] for row in rows("Parameter")}
    declared = {name: str(given.get("Default", "")) for name, given in source()["Parameters"].items()}
    assert listed == declared


def test_every_outcome_is_in_the_table_with_its_error_and_its_event() -> None:
    listed = {row[0]: (row[1], row[2]) for row in rows("Outcome")}
    expected = {
        str(status): ("succeeded" if status is Status.COMPLETED else status.error_name, event_type(status))
        for status in Status
        if status.is_final
    }
    assert listed == expected


def test_every_field_of_a_request_is_in_the_table() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.from_dict({"chatbot_id": "a", "input_data": {}, "nonsense": 1}, DEFAULTS)
    known = str(caught.value).partition("known are ")[2].split(", ")
    assert sorted(row[0] for row in rows("Field")) == sorted(known)


def test_every_operation_is_in_the_table_and_in_the_description() -> None:
    described = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    operations = {
        f"{method.upper()} {path}"
        for path, item in described.items()
        for method in item
        if method != "parameters"
    }
    assert {row[0].partition("?")[0] for row in rows("API")} == operations


def test_links_of_the_docs_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in links(document.read_text(encoding="utf-8")):
            if link.startswith(("https:", "http:")):
                continue
            target, _, anchor = link.partition("#")
            file = document.parent / target if target else document
            assert file.exists(), f"{document.name}: {link}"
            assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), (
                f"{document.name}: {link}"
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
