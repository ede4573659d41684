"""docs/operations.md agrees with the template."""

import re

from tests.contract.markdown import names, section, table
from tests.contract.template import EVERYTHING, ROOT, deployed, source

DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_each_resource_that_is_retained_is_listed() -> None:
    retained = {
        name
        for name, resource in deployed(**EVERYTHING).items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert {row[0] for row in table(DOCUMENT, "Resource") if row[1] == "yes"} == retained


def test_the_section_about_upgrades_names_existing_parameters() -> None:
    named = names(section(DOCUMENT, "Upgrading while executions run"))
    parameters = [name for name in named if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]+", name)]
    assert len(parameters) >= 6
    assert set(parameters) <= source()["Parameters"].keys()


def test_the_quotas_are_compared_with_the_templates_values() -> None:
    quotas = {row[0]: " ".join(row[1:]) for row in table(DOCUMENT, "Quota")}
    reserved = source()["Parameters"]["FollowConcurrency"]["Default"]
    assert f"`FollowConcurrency`, {reserved} by default" in quotas["Lambda: unreserved concurrency"]
    assert deployed()["ExecutionsTable"]["Properties"]["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": True
    }
