"""What docs/operations.md says about running a stack is what the templates say."""

import re

from tests.contract.markdown import names, section, table
from tests.contract.template import EVERYTHING, ROOT, deployed, source

DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_what_stays_when_a_stack_is_deleted_is_listed() -> None:
    kept = {
        name
        for name, resource in deployed(**EVERYTHING).items()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert {row[0] for row in table(DOCUMENT, "Resource") if row[1] == "yes"} == kept


def test_a_parameter_that_matters_to_an_upgrade_is_one_that_there_is() -> None:
    named = names(section(DOCUMENT, "Upgrading while executions run"))
    parameters = [name for name in named if re.fullmatch(r"[A-Z][a-z]+[A-Za-z]+", name)]
    assert len(parameters) >= 6
    assert set(parameters) <= source()["Parameters"].keys()


def test_what_the_quotas_are_compared_with_is_what_the_template_has() -> None:
    quotas = {row[0]: " ".join(row[1:]) for row in table(DOCUMENT, "Quota")}
    reserved = source()["Parameters"]["FollowConcurrency"]["Default"]
    assert f"`FollowConcurrency`, {reserved} by default" in quotas["Lambda: unreserved concurrency"]
    assert deployed()["ExecutionsTable"]["Properties"]["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": True
    }
