"""README and docs agree with the template and the code, and their links work."""

import json

import pytest
import yaml

from tests.contract.markdown import anchors, links, names, table
from tests.contract.template import ROOT, source
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import event_type

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
DEFAULTS = RequestDefaults(timeout_s=60, deliver_to=("sns",))


def rows(heading: str) -> list[list[str]]:
    """Return the rows of a table of the contract, without back ticks."""
    return [[cell.replace("`", "") for cell in row] for row in table(CONTRACT, heading)]


def test_each_parameter_is_listed_with_its_default() -> None:
    listed = {row[0]: row[1] for row in rows("Parameter")}
    declared = {name: str(parameter.get("Default", "")) for name, parameter in source()["Parameters"].items()}
    assert listed == declared


def test_each_outcome_is_listed_with_its_error_and_event_type() -> None:
    listed = {row[0]: (row[1], row[2]) for row in rows("Outcome")}
    expected = {
        str(status): ("succeeded" if status is Status.COMPLETED else status.error_name, event_type(status))
        for status in Status
        if status.is_final
    }
    assert listed == expected


def test_every_operation_of_the_api_is_described() -> None:
    described = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    operations = {
        f"{method.upper()} {path}"
        for path, item in described.items()
        for method in item
        if method != "parameters"
    }
    assert {
        name for name in names(CONTRACT) if name.partition(" ")[0] in {"GET", "POST", "DELETE"}
    } == operations


def test_the_readme_has_the_parameters_that_come_first_in_the_template() -> None:
    parameters = source()["Parameters"]
    defaults = {name: str(declared.get("Default", "")) for name, declared in parameters.items()}
    listed = [(row[0], names(row[1])) for row in table(README, "Parameter")]
    assert listed == [(name, [default] if default else []) for name, default in [*defaults.items()][:4]]


def test_each_output_of_the_stack_is_listed() -> None:
    assert [row[0] for row in rows("Stack output")] == [*source()["Outputs"]]


def test_each_link_in_the_docs_has_a_target() -> None:
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


def test_a_line_of_a_document_is_short_unless_it_is_in_a_table() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        lines = document.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if len(line) > 120 and not line.lstrip().startswith("|")], (
            document.name
        )


@pytest.mark.parametrize("name", ["request", "eventbridge", "start"])
def test_each_sample_request_is_valid(name: str) -> None:
    sample = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    request = sample.get("request") or sample.get("input") or sample
    assert Request.from_dict(request, DEFAULTS).chatbot_id == "support-chat"
