"""checkov's configuration: it checks all templates, and each skipped check has a reason."""

import re

import yaml

from local.local_aws.environment import ROOT

CONFIG = (ROOT / ".checkov.yaml").read_text(encoding="utf-8")


def test_checkov_checks_each_template() -> None:
    files = [*ROOT.glob("*.yaml"), *ROOT.glob("statemachine/*.yaml")]
    templates = {
        str(file.relative_to(ROOT))
        for file in files
        if file.read_text(encoding="utf-8").startswith("AWSTemplateFormatVersion")
    }
    assert set(yaml.safe_load(CONFIG)["file"]) == {*templates, "docs/recipes/key.yaml"}


def test_each_skipped_check_has_a_reason() -> None:
    skipped = yaml.safe_load(CONFIG)["skip-check"]
    reasons = dict(re.findall(r"^  - (CKV\w+) # (\w.{20,})$", CONFIG, re.MULTILINE))
    assert list(reasons) == skipped


def test_checkov_downloads_nothing() -> None:
    assert yaml.safe_load(CONFIG)["skip-download"] is True
