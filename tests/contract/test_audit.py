"""What checkov is told: all templates, and nothing to be passed over without a reason."""

import re

import yaml

from local.local_aws.environment import ROOT

CONFIG = (ROOT / ".checkov.yaml").read_text(encoding="utf-8")


def test_every_template_is_looked_at() -> None:
    files = [*ROOT.glob("*.yaml"), *ROOT.glob("statemachine/*.yaml")]
    templates = {
        str(file.relative_to(ROOT))
        for file in files
        if file.read_text(encoding="utf-8").startswith("AWSTemplateFormatVersion")
    }
    assert set(yaml.safe_load(CONFIG)["file"]) == {*templates, "docs/recipes/key.yaml"}


def test_every_check_that_is_passed_over_has_its_reason_beside_it() -> None:
    skipped = yaml.safe_load(CONFIG)["skip-check"]
    reasons = dict(re.findall(r"^  - (CKV\w+) # (\w.{20,})$", CONFIG, re.MULTILINE))
    assert list(reasons) == skipped


def test_nothing_goes_over_the_network_for_it() -> None:
    assert yaml.safe_load(CONFIG)["skip-download"] is True
